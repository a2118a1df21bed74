"""The line that is printed for a message."""

from idlib.output import content_line, json_line, text_line
from idlib.settings import OutputFormat
from messaging_receiver.queue_items import ReceivedMessage


def line_of(message: ReceivedMessage, output_format: OutputFormat) -> str:
    """Return the line for a message, without the line break.

    Args:
        message: The message.
        output_format: OUTPUT_FORMAT.
    """
    if output_format is OutputFormat.JSON:
        return json_line_of(message)
    if message.content_type is None:
        return text_line(message.sender, message.content.decode())
    return content_line(message.sender, message.content, message.content_type, _name_of_file(message))


def json_line_of(message: ReceivedMessage, number: int | None = None) -> str:
    """Return the JSON object for a message, without the line break.

    Args:
        message: The message.
        number: The number with which the reading program confirms it; None if it does not.
    """
    text = message.text
    return json_line(
        message.sender,
        message.content if text is None else text,
        identifier=message.identifier,
        sent_at=message.sent_at,
        received_at=message.received_at,
        sealed=message.sealed_to,
        content_type=message.content_type,
        file=_name_of_file(message),
        number=number,
    )


def _name_of_file(message: ReceivedMessage) -> str | None:
    return None if message.file is None else str(message.file)
