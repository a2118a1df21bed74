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
        from_home: Texts that the local broker delivers to the bridge again if the bridge or the connection fails; each
            delivery is a message of its own.
    """

    promises: frozenset[Promise]
    runs: tuple[ReceiverRun, ...]
    from_home: frozenset[str] = frozenset()

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
        return sum(1 for text, is_explained in self._repetitions() if is_explained and text not in self.from_home)

    @property
    def replayed(self) -> int:
        """How many lines were printed again for another reason than a kill."""
        return sum(1 for text, is_explained in self._repetitions() if not is_explained and text not in self.from_home)

    @property
    def sent_again(self) -> int:
        """How many lines were printed again because the bridge may have sent a message of the local broker twice."""
        return sum(1 for text, _ in self._repetitions() if text in self.from_home)

    @property
    def kills(self) -> int:
        """How many runs ended by SIGKILL."""
        return sum(1 for run in self.runs if run.was_killed)

    def _repetitions(self) -> tuple[tuple[str, bool], ...]:
        """Return the text of each line that was printed again, and whether a kill explains it."""
        found = []
        seen: set[str] = set()
        excused: set[str] = set()
        for run in self.runs:
            for text in run.printed:
                if text in seen:
                    found.append((text, text in excused))
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
