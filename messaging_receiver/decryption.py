"""The Decryption stage: from ENCRYPTED_MESSAGES to DECRYPTED_MESSAGES, in one thread for each worker process."""

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from idlib.algorithms import PrivateKey
from idlib.errors import Reason, Refusal, UnknownEpochKey
from idlib.transport import Delivery
from messaging_receiver.bounded_queue import BATCH_BYTES, BoundedQueue
from messaging_receiver.opening import OpenedMessage, Opener, Outcome, open_message
from messaging_receiver.own_epochs import NONE, OwnEpochs
from messaging_receiver.queue_items import AuthenticatedMessage, DecryptedMessage, LookupResult, Origin, SettledMessage
from messaging_receiver.stage import IDLE_SECONDS, POLL_SECONDS, Stage


class Turns:
    """Lets the threads hand on their batches in the order in which the messages arrived."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0

    def wait(self, position: int, seconds: float) -> bool:
        """Wait until all messages before a position are handed on; return False if that takes longer.

        Args:
            position: How many messages arrived before.
            seconds: How long to wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._next == position, seconds)

    def end(self, number: int) -> None:
        """Note that the messages whose turn it was are handed on.

        Args:
            number: How many there were.
        """
        with self._changed:
            self._next += number
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Messages that were taken from the queue together.

    Args:
        position: How many messages were taken before.
        deliveries: The messages.
    """

    position: int
    deliveries: Sequence[Delivery]

    @property
    def payloads(self) -> tuple[bytes, ...]:
        """The payloads of the messages that are not refused already."""
        return tuple(delivery.payload for delivery in self.deliveries if delivery.refusal is None)


def message_decryption_thread(
    stage: Stage[Delivery],
    decrypted: "BoundedQueue[DecryptedMessage | LookupResult]",
    keys: Callable[[], Sequence[PrivateKey]],
    opener: Opener,
    turns: Turns,
    epochs: OwnEpochs = NONE,
    hold: Callable[[Delivery, str], bool] = lambda _delivery, _key_id: False,
) -> None:
    """Open messages until the receiver stops: decrypt the outer layer, and parse the inner one.

    Args:
        stage: Takes the messages from their queue.
        decrypted: The queue for decrypted messages.
        keys: Returns the device's private keys, the current one first; for messages that the opener leaves here.
        opener: Opens batches of messages.
        turns: The turns that this thread takes with the others of the stage.
        epochs: The device's epoch keys; for messages that the opener leaves here.
        hold: Takes over a message to an epoch key with an id that is not known, if it may become known; returns whether
            it has.
    """
    thread = _DecryptionThread(stage, decrypted, keys, opener, turns, epochs, hold)
    while not stage.context.stopping.is_set():
        thread.work()


def decryption_work(
    stage: Stage[Delivery],
    decrypted: "BoundedQueue[DecryptedMessage | LookupResult]",
    keys: Callable[[], Sequence[PrivateKey]],
    openers: Sequence[Opener],
    epochs: OwnEpochs,
    hold: Callable[[Delivery, str], bool],
) -> dict[str, Callable[[], None]]:
    """Return what the threads of the stage do, by the threads' names.

    Args:
        stage: As for `message_decryption_thread`, like the rest.
        decrypted: The queue for decrypted messages.
        keys: Returns the device's private keys.
        openers: One for each thread.
        epochs: The device's epoch keys.
        hold: Takes over messages to unknown epoch keys.
    """
    turns = Turns()
    return {
        "Decryption" if number == 1 else f"Decryption-{number}": functools.partial(
            message_decryption_thread, stage, decrypted, keys, opener, turns, epochs, hold
        )
        for number, opener in enumerate(openers, 1)
    }


def decrypted_message(delivery: Delivery, opened: OpenedMessage) -> DecryptedMessage:
    """Return a message for the queue of decrypted messages.

    Args:
        delivery: The message as it was received.
        opened: What was in it.
    """
    return DecryptedMessage(
        opened.signed,
        opened.digest,
        delivery.received_at,
        Origin(delivery.packet),
        opened.unverified,
        opened.verified_with,
        opened.sealed_to,
    )


class _DecryptionThread:
    def __init__(
        self,
        stage: Stage[Delivery],
        decrypted: "BoundedQueue[DecryptedMessage | LookupResult]",
        keys: Callable[[], Sequence[PrivateKey]],
        opener: Opener,
        turns: Turns,
        epochs: OwnEpochs,
        hold: Callable[[Delivery, str], bool],
    ) -> None:
        self._stage = stage
        self._decrypted = decrypted
        self._keys = keys
        self._opener = opener
        self._turns = turns
        self._epochs = epochs
        self._hold = hold
        self._opened: tuple[_Batch, Sequence[Outcome]] | None = None
        opener.refresh()

    def work(self) -> None:
        """Begin the next batch, and hand on the one before while the opener works."""
        batch = self._take()
        payloads = () if batch is None else batch.payloads
        if payloads:
            self._opener.begin(payloads)
        self._hand_on()
        if batch is not None:
            outcomes = self._opener.finish() if payloads else ()
            self._opened = None if outcomes is None else (batch, outcomes)

    def _take(self) -> _Batch | None:
        """Return the next batch; wait for it only if nothing is to be handed on."""
        is_idle = self._opened is None
        position, deliveries = self._stage.take_all(self._opener.most, BATCH_BYTES, IDLE_SECONDS if is_idle else 0.0)
        if not deliveries:
            if is_idle and not self._stage.context.stopping.is_set():
                self._opener.refresh()
            return None
        return _Batch(position, deliveries)

    def _hand_on(self) -> None:
        if self._opened is None:
            return
        batch, outcomes = self._opened
        self._opened = None
        while not self._turns.wait(batch.position, POLL_SECONDS):
            self._stage.context.movements.note()
            if self._stage.context.stopping.is_set():
                return
        rest = iter(outcomes)
        ready: list[DecryptedMessage | LookupResult] = []
        refused: list[AuthenticatedMessage | SettledMessage] = []
        for delivery in batch.deliveries:
            origin, outcome = Origin(delivery.packet), next(rest) if delivery.refusal is None else delivery.refusal
            if isinstance(outcome, Refusal):
                # Raised, it would be part of a reference cycle with the message, which takes its memory until the
                # garbage collector runs.
                self._stage.context.refusals.note(outcome.reason, outcome.fact)
                refused.append(SettledMessage(origin))
                continue

            def step(delivery: Delivery = delivery, opened: OpenedMessage | None = outcome) -> None:
                if opened is None:
                    opened = self._open_here(delivery)
                if opened is not None:
                    ready.append(decrypted_message(delivery, opened))

            self._stage.attempt(origin, step)
        self._stage.finish_all(refused)
        self._stage.hand_on_all(ready, self._decrypted)
        self._turns.end(len(batch.deliveries))

    def _open_here(self, delivery: Delivery) -> OpenedMessage | None:
        """Return the message; None if it is held."""
        name = self._stage.context.settings.identity_name
        try:
            return open_message(delivery.payload, name, self._keys(), epoch_keys=self._epochs.keys)
        except UnknownEpochKey as unknown:
            if self._hold(delivery, unknown.key_id):
                return None
            raise Refusal(Reason.EPOCH_GONE, self._epochs.explain(unknown.key_id)) from None
