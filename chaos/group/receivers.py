"""The receivers of the group: started, killed and asked to leave, and what they have printed."""

import itertools
import random
import signal
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.delivery_report import texts_of
from chaos.group.evidence import GroupRun, Window
from chaos.receiver import refusals_in
from testbed.programs import RECEIVER, SUBSCRIBED, Device, Program

_SHOWN_LINES: Final = 12
# By SIGTERM, if it was asked to leave before it had a handler for it.
_ENDS: Final = (0, -signal.SIGTERM)


@dataclass(slots=True, eq=False)
class _Member:
    """A receiver that runs or has run.

    Args:
        program: Its process.
        data_path: Its DATA_PATH, which no other receiver uses at the same time.
        texts: What it has printed, as far as that was read.
        outages: When the database was killed, in lines that it had printed.
        is_asked: Whether it was asked to leave.
        status: Its exit status; None while it runs.
    """

    program: Program
    data_path: Path
    texts: list[str] = field(default_factory=list)
    outages: list[Window] = field(default_factory=list)
    is_asked: bool = False
    status: int | None = None

    def read_into(self, printed: set[str]) -> None:
        """Read what it has printed since the last call.

        Args:
            printed: What all have printed; the new texts are added.
        """
        new = texts_of(self.program.stdout[len(self.texts) :])
        self.texts += new
        printed.update(new)


class Receivers:
    """Receivers of one name that share a database; any number of threads may use them.

    Args:
        device: The device, with the settings that all of them have.
        directory: An existing directory for what each has for itself.
    """

    def __init__(self, device: Device, directory: Path) -> None:
        self.events: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.unasked_ends: list[str] = []
        self._device = device
        self._directory = directory
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._members: list[_Member] = []
        self._printed: set[str] = set()
        # Of receivers that were killed: the ones that replace them continue with their files.
        self._left_paths: list[Path] = []
        self._begun: dict[int, int] = {}
        self._halted: _Member | None = None

    @property
    def runs(self) -> tuple[GroupRun, ...]:
        """What each has printed so far, with the present ones."""
        with self._lock:
            self._read()
            return tuple(
                GroupRun(tuple(one.texts), one.status == -signal.SIGKILL, tuple(one.outages)) for one in self._members
            )

    def printed(self) -> frozenset[str]:
        """Return what any of them has printed so far."""
        with self._lock:
            self._read()
            return frozenset(self._printed)

    def number_printed(self) -> int:
        """Return how many different texts they have printed so far."""
        with self._lock:
            self._read()
            return len(self._printed)

    def fill(self, number: int) -> None:
        """Start receivers until so many run that were not asked to leave, without waiting for their subscriptions.

        Args:
            number: How many.
        """
        with self._lock:
            self._reap()
            for _ in range(number - len(self._staying())):
                self._start()

    def wait_until_subscribed(self) -> None:
        """Wait until each one that stays receives messages."""
        with self._lock:
            staying = self._staying()
        for one in staying:
            one.program.wait_for_log(SUBSCRIBED)

    def kill_some(self, generator: random.Random) -> None:
        """Kill one or more of those that run.

        Args:
            generator: Decides which ones.
        """
        with self._lock:
            self._reap()
            running = self._running()
            for one in generator.sample(running, generator.randint(1, len(running))) if running else ():
                one.program.kill()
                self.events["receiver killed"] += 1
            self._reap()

    def halt_one(self, generator: random.Random) -> None:
        """Halt one of those that run, until `go_on`.

        Args:
            generator: Decides which one.
        """
        with self._lock:
            self._reap()
            running = self._running()
            if running:
                self._halted = generator.choice(running)
                self._halted.program.signal(signal.SIGSTOP)
                self.events["receiver halted"] += 1

    def go_on(self) -> None:
        """Let the one that was halted run again."""
        with self._lock:
            one, self._halted = self._halted, None
            if one is not None:
                one.read_into(self._printed)
                one.outages.append(Window(len(one.texts), len(one.texts)))
                one.program.signal(signal.SIGCONT)

    def ask_to_leave(self, staying: int) -> None:
        """Ask those that run to leave, except the oldest ones.

        Args:
            staying: How many are to stay.
        """
        with self._lock:
            self._reap()
            for one in self._staying()[staying:]:
                one.is_asked = True
                one.program.signal(signal.SIGTERM)
                self.events["receiver asked to leave"] += 1

    def wait_for_leaving(self, timeout: float) -> None:
        """Wait until those have ended that were asked to leave.

        Args:
            timeout: How long each may take, in seconds.
        """
        with self._lock:
            leaving = [one for one in self._running() if one.is_asked]
        for one in leaving:
            try:
                one.program.wait_for_end(timeout)
            except subprocess.TimeoutExpired:
                self.unasked_ends.append(_described(f"a receiver did not leave within {timeout:g} s", one.program))
                one.program.kill()
        with self._lock:
            self._reap()

    def begin_outage(self) -> None:
        """Note how much each has printed before the database is killed."""
        with self._lock:
            self._read()
            self._begun = {id(one): len(one.texts) for one in self._running()}

    def end_outage(self) -> None:
        """Note how much each has printed before the database is started again."""
        with self._lock:
            self._read()
            # Also one that has left meanwhile, because it could record nothing.
            for one in self._members:
                if (begun := self._begun.get(id(one))) is not None:
                    one.outages.append(Window(begun, len(one.texts)))
            self._begun = {}

    def close(self) -> None:
        """End all of them, whatever their state."""
        with self._lock:
            for one in self._members:
                one.program.close()

    def _start(self) -> None:
        path = self._left_paths.pop() if self._left_paths else self._directory / f"data-{next(self._numbers)}"
        device = self._device.with_settings(DATA_PATH=str(path))
        self._members.append(_Member(device.start(RECEIVER), path))

    def _read(self) -> None:
        for one in self._members:
            if one.status is None:
                one.read_into(self._printed)

    def _running(self) -> list[_Member]:
        return [one for one in self._members if one.status is None]

    def _staying(self) -> list[_Member]:
        return [one for one in self._running() if not one.is_asked]

    def _reap(self) -> None:
        """Read the last lines of those that have ended."""
        for one in self._running():
            if one.program.is_running:
                continue
            status = one.program.wait_for_end()
            one.read_into(self._printed)
            one.status = status
            if status != -signal.SIGKILL and not (one.is_asked and status in _ENDS):
                self.unasked_ends.append(_described(f"a receiver ended with status {status}", one.program))
            if status == -signal.SIGKILL:
                self._left_paths.append(one.data_path)
            self.refusals += refusals_in(one.program.stderr)
            one.program.close()


def _described(what: str, program: Program) -> str:
    return "\n         ".join([f"{what}; the end of its log:", *program.stderr[-_SHOWN_LINES:]])
