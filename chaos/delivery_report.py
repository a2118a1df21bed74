"""Compares the messages that were reported as sent with the printed ones."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.reports import Promise

GROUP_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class ReceiverRun:
    """One run of the receiver, from its start to its end.

    Args:
        printed: The texts that it printed, in order.
        was_killed: Whether it ended by SIGKILL.
    """

    printed: tuple[str, ...]
    was_killed: bool


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What was reported as sent, compared with what was printed.

    Args:
        promises: What send_message.py reported as sent.
        runs: The runs of the receiver, in order.
    """

    promises: frozenset[Promise]
    runs: tuple[ReceiverRun, ...]

    @property
    def promised(self) -> Counter[tuple[str, str]]:
        """How many messages were reported as sent, by options and result."""
        return Counter((promise.options, promise.result) for promise in self.promises)

    @property
    def lost(self) -> tuple[Promise, ...]:
        """What was reported as sent and never printed."""
        printed = {text for run in self.runs for text in run.printed}
        return tuple(
            sorted(
                (promise for promise in self.promises if promise.text not in printed), key=lambda promise: promise.text
            )
        )

    @property
    def repeated(self) -> int:
        """How many lines were printed again because of a kill: they were in the last group before a SIGKILL."""
        return sum(1 for is_explained in self._repetitions() if is_explained)

    @property
    def replayed(self) -> int:
        """How many lines were printed again for another reason than a kill."""
        return sum(1 for is_explained in self._repetitions() if not is_explained)

    @property
    def kills(self) -> int:
        """How many runs ended by SIGKILL."""
        return sum(1 for run in self.runs if run.was_killed)

    def _repetitions(self) -> tuple[bool, ...]:
        """Return for each line that was printed again if a kill explains it."""
        found = []
        seen: set[str] = set()
        excused: set[str] = set()
        for run in self.runs:
            for text in run.printed:
                if text in seen:
                    found.append(text in excused)
                    excused.discard(text)
                seen.add(text)
            if run.was_killed:
                excused |= set(run.printed[-GROUP_SIZE:])
        return tuple(found)


def texts_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of the receiver's lines, `NAME says: TEXT` as JSON.

    Args:
        lines: Whole lines.
    """
    return tuple(json.loads(line).partition(" says: ")[2] for line in lines)
