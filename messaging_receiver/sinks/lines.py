"""The line that is printed for a message."""

from idlib.output import json_line, text_line
from idlib.settings import OutputFormat
from messaging_receiver.queue_items import ReceivedMessage


def line_of(message: ReceivedMessage, output_format: OutputFormat) -> str:
    """Return the line for a message, without the line break.

    Args:
        message: The message.
        output_format: OUTPUT_FORMAT.
    """
    if output_format is OutputFormat.TEXT:
        return text_line(message.sender, message.text)
    return json_line(
        message.sender,
        message.text,
        identifier=message.identifier,
        sent_at=message.sent_at,
        received_at=message.received_at,
        sealed=message.sealed_to,
    )
