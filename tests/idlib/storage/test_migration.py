import errno
import hashlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest

from idlib.envelope import parse
from idlib.errors import StoreError
from idlib.keys import parse_private_key, read_certificate
from idlib.names import IdentityName
from idlib.storage import Remembered, ReplayEntry, migration, rules
from idlib.storage.migration import OLD_FILE_NAME, migrate
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import WaitingMessages

RELEASE: Final = Path(__file__).parents[2] / "releases" / "0.1.0"
NOW: Final = 1_800_000_000
# The files in DATA_PATH after the migration.
FILES: Final = {"replay.sqlite3", "replay.sqlite3.lock", "waiting.sqlite3", "waiting.sqlite3.lock"}
ALICE: Final = "alice._device.example.com"
CAROL: Final = "carol._device.example.com"


def entry(sender: str, identifier: str, issued_at: int) -> ReplayEntry:
    return ReplayEntry(sender, hashlib.sha256(f"{sender}\0{identifier}".encode()).digest()[:16], issued_at)


def identify(sender: str, signed: str, digest: bytes) -> ReplayEntry:
    binding = parse(signed).binding
    if binding is None:
        return ReplayEntry(sender, digest[:16], None)
    return entry(sender, binding.identifier, binding.issued_at)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    shutil.copy(RELEASE / "data" / OLD_FILE_NAME, tmp_path / "data")
    return tmp_path / "data"


def check(data: Path) -> None:
    """Check that everything from the release was migrated, once."""
    assert {path.name for path in data.iterdir()} == FILES
    with ReplayMemory(data) as memory, WaitingMessages(data) as waiting:
        assert memory.fact("client_id", "another") == "dane-receiver-0123456789"
        assert (memory.latest_time, memory.boot) == (NOW, "boot-of-0.1.0")
        for printed in (
            *(entry(ALICE, f"alice {hours}", NOW - hours * 3600) for hours in range(5)),
            entry(CAROL, "carol 0", NOW - 7200),
            entry(CAROL, "carol 1", NOW - 60),
            ReplayEntry(CAROL, bytes(range(16)), None),
        ):
            assert memory.verdict(printed) is Remembered.PRINTED
        long_ago = NOW - 15 * 86400
        assert memory.verdict(entry(ALICE, "long ago", long_ago)) is Remembered.MAYBE_FORGOTTEN
        assert memory.verdict(entry(ALICE, "new", long_ago + 1)) is Remembered.NEW
        assert memory.verdict(entry("dave._device.example.com", "new", NOW)) is Remembered.NEW
        alice, carol = memory.standing(ALICE), memory.standing(CAROL)
        assert alice is not None
        assert (alice.printed, alice.first_printed_at, alice.last_printed_at) == (5, NOW - 4 * 3600, NOW)
        assert alice.is_proven
        assert carol is not None
        assert (carol.printed, carol.first_printed_at, carol.is_proven) == (3, NOW - 86400, True)
        assert memory._connection.execute("SELECT count(*) FROM bound").fetchone() == (7,)
        assert memory._connection.execute("SELECT count(*) FROM unbound").fetchone() == (1,)

        assert [(one.number, one.sender, one.received_at) for one in waiting.index()] == [
            (1, CAROL, NOW - 29.5),
            (2, ALICE, NOW - 19.5),
            (3, CAROL, NOW - 9.5),
        ]
        assert [(one.identifier, one.issued_at) for one in waiting.index()] == [
            (entry(CAROL, "waits 0", NOW).identifier, NOW - 30),
            (entry(ALICE, "waits 1", NOW).identifier, NOW - 20),
            (bytes(range(16)), None),
        ]
        assert all(parse(one.signed).sender == IdentityName(one.sender) for one in waiting.read([1, 2, 3]))


def test_the_file_of_release_0_1_0_is_migrated_once(data: Path) -> None:
    assert migrate(data, NOW, identify)
    check(data)
    assert not migrate(data, NOW, identify)
    check(data)


@pytest.mark.parametrize("shown", [1000, NOW - 86400, NOW + 20 * 365 * 86400])
def test_a_wrong_clock_does_not_affect_the_migrated_names(data: Path, shown: int) -> None:
    assert migrate(data, shown, identify)
    check(data)
    with ReplayMemory(data) as memory:
        alice = memory.standing(ALICE)
    assert alice is not None
    assert alice.proven_at == NOW


def test_a_damaged_fact_of_the_release_is_dropped(data: Path) -> None:
    connection = sqlite3.connect(data / OLD_FILE_NAME)
    connection.execute("UPDATE fact SET value = 'garbage' WHERE name = 'latest_time'")
    connection.commit()
    connection.close()
    assert migrate(data, NOW, identify)
    with ReplayMemory(data) as memory:
        assert memory.latest_time == 0


def test_without_an_old_file_nothing_is_created(tmp_path: Path) -> None:
    assert not migrate(tmp_path / "nothing", NOW, identify)
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_a_killed_receiver_of_the_release_is_migrated(data: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    connection = sqlite3.connect(data / OLD_FILE_NAME, isolation_level=None)
    late = entry(ALICE, "late", NOW)
    connection.execute("INSERT INTO replay VALUES (?, ?, ?, ?)", (late.identifier, ALICE, NOW, NOW + 14 * 86400))
    for path in data.iterdir():
        shutil.copy(path, killed)
    connection.close()
    assert (killed / f"{OLD_FILE_NAME}-wal").stat().st_size > 0
    assert migrate(killed, NOW, identify)
    assert {path.name for path in killed.iterdir()} == FILES
    with ReplayMemory(killed) as memory:
        assert memory.verdict(late) is Remembered.PRINTED


def test_side_files_that_a_crash_left_are_removed(data: Path) -> None:
    assert migrate(data, NOW, identify)
    (data / f"{OLD_FILE_NAME}-wal").write_bytes(b"a text")
    assert not migrate(data, NOW, identify)
    check(data)


def test_the_file_of_a_release_killed_at_its_first_start_is_migrated(tmp_path: Path) -> None:
    (tmp_path / OLD_FILE_NAME).touch()
    assert migrate(tmp_path, NOW, identify)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_a_file_in_use_is_not_changed(data: Path) -> None:
    before = (data / OLD_FILE_NAME).read_bytes()
    with WaitingMessages(data), pytest.raises(StoreError, match="in use by another process"):
        migrate(data, NOW, identify)
    assert (data / OLD_FILE_NAME).read_bytes()[:16] == before[:16]
    assert migrate(data, NOW, identify)
    check(data)


def test_a_migration_killed_at_any_step_is_completed_by_the_next_one(data: Path, tmp_path: Path) -> None:
    steps = 0
    while True:
        trial = tmp_path / f"trial {steps}"
        shutil.copytree(data, trial)
        if not _migrate_and_kill(trial, steps):
            check(trial)
            break
        migrate(trial, NOW, identify)
        check(trial)
        steps += 1
    assert steps > 10


def _migrate_and_kill(directory: Path, step: int) -> bool:
    """Migrate and die before the given step (a commit, a close or a removal); return whether it died."""
    program = textwrap.dedent(f"""
        import os, sqlite3, sys
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parents[3])]!r}
        from tests.idlib.storage.test_migration import NOW, identify
        from idlib.storage.migration import migrate
        left = {step}
        def count(event, arguments):
            global left
            if event == "os.remove" or event == "step":
                if left == 0:
                    os.kill(os.getpid(), {int(signal.SIGKILL)})
                left -= 1
        class Connection(sqlite3.Connection):
            def execute(self, sql, *values):
                if sql == "COMMIT":
                    count("step", ())
                return super().execute(sql, *values)
            def close(self):
                count("step", ())
                super().close()
        connect = sqlite3.connect
        sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)
        sys.addaudithook(count)
        migrate(Path({str(directory)!r}), NOW, identify)
        """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode != 0


def test_names_without_enough_messages_share_the_pool_and_stay_known(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_PROVEN_NAMES", 1)
    assert migrate(data, NOW, identify)
    with ReplayMemory(data) as memory:
        assert memory.standing(ALICE) is not None
        assert memory.standing(CAROL) is None
        assert memory.verdict(entry(CAROL, "carol 1", NOW - 60)) is Remembered.PRINTED
        monkeypatch.setattr(rules, "MAX_REMEMBERED_OF_UNPROVEN", 0)
        while memory.tidy(NOW + 86400).more:
            pass
        assert memory.verdict(entry(CAROL, "carol 1", NOW - 60)) is Remembered.MAYBE_FORGOTTEN


def test_the_identity_of_the_release_is_read(tmp_path: Path) -> None:
    name = "bob._device.example.com"
    pem = (RELEASE / "identity" / f"{name}.key.pem").read_bytes()
    key = parse_private_key(pem, tmp_path)
    certificate = read_certificate(RELEASE / "identity" / f"{name}.crt.pem")
    assert certificate.public_key() == key.public.native


def test_a_directory_without_read_access_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"messages\.sqlite3' cannot be used: File name too long; set DATA_PATH to "):
        migrate(tmp_path / ("x" * 300), NOW, identify)


def _fails(*_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("owner", [Path, migration])
def test_an_error_of_the_operating_system_is_a_one_line_error(
    owner: object, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if owner is Path:
            patch.setattr(Path, "exists", _fails)
        else:
            patch.setattr(migration, "make_durable", _fails)
        with pytest.raises(StoreError, match=r"messages\.sqlite3' cannot be used: Permission denied; "):
            migrate(data, NOW, identify)
    assert (data / OLD_FILE_NAME).exists()
    assert migrate(data, NOW, identify)
    check(data)
