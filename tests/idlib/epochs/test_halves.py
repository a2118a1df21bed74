"""The private halves of epoch keys on the disk: created durably, destroyed for good, whatever kills the process."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.epochs.destroyed import KEPT_SECONDS, MAX_DESTROYED, DestroyedKeys
from idlib.epochs.halves import DamagedHalfError, Halves, KeptHalf
from idlib.errors import StoreError
from idlib.names import IdentityName

NAME: Final = IdentityName("bob._device.example.com")
OTHER: Final = IdentityName("carol._device.example.com")
DAY: Final = 24 * 3600
START: Final = 1_800_000_000
SIGNER: Final = bytes(range(32))


@pytest.fixture
def halves(tmp_path: Path) -> Halves:
    return Halves(tmp_path, NAME)


def create(halves: Halves, number: int = 0) -> KeptHalf:
    return halves.create(START + number * DAY, START + (number + 9) * DAY, 1.5 + number, SIGNER)


def ids(halves: Halves) -> set[str]:
    stock = halves.stock()
    assert not stock.unreadable
    return {kept.half.key_id for kept in stock.halves}


def test_a_half_is_read_as_it_was_created(tmp_path: Path) -> None:
    kept = create(Halves(tmp_path / "new" / "epochs", NAME))

    again = Halves(tmp_path / "new" / "epochs", NAME).read(kept.half.key_id)

    assert again == kept
    assert again is not None
    assert again.key.seed == kept.key.seed
    assert again.record.key_id(NAME) == kept.half.key_id


def test_no_other_user_may_read_a_half(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept = create(Halves(tmp_path / "epochs", NAME))
    finally:
        os.umask(before)

    assert (tmp_path / "epochs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "epochs" / kept.half.key_id).stat().st_mode & 0o777 == 0o600


def test_a_half_is_not_shown(halves: Halves) -> None:
    kept = create(halves)
    assert kept.key.seed.hex() not in repr(kept)
    assert repr(kept.key.seed) not in repr(kept)


def test_a_destroyed_half_is_overwritten_before_it_is_removed(halves: Halves, tmp_path: Path) -> None:
    kept = create(halves)
    path = tmp_path / kept.half.key_id
    # A hard link still has the content of the file when its name is gone.
    os.link(path, tmp_path / "link")

    halves.destroy(kept.half)

    assert not path.exists()
    assert not (tmp_path / "link").read_bytes().strip(b"\0")
    assert not ids(halves)
    assert halves.read(kept.half.key_id) is None
    assert halves.destroyed.until(kept.half.key_id) == START + 9 * DAY
    assert Halves(tmp_path, NAME).destroyed.ids() == {kept.half.key_id}


def test_a_full_disk_does_not_keep_a_half(halves: Halves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = create(halves)

    def full(_self: DestroyedKeys, _key_id: str, _until: int) -> None:
        raise StoreError("No space left on device")

    monkeypatch.setattr(DestroyedKeys, "add", full)
    with pytest.raises(StoreError, match="No space left"):
        halves.destroy(kept.half)

    assert not list(tmp_path.iterdir())


def test_a_half_that_cannot_be_made_durable_is_not_left(
    halves: Halves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def fail_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(StoreError, match="cannot be written: No space left on device; free space"):
        create(halves)

    assert not list(tmp_path.iterdir())


def test_the_longest_name_that_can_have_epoch_keys_has_a_list_of_destroyed_ones(tmp_path: Path) -> None:
    # `_epoch.` before it makes 253 characters.
    longest = Halves(tmp_path, IdentityName(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 50}.example.test"))
    kept = create(longest)
    longest.destroy(kept.half)
    assert longest.destroyed.ids() == {kept.half.key_id}


def test_a_lasting_failure_is_reported_in_the_same_words_each_time(tmp_path: Path) -> None:
    # Otherwise it is logged at each attempt.
    (tmp_path / "file").touch()
    halves = Halves(tmp_path / "file" / "epochs", NAME)
    reports = set()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"a new epoch key in .* cannot be written: Not a directory") as failed:
            create(halves)
        reports.add(str(failed.value))
    assert len(reports) == 1


def test_the_halves_of_another_device_are_left_alone(tmp_path: Path) -> None:
    ours, theirs = Halves(tmp_path, NAME), Halves(tmp_path, OTHER)
    mine, its = create(ours), create(theirs)
    (tmp_path / f"{its.half.key_id[::-1]}.new").write_bytes((tmp_path / its.half.key_id).read_bytes())

    ours.finish()
    ours.destroy(mine.half)

    assert ids(theirs) == {its.half.key_id}
    assert not ids(ours)
    assert ours.read(its.half.key_id) is None
    assert len(list(tmp_path.glob("*.new"))) == 1


def test_other_files_are_left_alone(halves: Halves, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes.new").write_text("mine")

    halves.finish()

    assert not ids(halves)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_half_hides_no_other(halves: Halves, tmp_path: Path) -> None:
    damaged, sound = create(halves, 1), create(halves, 2)
    path = tmp_path / damaged.half.key_id
    octets = bytearray(path.read_bytes())
    octets[60] ^= 1
    path.write_bytes(octets)

    stock = halves.stock()

    assert [kept.half for kept in stock.halves] == [sound.half]
    assert len(stock.unreadable) == 1
    assert "is damaged" in stock.unreadable[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_whatever_is_in_a_file_is_that_half_or_an_error(halves: Halves, tmp_path: Path, data: st.DataObject) -> None:
    kept = create(halves)
    path = tmp_path / kept.half.key_id
    written = path.read_bytes()
    octets = bytearray(written)
    place = data.draw(st.integers(0, len(octets)))
    octets[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path.write_bytes(octets)
    try:
        read = halves.read(kept.half.key_id)
    except DamagedHalfError:
        pass
    else:
        # The times at which it was created and who signed it are not part of the record.
        assert read is None or (read.key == kept.key and read.record == kept.record)
    finally:
        path.unlink()


def test_the_list_forgets_what_was_destroyed_long_ago(tmp_path: Path) -> None:
    known = DestroyedKeys(tmp_path, NAME)
    for number in range(3):
        known.add(f"{number:022}", START + number * DAY)

    known.forget(START + KEPT_SECONDS + DAY)

    assert DestroyedKeys(tmp_path, NAME).ids() == {f"{2:022}"}


def test_the_longest_name_of_a_device_with_epoch_keys_fits_the_name_of_the_list(tmp_path: Path) -> None:
    longest = IdentityName(".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 54)))
    assert len(longest.text) == 246
    halves = Halves(tmp_path, longest)
    kept = create(halves)

    halves.destroy(kept.half)

    assert Halves(tmp_path, longest).destroyed.ids() == {kept.half.key_id}


def test_the_list_is_limited_to_the_newest(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.destroyed"
    path.write_text("".join(f"{number:022} {START + number}\n" for number in range(MAX_DESTROYED)))
    known = DestroyedKeys(tmp_path, NAME)

    known.add("x" * 22, START + MAX_DESTROYED)

    assert len(known.ids()) == MAX_DESTROYED
    assert known.until("x" * 22) == START + MAX_DESTROYED
    assert known.until(f"{0:022}") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_a_damaged_list_loses_only_its_damaged_lines(tmp_path: Path, garbage: bytes) -> None:
    sound = f"{'a' * 22} {START}\n".encode()
    (tmp_path / f"{NAME}.destroyed").write_bytes(sound + garbage + b"\n" + sound.replace(b"a", b"b"))

    assert {"a" * 22, "b" * 22} <= DestroyedKeys(tmp_path, NAME).ids()


@pytest.mark.parametrize("content", [None, bytes(300_000)], ids=["a directory", "too large"])
def test_a_list_that_cannot_be_read_hides_no_half(halves: Halves, tmp_path: Path, content: bytes | None) -> None:
    kept = create(halves)
    path = tmp_path / f"{NAME}.destroyed"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    halves.finish()

    assert ids(halves) == {kept.half.key_id}
    with pytest.raises(StoreError, match="cannot be read: "):
        halves.destroyed.until(kept.half.key_id)


# Runs one action, and kills the process before the Nth step that changes something on the disk.
_CHILD: Final = """
import os, signal, sys
from pathlib import Path
from idlib.epochs.halves import Halves
from idlib.names import IdentityName

directory, action, killed_at = sys.argv[1:]
halves = Halves(Path(directory), IdentityName("bob._device.example.com"))
found = halves.stock().halves
steps = 0

def step():
    global steps
    steps += 1
    if steps == int(killed_at):
        os.kill(os.getpid(), signal.SIGKILL)

def on_event(event, arguments):
    is_writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if is_writing or event in ("os.rename", "os.remove", "os.mkdir"):
        step()

sync = os.fsync

def fsync(descriptor):
    step()
    sync(descriptor)

os.fsync = fsync
sys.addaudithook(on_event)
if action == "create":
    halves.create(1_800_000_000, 1_800_777_600, 0.0, bytes(32))
else:
    halves.destroy(found[0].half)
print(steps)
"""


def run(directory: Path, action: str, killed_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _CHILD, str(directory), action, str(killed_at)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def steps_of(directory: Path, action: str) -> int:
    return int(run(directory, action, 0).stdout)


def test_a_half_is_whole_or_not_there_wherever_its_creation_is_interrupted(tmp_path: Path) -> None:
    steps = steps_of(tmp_path / "counted", "create")
    assert steps >= 5
    outcomes = []
    for killed_at in range(1, steps + 1):
        directory = tmp_path / str(killed_at)
        assert run(directory, "create", killed_at).returncode == -signal.SIGKILL
        halves = Halves(directory, NAME)
        halves.finish()
        outcomes.append(len(ids(halves)))
        assert not list(directory.glob("*.new"))
        create(halves, 3)
    # It is there once it has its name, which is one sync before the end.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == 0
    assert outcomes[-1] == 1


def test_a_half_that_another_process_is_creating_is_not_a_leftover(
    halves: Halves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, starts = os.fsync, iter([Halves(tmp_path, NAME)])

    def fsync(descriptor: int) -> None:
        # The receiver starts while `epoch_keys.py` writes; flock treats the two descriptors as those of two processes.
        for starting in starts:
            starting.finish()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    kept = create(halves)

    assert ids(halves) == {kept.half.key_id}
    assert next(starts, None) is None


def test_a_half_is_destroyed_in_the_end_wherever_that_is_interrupted(tmp_path: Path) -> None:
    create(Halves(tmp_path / "counted", NAME))
    steps = steps_of(tmp_path / "counted", "destroy")
    assert steps >= 8
    outcomes = []
    for killed_at in range(1, steps + 1):
        directory = tmp_path / str(killed_at)
        kept = create(Halves(directory, NAME))
        assert run(directory, "destroy", killed_at).returncode == -signal.SIGKILL
        halves = Halves(directory, NAME)
        halves.finish()
        outcomes.append(len(ids(halves)))
        if ids(halves):
            halves.destroy(kept.half)
        assert not (directory / kept.half.key_id).exists()
        assert halves.destroyed.ids() == {kept.half.key_id}
    # Once it is on the list, the next start destroys it.
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes[0] == 1
    assert outcomes[-1] == 0


def test_the_stock_leaves_out_files_that_are_known_and_names_those_of_other_devices(
    halves: Halves, tmp_path: Path
) -> None:
    known, new = create(halves), create(halves, 1)
    other = Halves(tmp_path, OTHER).create(START, START + DAY, 0.0, SIGNER).half.key_id
    stock = halves.stock({known.half.key_id})
    assert [kept.half for kept in stock.halves] == [new.half]
    assert stock.others == {other}
    assert halves.stock({known.half.key_id, new.half.key_id, other}).others == frozenset()
