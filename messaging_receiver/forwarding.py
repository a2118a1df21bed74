"""The Forwarder stage: delivers AUTHENTICATED_MESSAGES to a sink, records them and acknowledges them to the broker.

Several receivers of one name may get copies of a message, so each message is claimed before it is delivered.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from idlib.errors import IdlibError, StoreError
from idlib.storage import Claim, Printed
from idlib.transport import ReceivedPacket
from idlib.trust import received_before
from messaging_receiver.bounded_queue import BATCH_BYTES
from messaging_receiver.ending import Ending
from messaging_receiver.holding import Holding
from messaging_receiver.queue_items import AuthenticatedMessage, SettledMessage
from messaging_receiver.receipt_requests import ReceiptRequest
from messaging_receiver.sinks import Fate, Sink
from messaging_receiver.stage import IDLE_SECONDS, Stage

GROUP_SIZE: Final = 32
GROUP_SECONDS: Final = 0.01


def message_printer(
    stage: Stage[AuthenticatedMessage | SettledMessage],
    sink: Sink,
    settle: Callable[[Sequence[ReceivedPacket]], None],
    confirm: Callable[[ReceiptRequest], None],
    ending: Ending,
) -> None:
    """Claim each authenticated message, deliver it immediately, then record it as printed and acknowledge it.

    Messages are recorded and acknowledged in groups of 32 messages or 10 ms, because each durable write wears a memory
    card. After a crash, at most the messages of one group are delivered again. When the receiver stops, messages that
    are already authenticated are still delivered, if the sink can do that at once. A message that another receiver has
    claimed is neither delivered nor acknowledged until that receiver has recorded it or has ended; nor are its copies.

    Args:
        stage: Takes the messages from their queue.
        sink: Delivers them.
        settle: Acknowledges messages to the broker in their turn.
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
        settle: Callable[[Sequence[ReceivedPacket]], None],
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
        self._holding = Holding()

    def forward_next(self) -> bool:
        """Deliver the next messages or finish the group; return whether there was something to do and may be more.

        Raises:
            IdlibError: The sink can deliver no more.
        """
        try:
            messages = self._claim(self._next())
        except StoreError:
            # The receiver is stopping, and nothing that was not claimed may be delivered.
            self.finish_group()
            return False
        for message in messages:
            # Each by itself, because a sink may take long for each message.
            self._context.movements.note()
            if not self._group:
                self._group_ends_at = time.monotonic() + GROUP_SECONDS
            if isinstance(message, SettledMessage):
                if self._holding.hold_copy(message):
                    continue
            elif not self._context.printing.may_print(message.printed.entry):
                self._holding.hold(message)
                continue
            elif not self._deliver(message):
                self.finish_group()
                return False
            self._group.append(message)
            if self._is_group_complete() and not self.finish_group():
                return False
        if self._is_group_complete():
            return self.finish_group()
        return bool(messages or self._group)

    def _claim(
        self, messages: Sequence[AuthenticatedMessage | SettledMessage]
    ) -> list[AuthenticatedMessage | SettledMessage]:
        """Claim messages, and those that were held if it is time; return what to deliver, acknowledge or remove."""
        messages = [*self._holding.take_due(), *messages]
        asked = [message for message in messages if isinstance(message, AuthenticatedMessage)]
        if not asked:
            return messages
        entries = [message.printed.entry for message in asked]
        claims = iter(self._context.writes.retry(lambda: self._context.printing.claim(entries)))
        claimed: list[AuthenticatedMessage | SettledMessage] = []
        for message in messages:
            claim = next(claims) if isinstance(message, AuthenticatedMessage) else None
            match message, claim:
                case AuthenticatedMessage(), Claim.HELD:
                    self._holding.hold(message)
                case AuthenticatedMessage(), Claim.PRINTED:
                    claimed.append(self._refuse(message))
                case _:
                    claimed.append(message)
        return claimed

    def _refuse(self, message: AuthenticatedMessage) -> SettledMessage:
        """Refuse a message that another receiver has printed since it was authenticated."""
        refusal = received_before(message.printed.entry)
        self._context.refusals.note(refusal.reason, refusal.fact)
        self._context.guard.release([message.printed.entry])
        return SettledMessage(message.origin)

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
        finished = [message.printed for message in (*delivered, *set_aside)]
        numbers = [message.origin.waiting_number for message in group if message.origin.waiting_number is not None]
        try:
            self._make_durable(finished, numbers)
        except StoreError:
            # The messages are not acknowledged, so the broker delivers them again.
            return False
        self._context.counters.count_printed(one.message.sealed_to for one in delivered)
        self._context.counters.count_set_aside(len(set_aside))
        self._settle([message.origin.packet for message in group if message.origin.packet is not None])
        for one in delivered:
            if one.receipt is not None:
                self._confirm(one.receipt)
        self._ending.note_delivered(len(delivered))
        return self._ending.remaining != 0

    def _make_durable(self, finished: list[Printed], numbers: list[int]) -> None:
        if finished or numbers:
            now = self._context.timekeeper.credible_time()
            self._context.writes.retry(lambda: self._context.printing.finish(finished, numbers, now))
            self._context.guard.release(one.entry for one in finished)

    def _next(self) -> Sequence[AuthenticatedMessage | SettledMessage]:
        ends_at = self._group_ends_at if self._group else time.monotonic() + IDLE_SECONDS
        patience = max(0.0, min(ends_at, self._holding.ask_again_at) - time.monotonic())
        room = self._holding.room
        if not room:
            self._context.movements.note()
            self._context.stopping.wait(patience)
            return ()
        return self._stage.take_all(min(GROUP_SIZE - len(self._group), room), BATCH_BYTES, patience)[1]
