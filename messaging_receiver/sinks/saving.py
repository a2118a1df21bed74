"""Saves content that has a type as files, before another sink delivers the message with the name of its file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from idlib.errors import StoreError
from messaging_receiver.message_files import MessageDirectory, suffix_of
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate, Sink


class Saving:
    """A sink that saves the content of messages that have a content type; texts have none.

    Args:
        directory: Where the files go.
        sink: Delivers the messages.
        retry: Runs an operation until the disk works; raises StoreError if the receiver stops before.
    """

    def __init__(self, directory: MessageDirectory, sink: Sink, retry: Callable[[Callable[[], Path]], Path]) -> None:
        self._directory = directory
        self._sink = sink
        self._retry = retry

    @property
    def problem(self) -> str | None:
        """The problem of the sink that delivers the messages; that of the disk is known where it is retried."""
        return self._sink.problem

    def check(self) -> None:
        """Check the sink that delivers the messages.

        Raises:
            IdlibError: It can deliver no more.
        """
        self._sink.check()

    def deliver(self, message: ReceivedMessage) -> Fate:
        """Save the content, if it has a type, and deliver the message.

        Args:
            message: The message.

        Raises:
            IdlibError: The sink that delivers it can deliver no more.
        """
        if message.content_type is None:
            return self._sink.deliver(message)
        suffix = suffix_of(message.content_type)
        try:
            file = self._retry(lambda: self._directory.save(message, message.content, suffix))
        except StoreError:
            return Fate.KEPT
        return self._sink.deliver(replace(message, file=file))
