"""Compares the promised messages with the printed ones."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.reports import Promise

GROUP_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the receiver, from its start to its end.

    Args:
        printed: The texts that it printed, in order.
        was_killed: Whether it ended by SIGKILL.
    """

    printed: tuple[str, ...]
    was_killed: bool


@dataclass(frozen=True, slots=True)
class Books:
    """The comparison.

    Args:
        promises: What send_message.py reported as sent.
        lives: The runs of the receiver, in order.
    """

    promises: frozenset[Promise]
    lives: tuple[Life, ...]

    @property
    def promised(self) -> Counter[tuple[str, str]]:
        """How many messages were promised, by options and result."""
        return Counter((promise.options, promise.result) for promise in self.promises)

    @property
    def lost(self) -> tuple[Promise, ...]:
        """What was promised and never printed."""
        printed = {text for life in self.lives for text in life.printed}
        return tuple(
            sorted(
                (promise for promise in self.promises if promise.text not in printed), key=lambda promise: promise.text
            )
        )

    @property
    def repeated(self) -> int:
        """How many lines a kill explains: printed before in the last group of a life that ended by SIGKILL."""
        return sum(1 for is_explained in self._seconds() if is_explained)

    @property
    def replayed(self) -> int:
        """How many lines were printed a second time without such an explanation."""
        return sum(1 for is_explained in self._seconds() if not is_explained)

    @property
    def kills(self) -> int:
        """How many lives ended by SIGKILL."""
        return sum(1 for life in self.lives if life.was_killed)

    def _seconds(self) -> tuple[bool, ...]:
        found = []
        seen: set[str] = set()
        excused: set[str] = set()
        for life in self.lives:
            for text in life.printed:
                if text in seen:
                    found.append(text in excused)
                    excused.discard(text)
                seen.add(text)
            if life.was_killed:
                excused |= set(life.printed[-GROUP_SIZE:])
        return tuple(found)


def texts_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of the receiver's lines, `NAME says: TEXT` as JSON.

    Args:
        lines: Whole lines.
    """
    return tuple(json.loads(line).partition(" says: ")[2] for line in lines)
