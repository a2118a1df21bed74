"""The threads that keep the device's epoch keys, and open the messages that waited for one."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.errors import Reason, Refusal, UnknownEpochKey
from idlib.transport import Delivery
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.decryption import decrypted_message
from messaging_receiver.epoch_holding import HeldMessage, HeldMessages
from messaging_receiver.opening import open_message
from messaging_receiver.own_epochs import NONE, OwnEpochs
from messaging_receiver.own_identity import OwnKeys
from messaging_receiver.queue_items import DecryptedMessage, LookupResult, Origin
from messaging_receiver.stage import Stage

_LOG = logging.getLogger(__name__)

KEEPING_SECONDS: Final = 10.0
# How often is checked if a look at the disk and the database is due.
_LOOK_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.25


class EpochKeeping:
    """Destroys and creates epoch keys, every 10 s and when it is asked for; in a thread of its own.

    The disk or the database may be slow, and nothing else is to wait for them.

    Args:
        epochs: The device's epoch keys.
        identity_key: Returns the device's present private key.
        stopping: Set to stop the receiver.
    """

    def __init__(self, epochs: OwnEpochs, identity_key: Callable[[], PrivateKey], stopping: threading.Event) -> None:
        self._epochs = epochs
        self._identity_key = identity_key
        self._stopping = stopping
        self._is_wanted = threading.Event()

    def look(self) -> None:
        """Have the keys looked for within a second."""
        self._is_wanted.set()

    def run(self) -> None:
        """Keep the keys until the receiver is stopped."""
        due_at = time.monotonic() + KEEPING_SECONDS
        while not self._stopping.wait(_LOOK_SECONDS):
            if not self._is_wanted.is_set() and time.monotonic() < due_at:
                continue
            self._is_wanted.clear()
            due_at = time.monotonic() + KEEPING_SECONDS
            try:
                self._epochs.keep(self._identity_key())
            except Exception:  # noqa: BLE001  # overdue keys must be destroyed all the same
                _LOG.exception("Internal error while keeping the epoch keys")


class HeldOpening:
    """Opens the messages that are held once their keys are there, and refuses those whose keys have not appeared.

    Args:
        stage: Hands the messages on.
        decrypted: The queue for decrypted messages.
        keys: Returns the device's private keys, the current one first.
        epochs: The device's epoch keys.
        held: The messages.
        look: Has the keys looked for.
    """

    def __init__(
        self,
        stage: Stage[Delivery],
        decrypted: "BoundedQueue[DecryptedMessage | LookupResult]",
        keys: Callable[[], Sequence[PrivateKey]],
        epochs: OwnEpochs,
        held: HeldMessages,
        look: Callable[[], None],
    ) -> None:
        self._stage = stage
        self._decrypted = decrypted
        self._keys = keys
        self._epochs = epochs
        self._held = held
        self._look = look

    def run(self) -> None:
        """Work until the receiver is stopped."""
        stopping = self._stage.context.stopping
        while not stopping.is_set():
            if self._held.wait(_POLL_SECONDS):
                self._look()
                stopping.wait(_POLL_SECONDS)
                self.work()

    def work(self) -> None:
        """Hand on the messages whose keys are there, and refuse those whose keys were looked for in vain."""
        found, lost = self._held.take()
        for one in found:
            self._stage.attempt(Origin(one.delivery.packet), functools.partial(self._open, one))
        for one in lost:
            self._stage.refuse(Origin(one.delivery.packet), Reason.EPOCH_GONE, self._epochs.explain(one.key_id))
        # Nothing is wrong with a thread that has nothing to do.
        self._stage.context.movements.rest()

    def _open(self, one: HeldMessage) -> None:
        name = self._stage.context.settings.identity_name
        try:
            opened = open_message(one.delivery.payload, name, self._keys(), epoch_keys=self._epochs.keys)
        except UnknownEpochKey:
            # It was destroyed a moment ago.
            raise Refusal(Reason.EPOCH_GONE, self._epochs.explain(one.key_id)) from None
        self._stage.hand_on(decrypted_message(one.delivery, opened), self._decrypted)


def epoch_work(
    stage: Stage[Delivery],
    decrypted: "BoundedQueue[DecryptedMessage | LookupResult]",
    own_keys: OwnKeys,
    epochs: OwnEpochs,
    held: HeldMessages,
) -> dict[str, Callable[[], None]]:
    """Return what threads are to do for the epoch keys, by the threads' names.

    Args:
        stage: Hands on the messages that were held.
        decrypted: The queue for decrypted messages.
        own_keys: The device's private keys.
        epochs: The device's epoch keys.
        held: The messages to keys that are not known.
    """
    if epochs is NONE:
        return {}
    keeping = EpochKeeping(epochs, lambda: own_keys.present, stage.context.stopping)
    if stage.context.settings.store is None:
        return {"Epoch-Keys": keeping.run}
    opening = HeldOpening(stage, decrypted, lambda: own_keys.keys, epochs, held, keeping.look)
    return {"Epoch-Keys": keeping.run, "Epoch-Holding": opening.run}
