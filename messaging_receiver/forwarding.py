"""The Forwarder stage: prints AUTHENTICATED_MESSAGES to stdout, records them and acknowledges them to the broker."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from idlib.errors import OutputError, StoreError
from idlib.transport import ReceivedPacket
from messaging_receiver.bounded_queue import BATCH_BYTES
from messaging_receiver.queue_items import AuthenticatedMessage, SettledMessage
from messaging_receiver.receipt_requests import ReceiptRequest
from messaging_receiver.stage import IDLE_SECONDS, Stage
from messaging_receiver.standard_output import StandardOutput

GROUP_SIZE: Final = 32
GROUP_SECONDS: Final = 0.01


def message_printer(
    stage: Stage[AuthenticatedMessage | SettledMessage],
    stdout: StandardOutput,
    settle: Callable[[ReceivedPacket], None],
    confirm: Callable[[ReceiptRequest], None],
) -> None:
    """Print each authenticated message immediately as one line, then record it as printed and acknowledge it.

    Messages are recorded and acknowledged in groups of 32 messages or 10 ms, because each durable write wears a memory
    card. After a crash, at most the lines of one group are printed again. When the receiver stops, messages that are
    already authenticated are still printed.

    Args:
        stage: Takes the messages from their queue.
        stdout: Prints them.
        settle: Acknowledges a message to the broker in its turn.
        confirm: Requests the receipt for a printed message; never waits.

    Raises:
        OutputError: Stdout cannot be written; messages that were already printed are recorded first.
    """
    forwarder = _Forwarder(stage, stdout, settle, confirm)
    try:
        while forwarder.forward_next() or not stage.context.stopping.is_set():
            pass
    except OutputError:
        forwarder.finish_group()
        raise


class _Forwarder:
    def __init__(
        self,
        stage: Stage[AuthenticatedMessage | SettledMessage],
        stdout: StandardOutput,
        settle: Callable[[ReceivedPacket], None],
        confirm: Callable[[ReceiptRequest], None],
    ) -> None:
        self._stage = stage
        self._context = stage.context
        self._stdout = stdout
        self._settle = settle
        self._confirm = confirm
        self._group: list[AuthenticatedMessage | SettledMessage] = []
        self._group_ends_at = 0.0

    def forward_next(self) -> bool:
        """Print the next messages or finish the group; return whether there was something to do and may be more.

        Raises:
            OutputError: Stdout cannot be written.
        """
        messages = self._next()
        for message in messages:
            # Each by itself, because a reader that is slow may take long for each line.
            self._context.movements.note()
            if not self._group:
                self._group_ends_at = time.monotonic() + GROUP_SECONDS
            if isinstance(message, AuthenticatedMessage) and not self._stdout.write(f"{message.line}\n".encode()):
                self.finish_group()
                return False
            self._group.append(message)
            if self._is_group_complete() and not self.finish_group():
                return False
        if self._is_group_complete():
            return self.finish_group()
        return bool(messages or self._group)

    def _is_group_complete(self) -> bool:
        if not self._group:
            return False
        return len(self._group) == GROUP_SIZE or time.monotonic() >= self._group_ends_at

    def finish_group(self) -> bool:
        """Record the printed messages and acknowledge the group; return whether that succeeded."""
        group, self._group = self._group, []
        printed = [message for message in group if isinstance(message, AuthenticatedMessage)]
        numbers = [message.origin.waiting_number for message in group if message.origin.waiting_number is not None]
        try:
            self._make_durable(printed, numbers)
        except StoreError:
            # The messages are not acknowledged, so the broker delivers them again.
            return False
        self._context.counters.count_printed(message.sealed_to for message in printed)
        for message in group:
            if message.origin.packet is not None:
                self._settle(message.origin.packet)
        for authenticated in printed:
            if authenticated.receipt is not None:
                self._confirm(authenticated.receipt)
        return True

    def _make_durable(self, printed: list[AuthenticatedMessage], numbers: list[int]) -> None:
        """Record printed messages, and only then remove the stored ones: a crash in between prints no message twice."""
        writes = self._context.writes
        if printed:
            entries = [message.printed for message in printed]
            now = self._context.timekeeper.credible_time()
            writes.retry(lambda: self._context.guard.remember(entries, now))
        if numbers:
            writes.retry(lambda: self._context.waiting_store.change((), numbers))

    def _next(self) -> Sequence[AuthenticatedMessage | SettledMessage]:
        patience = max(0.0, self._group_ends_at - time.monotonic()) if self._group else IDLE_SECONDS
        return self._stage.take_all(GROUP_SIZE - len(self._group), BATCH_BYTES, patience)[1]
