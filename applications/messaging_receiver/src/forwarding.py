"""The Forwarder stage: from AUTHENTICATED_MESSAGES to stdout, and then back to the broker and the store."""

import logging
import sys
import time
from typing import Final

from messages import AuthenticatedMessage, SettledMessage
from pipeline import Pipeline

from idlib.errors import StoreError

_LOG = logging.getLogger(__name__)

GROUP_SIZE: Final = 32
GROUP_SECONDS: Final = 0.01
_STORE_RETRY_SECONDS: Final = 1.0


def message_printer(pipeline: Pipeline) -> None:
    """Print each authenticated message as one line at once, then make durable that it was, and acknowledge it.

    The latter two wait for a group of 32 messages or 10 ms, for one durable write wears a memory card as much as
    another: a crash repeats at worst the lines of one group. When the receiver stops, what is authenticated is still
    printed.

    Args:
        pipeline: Where messages come from.
    """
    forwarder = _Forwarder(pipeline)
    while forwarder.forward_next() or not pipeline.stopping.is_set():
        pass


class _Forwarder:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._group: list[AuthenticatedMessage | SettledMessage] = []
        self._group_ends_at = 0.0

    def forward_next(self) -> bool:
        """Print the next message or finish the group; return whether there was something to do."""
        message = self._next()
        if message is not None:
            if isinstance(message, AuthenticatedMessage):
                sys.stdout.write(f"{message.line}\n")
                sys.stdout.flush()
            if not self._group:
                self._group_ends_at = time.monotonic() + GROUP_SECONDS
            self._group.append(message)
        has_worked = bool(self._group)
        if len(self._group) == GROUP_SIZE or (self._group and time.monotonic() >= self._group_ends_at):
            self._finish_group()
        return has_worked

    def _next(self) -> AuthenticatedMessage | SettledMessage | None:
        if not self._group:
            return self._pipeline.take(self._pipeline.authenticated)
        return self._pipeline.take(self._pipeline.authenticated, max(0.0, self._group_ends_at - time.monotonic()))

    def _finish_group(self) -> None:
        group, self._group = self._group, []
        printed = [message for message in group if isinstance(message, AuthenticatedMessage)]
        numbers = [message.origin.waiting_number for message in group if message.origin.waiting_number is not None]
        while printed or numbers:
            try:
                self._pipeline.guard.finish([message.entry for message in printed], numbers)
                break
            except StoreError as error:
                _LOG.error("%s", error)
                if self._pipeline.stopping.wait(_STORE_RETRY_SECONDS):
                    # Not acknowledged, so the broker brings the messages again.
                    return
        self._pipeline.counters.count_printed(len(printed))
        for message in group:
            if message.origin.delivery is not None:
                self._pipeline.settle(message.origin.delivery)
