"""The Forwarder stage: delivers AUTHENTICATED_MESSAGES to a sink, records them and acknowledges them to the broker."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from idlib.errors import IdlibError, StoreError
from idlib.transport import ReceivedPacket
from messaging_receiver.bounded_queue import BATCH_BYTES
from messaging_receiver.ending import Ending
from messaging_receiver.queue_items import AuthenticatedMessage, SettledMessage
from messaging_receiver.receipt_requests import ReceiptRequest
from messaging_receiver.sinks import Fate, Sink
from messaging_receiver.stage import IDLE_SECONDS, Stage

GROUP_SIZE: Final = 32
GROUP_SECONDS: Final = 0.01


def message_printer(
    stage: Stage[AuthenticatedMessage | SettledMessage],
    sink: Sink,
    settle: Callable[[ReceivedPacket], None],
    confirm: Callable[[ReceiptRequest], None],
    ending: Ending,
) -> None:
    """Deliver each authenticated message immediately, then record it as printed and acknowledge it.

    Messages are recorded and acknowledged in groups of 32 messages or 10 ms, because each durable write wears a memory
    card. After a crash, at most the messages of one group are delivered again. When the receiver stops, messages that
    are already authenticated are still delivered, if the sink can do that at once.

    Args:
        stage: Takes the messages from their queue.
        sink: Delivers them.
        settle: Acknowledges a message to the broker in its turn.
        confirm: Requests the receipt for a delivered message; never waits.
        ending: Knows after how many messages to end.

    Raises:
        IdlibError: The sink can deliver no more; messages that were already delivered are recorded first.
    """
    forwarder = _Forwarder(stage, sink, settle, confirm, ending)
    try:
        while forwarder.forward_next() or not stage.context.stopping.is_set():
            pass
    except StoreError:
        raise
    except IdlibError:
        forwarder.finish_group()
        raise


class _Forwarder:
    def __init__(
        self,
        stage: Stage[AuthenticatedMessage | SettledMessage],
        sink: Sink,
        settle: Callable[[ReceivedPacket], None],
        confirm: Callable[[ReceiptRequest], None],
        ending: Ending,
    ) -> None:
        self._stage = stage
        self._context = stage.context
        self._sink = sink
        self._settle = settle
        self._confirm = confirm
        self._ending = ending
        # Every message of the group, and those of them that were delivered or set aside.
        self._group: list[AuthenticatedMessage | SettledMessage] = []
        self._delivered: list[AuthenticatedMessage] = []
        self._set_aside: list[AuthenticatedMessage] = []
        self._group_ends_at = 0.0

    def forward_next(self) -> bool:
        """Deliver the next messages or finish the group; return whether there was something to do and may be more.

        Raises:
            IdlibError: The sink can deliver no more.
        """
        messages = self._next()
        for message in messages:
            # Each by itself, because a sink may take long for each message.
            self._context.movements.note()
            if not self._group:
                self._group_ends_at = time.monotonic() + GROUP_SECONDS
            if isinstance(message, AuthenticatedMessage) and not self._deliver(message):
                self.finish_group()
                return False
            self._group.append(message)
            if self._is_group_complete() and not self.finish_group():
                return False
        if self._is_group_complete():
            return self.finish_group()
        return bool(messages or self._group)

    def _deliver(self, message: AuthenticatedMessage) -> bool:
        """Deliver a message; return whether it is finished."""
        fate = self._sink.deliver(message.message)
        if fate is Fate.KEPT:
            return False
        (self._delivered if fate is Fate.DELIVERED else self._set_aside).append(message)
        return True

    def _is_group_complete(self) -> bool:
        if not self._group:
            return False
        return (
            len(self._group) == GROUP_SIZE
            or len(self._delivered) == self._ending.remaining
            or time.monotonic() >= self._group_ends_at
        )

    def finish_group(self) -> bool:
        """Record and acknowledge the group; return whether that succeeded and more messages may be delivered."""
        group, self._group = self._group, []
        delivered, self._delivered = self._delivered, []
        set_aside, self._set_aside = self._set_aside, []
        numbers = [message.origin.waiting_number for message in group if message.origin.waiting_number is not None]
        try:
            self._make_durable([*delivered, *set_aside], numbers)
        except StoreError:
            # The messages are not acknowledged, so the broker delivers them again.
            return False
        self._context.counters.count_printed(one.message.sealed_to for one in delivered)
        self._context.counters.count_set_aside(len(set_aside))
        for message in group:
            if message.origin.packet is not None:
                self._settle(message.origin.packet)
        for one in delivered:
            if one.receipt is not None:
                self._confirm(one.receipt)
        self._ending.note_delivered(len(delivered))
        return self._ending.remaining != 0

    def _make_durable(self, finished: list[AuthenticatedMessage], numbers: list[int]) -> None:
        """Record finished messages, and only then remove the stored ones: a crash in between repeats no message."""
        writes = self._context.writes
        if finished:
            entries = [message.printed for message in finished]
            now = self._context.timekeeper.credible_time()
            writes.retry(lambda: self._context.guard.remember(entries, now))
        if numbers:
            writes.retry(lambda: self._context.waiting_store.change((), numbers))

    def _next(self) -> Sequence[AuthenticatedMessage | SettledMessage]:
        patience = max(0.0, self._group_ends_at - time.monotonic()) if self._group else IDLE_SECONDS
        return self._stage.take_all(GROUP_SIZE - len(self._group), BATCH_BYTES, patience)[1]
