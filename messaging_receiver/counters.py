"""How many messages the receiver has received, printed and refused."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from idlib.envelope import SealedTo
from idlib.errors import Reason


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages were received, printed and refused at one moment.

    Args:
        received: The number of messages that arrived.
        printed: The number of printed ones, by the kind of key that they were encrypted to.
        refused: The number of refused ones by reason; reasons that have not occurred are left out.
        set_aside: The number of messages that the command of `--exec` has failed to accept.
    """

    received: int
    printed: Mapping[SealedTo, int]
    refused: Mapping[Reason, int]
    set_aside: int

    def members(self) -> dict[str, int]:
        """Return the numbers under their names in the status line, in its order."""
        return {
            "received": self.received,
            "printed": sum(self.printed.values()),
            "refused": sum(self.refused.values()),
            **{f"refused_{reason}": number for reason, number in self.refused.items()},
            **{f"sealed_{kind}": number for kind, number in self.printed.items()},
            **({"set_aside": self.set_aside} if self.set_aside else {}),
        }


class Counters:
    """How many messages were received, printed, refused and why, and set aside; each is counted once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._printed: Counter[SealedTo] = Counter()
        self._refused: Counter[Reason] = Counter()
        self._set_aside = 0

    def count_received(self) -> None:
        """Count a message that arrived."""
        with self._lock:
            self._received += 1

    def count_printed(self, sealed_to: Iterable[SealedTo]) -> None:
        """Count messages that were printed.

        Args:
            sealed_to: The kind of key that each was encrypted to.
        """
        with self._lock:
            self._printed.update(sealed_to)

    def count_set_aside(self, number: int) -> None:
        """Count messages that could not be delivered.

        Args:
            number: How many.
        """
        if number:
            with self._lock:
                self._set_aside += number

    def count_refused(self, reason: Reason) -> None:
        """Count a message that was refused."""
        with self._lock:
            self._refused[reason] += 1

    def read(self) -> Counts:
        """Return all numbers at one moment."""
        with self._lock:
            return Counts(
                self._received,
                {kind: self._printed[kind] for kind in SealedTo},
                dict(sorted(self._refused.items())),
                self._set_aside,
            )

    def __str__(self) -> str:
        return pairs(self.read().members())


def pairs(members: Mapping[str, object]) -> str:
    """Return members as the status line has them: `name=value`, separated by spaces.

    Args:
        members: Names and values without spaces.
    """
    return " ".join(f"{name}={value}" for name, value in members.items())
