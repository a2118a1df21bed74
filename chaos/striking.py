"""Faults with a beginning and an end, injected in an order that a generator decides."""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

# Between two faults, divided by the number that happen at once, so that the resolver is never away for much longer.
_LONGEST_WAIT_SECONDS: Final = 4.0
# So many strikes after one on the rare subject do not affect it; messages that wait for DNS are retried meanwhile.
_RARE_PAUSE: Final = 4

_System = TypeVar("_System")


@dataclass(frozen=True, slots=True)
class Fault(Generic[_System]):
    """Something that goes wrong, and is corrected.

    Args:
        name: Its name in the report.
        begin: Starts the fault.
        end: Corrects it; called once after `begin`.
    """

    name: str
    begin: Callable[[_System], None]
    end: Callable[[_System], None]


class Strikes(Generic[_System]):
    """Injects faults into a system.

    Args:
        system: The system.
        generator: Decides what happens.
        faults: The possible faults, by the subject that they affect: two faults of one subject exclude each other.
        rare: The subject that is affected less often than the others.
    """

    def __init__(
        self, system: _System, generator: random.Random, faults: Mapping[str, tuple[Fault[_System], ...]], rare: str
    ) -> None:
        self.events: Counter[str] = Counter()
        self._system = system
        self._faults = faults
        self._rare = rare
        self._generator = generator
        self._started_at = time.monotonic()
        self._rare_pause = 0

    def strike(self) -> None:
        """Inject one fault, or several in turn and overlapping, or all at once, and correct them."""
        faults = self._draw()
        names = ", ".join(fault.name for fault in faults)
        print(f"{time.monotonic() - self._started_at:7.1f} s  {names}", file=sys.stderr, flush=True)
        self.events.update(fault.name for fault in faults)
        self.events["all at once"] += len(faults) == len(self._faults)
        begun = set()
        for fault in self._steps(faults):
            if fault in begun:
                fault.end(self._system)
            else:
                fault.begin(self._system)
                begun.add(fault)
            time.sleep(self._generator.uniform(0, _LONGEST_WAIT_SECONDS / len(faults)))

    def _draw(self) -> list[Fault[_System]]:
        subjects = sorted(self._faults)
        numbers = [number for number in (1, 2, 2, 3) if number < len(subjects)] + [len(subjects)]
        if self._rare_pause:
            self._rare_pause -= 1
            subjects.remove(self._rare)
            numbers.pop()
        drawn = self._generator.sample(subjects, self._generator.choice(numbers))
        if self._rare in drawn:
            self._rare_pause = _RARE_PAUSE
        return [self._generator.choice(self._faults[subject]) for subject in drawn]

    def _steps(self, faults: list[Fault[_System]]) -> list[Fault[_System]]:
        """Return each fault twice, for its beginning and its end."""
        first, second = (self._generator.sample(faults, len(faults)) for _ in range(2))
        if len(faults) == len(self._faults):
            return first + second
        return self._generator.sample(first + second, 2 * len(faults))
