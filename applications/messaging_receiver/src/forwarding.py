"""The Forwarder stage: from AUTHENTICATED_MESSAGES to stdout, and then back to the broker and the store."""

import time
from typing import Final

from messages import AuthenticatedMessage, SettledMessage
from pipeline import Pipeline

from idlib.errors import OutputError, StoreError

GROUP_SIZE: Final = 32
GROUP_SECONDS: Final = 0.01


def message_printer(pipeline: Pipeline) -> None:
    """Print each authenticated message as one line at once, then make durable that it was, and acknowledge it.

    The latter two wait for a group of 32 messages or 10 ms, for one durable write wears a memory card as much as
    another: a crash repeats at worst the lines of one group. When the receiver stops, what is authenticated is still
    printed.

    Args:
        pipeline: Where messages come from.

    Raises:
        OutputError: Stdout cannot be written; what was printed is made durable before.
    """
    forwarder = _Forwarder(pipeline)
    try:
        while forwarder.forward_next() or not pipeline.stopping.is_set():
            pass
    except OutputError:
        forwarder.finish_group()
        raise


class _Forwarder:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._group: list[AuthenticatedMessage | SettledMessage] = []
        self._group_ends_at = 0.0

    def forward_next(self) -> bool:
        """Print the next message or finish the group; return whether there was something to do, and may be more.

        Raises:
            OutputError: Stdout cannot be written.
        """
        message = self._next()
        if message is not None:
            if isinstance(message, AuthenticatedMessage) and not self._print(message):
                self.finish_group()
                return False
            if not self._group:
                self._group_ends_at = time.monotonic() + GROUP_SECONDS
            self._group.append(message)
        has_worked = bool(self._group)
        if len(self._group) == GROUP_SIZE or (self._group and time.monotonic() >= self._group_ends_at):
            return self.finish_group()
        return has_worked

    def finish_group(self) -> bool:
        """Make durable what is printed, and acknowledge it; return whether that could be done."""
        group, self._group = self._group, []
        printed = [message for message in group if isinstance(message, AuthenticatedMessage)]
        numbers = [message.origin.waiting_number for message in group if message.origin.waiting_number is not None]
        if printed or numbers:
            entries = [message.entry for message in printed]
            try:
                self._pipeline.patiently(lambda: self._pipeline.guard.finish(entries, numbers))
            except StoreError:
                # Not acknowledged, so the broker brings the messages again.
                return False
        self._pipeline.counters.count_printed(len(printed))
        for authenticated in printed:
            if authenticated.receipt is not None:
                self._pipeline.confirm(authenticated.receipt)
        for message in group:
            if message.origin.delivery is not None:
                self._pipeline.settle(message.origin.delivery)
        return True

    def _print(self, message: AuthenticatedMessage) -> bool:
        return self._pipeline.stdout.write(f"{message.line}\n".encode())

    def _next(self) -> AuthenticatedMessage | SettledMessage | None:
        if not self._group:
            return self._pipeline.take(self._pipeline.authenticated)
        return self._pipeline.take(self._pipeline.authenticated, max(0.0, self._group_ends_at - time.monotonic()))
