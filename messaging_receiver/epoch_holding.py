"""Holds messages to epoch keys that another receiver may just have created, until their private halves can be read.

A key is looked for for 10 s from the first message to it; then messages to it are refused, later ones at once, until it
appears. A message that is held delays the acknowledgements of those after it, of which the broker allows a limited
number, so nothing is held for a key that cannot be the device's: a stranger can make up any number of ids.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from idlib.transport import Delivery
from messaging_receiver.own_epochs import OwnEpochs

LOOKING_SECONDS: Final = 10.0
MAX_HELD_MESSAGES: Final = 32
MAX_HELD_BYTES: Final = 4 * 1024 * 1024
# For how long, and for how many keys, it is remembered that a key has not appeared.
_REMEMBERED_SECONDS: Final = 600.0
_MAX_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """A message to a key that is not known.

    Args:
        delivery: The message.
        key_id: The key's id.
        until: When it is refused, by the clock of the holding.
    """

    delivery: Delivery
    key_id: str
    until: float


class HeldMessages:
    """The messages that are held, in the order in which they arrived; for any number of threads.

    Args:
        epochs: The device's epoch keys.
        clock: Seconds that never go back.
    """

    def __init__(self, epochs: OwnEpochs, clock: Callable[[], float] = time.monotonic) -> None:
        self._epochs = epochs
        self._clock = clock
        self._changed = threading.Condition()
        self._held: list[HeldMessage] = []
        # Until when each key is looked for, in the order in which they were first asked for.
        self._looked_for: OrderedDict[str, float] = OrderedDict()

    def hold(self, delivery: Delivery, key_id: str) -> bool:
        """Hold a message if its key may appear; return whether it is held.

        Args:
            delivery: The message.
            key_id: The id of its key, which is not known.
        """
        if not self._epochs.may_appear(key_id):
            return False
        with self._changed:
            now = self._clock()
            until = self._looked_for.get(key_id)
            if until is None or now >= until + _REMEMBERED_SECONDS:
                until = now + LOOKING_SECONDS
            self._looked_for[key_id] = until
            if len(self._looked_for) > _MAX_REMEMBERED:
                self._looked_for.popitem(last=False)
            size = sum(len(one.delivery.payload) for one in self._held)
            if now >= until or len(self._held) >= MAX_HELD_MESSAGES or size + len(delivery.payload) > MAX_HELD_BYTES:
                return False
            self._held.append(HeldMessage(delivery, key_id, until))
            self._changed.notify_all()
            return True

    def wait(self, seconds: float) -> bool:
        """Wait until a message is held; return whether there is one.

        Args:
            seconds: How long to wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._held), seconds)

    def take(self) -> tuple[Sequence[HeldMessage], Sequence[HeldMessage]]:
        """Return the messages whose keys are there, and those whose keys were looked for in vain; hold the rest."""
        with self._changed:
            now, keys = self._clock(), self._epochs.keys
            found, lost, rest = [], [], []
            for one in self._held:
                if one.key_id in keys:
                    found.append(one)
                    self._looked_for.pop(one.key_id, None)
                elif now >= one.until or not self._epochs.may_appear(one.key_id):
                    lost.append(one)
                else:
                    rest.append(one)
            self._held = rest
            return found, lost
