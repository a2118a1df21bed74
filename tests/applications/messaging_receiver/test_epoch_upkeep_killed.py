"""The receiver is killed at each step from a new epoch key to its record in the spool."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.epochs.halves import Halves
from idlib.epochs.spool import read_spool
from idlib.names import IdentityName
from idlib.settings import load
from messaging_receiver.epoch_upkeep import EpochUpkeep

NOW: Final = 1_800_000_000
DAY: Final = 24 * 3600
NAME: Final = IdentityName("bob._device.example.com")
KEY: Final = PrivateKey(ec.derive_private_key(12345, ec.SECP256R1()))


@dataclasses.dataclass(frozen=True)
class Clock:
    """A clock that stands still."""

    now: int

    def trusted_time(self) -> float:
        return float(self.now)

    def elapsed(self) -> float:
        return float(self.now - NOW)


def upkeep_of(directory: Path, now: int) -> EpochUpkeep:
    environment = {
        "IDENTITY_NAME": str(NAME),
        "EPOCH_KEYS": "on",
        "DATA_PATH": str(directory / "data"),
        "EPOCH_SPOOL": str(directory / "spool"),
    }
    return EpochUpkeep(load(environment), Clock(now))


def spooled(directory: Path) -> list[str]:
    return [one.record.key_id(NAME) for one in read_spool(directory / "spool", NAME) or ()]


def halves(directory: Path) -> set[str]:
    return {kept.half.key_id for kept in Halves(directory / "data" / "epochs", NAME).stock().halves}


def keep_and_be_killed(directory: Path, now: int, killed_at: int) -> None:
    """Run in a process of its own: keep the keys, and be killed before a step; print how many steps there were."""
    steps = 0
    is_ready = False

    def step() -> None:
        nonlocal steps
        steps += is_ready
        if steps == killed_at and is_ready:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        is_writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if is_writing or event in ("os.rename", "os.remove", "os.mkdir", "os.chmod"):
            step()

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        step()
        sync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(on_event)
    upkeep = upkeep_of(directory, now)
    is_ready = True
    upkeep.keep(KEY)
    is_ready = False
    assert upkeep.problem is None
    print(steps)


def run(directory: Path, now: int, killed_at: int = 0) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from pathlib import Path;"
        " from tests.applications.messaging_receiver.test_epoch_upkeep_killed import keep_and_be_killed;"
        " keep_and_be_killed(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
    )
    command = [sys.executable, "-c", program, str(directory), str(now), str(killed_at)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def steps_of(directory: Path, now: int) -> int:
    done = run(directory, now)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def check_killed(directory: Path, now: int, killed_at: int) -> tuple[int, int]:
    """Kill the receiver at a step, start it again, and return how many keys and records there were in between."""
    before = spooled(directory)
    killed = run(directory, now, killed_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found, listed = halves(directory), spooled(directory)
    assert set(listed) <= found, "a record whose private half is not on the disk could be published"
    assert len(listed) >= len(before), "the list of what is to be published was empty in between"
    again = upkeep_of(directory, now)
    again.keep(KEY)
    assert again.problem is None
    assert len(spooled(directory)) == 1
    assert set(spooled(directory)) <= set(again.keys) == halves(directory)
    assert found <= halves(directory)
    assert not list(directory.rglob("*.new"))
    return len(found), len(listed)


def test_a_receiver_that_is_killed_while_it_creates_its_first_key_continues(tmp_path: Path) -> None:
    steps = steps_of(tmp_path / "counted", NOW)
    assert steps >= 10
    outcomes = [check_killed(tmp_path / str(step), NOW, step) for step in range(1, steps + 1)]
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == (0, 0)
    assert outcomes[-1] == (1, 1)
    assert (1, 0) in outcomes


def test_a_receiver_that_is_killed_while_it_creates_its_next_key_continues(tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    steps_of(counted, NOW)
    steps = steps_of(counted, NOW + DAY)
    for step in range(1, steps + 1):
        directory = tmp_path / str(step)
        upkeep_of(directory, NOW).keep(KEY)
        (first,) = spooled(directory)
        check_killed(directory, NOW + DAY, step)
        assert halves(directory) == {first, *spooled(directory)}
        assert spooled(directory) != [first]
