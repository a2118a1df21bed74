"""The spool of epoch records: what the receiver writes and the maintenance service reads."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import MAX_RECORDS, EpochRecord, SignedEpochRecord
from idlib.epochs.spool import read_spool, remove_spool, spool_path, write_spool
from idlib.errors import StoreError
from idlib.names import IdentityName
from tests.idlib.epochs.vectors import alice

NAME: Final = IdentityName("alice._device.example.com")
DAY: Final = 24 * 3600
START: Final = 1_800_000_000


def record(number: int) -> SignedEpochRecord:
    half = EpochPrivateKey(bytes([number]) * 32)
    start = START + number * DAY
    return SignedEpochRecord.create(EpochRecord(start, start + 9 * DAY, half.public), NAME, alice("p256"))


RECORDS: Final = [record(number) for number in range(MAX_RECORDS + 1)]


def texts(records: tuple[SignedEpochRecord, ...] | None) -> set[bytes]:
    assert records is not None
    return {one.to_text() for one in records}


def test_the_reader_gets_what_the_receiver_has_written(tmp_path: Path) -> None:
    write_spool(tmp_path / "new" / "spool", NAME, RECORDS[:2])

    assert texts(read_spool(tmp_path / "new" / "spool", NAME)) == {one.to_text() for one in RECORDS[:2]}


def test_a_list_replaces_the_one_before(tmp_path: Path) -> None:
    write_spool(tmp_path, NAME, RECORDS[:2])

    write_spool(tmp_path, NAME, RECORDS[2:3])

    assert texts(read_spool(tmp_path, NAME)) == {RECORDS[2].to_text()}
    assert [path.name for path in tmp_path.iterdir()] == ["alice._device.example.com.epochs"]


def test_without_a_spool_nothing_is_to_be_published(tmp_path: Path) -> None:
    assert read_spool(tmp_path, NAME) is None
    assert read_spool(tmp_path / "missing", NAME) is None


def test_the_longest_name_of_a_device_with_epoch_keys_fits_a_file_name(tmp_path: Path) -> None:
    name = IdentityName(".".join(["a" * 49] * 4 + ["b" * 46]))
    assert len(name.text) == 246

    write_spool(tmp_path, name, RECORDS[:1])

    assert texts(read_spool(tmp_path, name)) == {RECORDS[0].to_text()}


def test_another_user_may_read_the_spool_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_spool(tmp_path, NAME, RECORDS[:1])
    finally:
        os.umask(before)

    assert spool_path(tmp_path, NAME).stat().st_mode & 0o777 == 0o644


def test_a_leftover_of_a_killed_receiver_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.new").write_bytes(b"epoch1:half a rec")

    write_spool(tmp_path, NAME, RECORDS[:1])

    assert texts(read_spool(tmp_path, NAME)) == {RECORDS[0].to_text()}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("records", [[], RECORDS, [RECORDS[0], RECORDS[0]]], ids=["none", "nine", "twice the same"])
def test_a_set_that_senders_cannot_read_whole_is_not_written(tmp_path: Path, records: list[SignedEpochRecord]) -> None:
    with pytest.raises(ValueError, match="a spool of"):
        write_spool(tmp_path, NAME, records)

    assert not list(tmp_path.iterdir())


def test_a_spool_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match=r"cannot be written to .*alice.*EPOCH_SPOOL"):
        write_spool(tmp_path / "file", NAME, RECORDS[:1])


def test_a_full_disk_leaves_the_list_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_spool(tmp_path, NAME, RECORDS[:1])

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        write_spool(tmp_path, NAME, RECORDS[1:2])

    assert texts(read_spool(tmp_path, NAME)) == {RECORDS[0].to_text()}


LINES: Final = [text.to_text() + b"\n" for text in RECORDS]


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\n",
        LINES[0].rstrip(),
        LINES[0][: len(LINES[0]) // 2],
        LINES[0] + b"\n",
        LINES[0] + LINES[0],
        b"".join(sorted(LINES[:2], reverse=True)),
        b"".join(sorted(LINES)),
        b"v=spf1 -all\n",
        b"x" * 100_000,
    ],
    ids=["empty", "blank", "no end", "cut", "blank line", "twice", "unsorted", "nine", "foreign", "too long"],
)
def test_content_that_the_receiver_does_not_write_is_an_error(tmp_path: Path, contents: bytes) -> None:
    spool_path(tmp_path, NAME).write_bytes(contents)

    with pytest.raises(StoreError, match=r"alice\._device\.example\.com\.epochs"):
        read_spool(tmp_path, NAME)


def test_a_spool_that_is_no_regular_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(spool_path(tmp_path, NAME))

    with pytest.raises(StoreError, match="named pipe"):
        read_spool(tmp_path, NAME)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=40)), max_size=4).map(b"".join),
    st.integers(0, 6000),
    st.binary(max_size=3),
)
def test_whatever_is_in_the_spool_is_either_a_list_or_an_error(
    tmp_path: Path, contents: bytes, place: int, change: bytes
) -> None:
    contents = contents[:place] + change + contents[place + len(change) :]
    spool_path(tmp_path, NAME).write_bytes(contents)

    try:
        records = read_spool(tmp_path, NAME)
    except StoreError:
        return

    assert records is not None
    assert b"".join(one.to_text() + b"\n" for one in records) == contents


_WRITER: Final = """
import os, signal, sys
from pathlib import Path
from idlib.names import IdentityName
from idlib.epochs.spool import write_spool
from idlib.epochs.record import SignedEpochRecord
directory, text, killed_at = sys.argv[1:]
records = [SignedEpochRecord.from_text(text.encode())]
calls = 0
def kill_at(event, arguments):
    global calls
    if event in ("os.remove", "os.rename", "open") and any(str(one).startswith(directory) for one in arguments):
        calls += 1
        if calls == int(killed_at):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill_at)
write_spool(Path(directory), IdentityName("alice._device.example.com"), records)
"""


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_a_receiver_that_is_killed_leaves_the_list_from_before_or_after(tmp_path: Path, killed_at: int) -> None:
    write_spool(tmp_path, NAME, RECORDS[:1])
    text = RECORDS[1].to_text().decode()

    ended = subprocess.run([sys.executable, "-c", _WRITER, str(tmp_path), text, str(killed_at)], check=False)

    assert ended.returncode == -9
    expected = RECORDS[0] if killed_at < 4 else RECORDS[1]
    assert texts(read_spool(tmp_path, NAME)) == {expected.to_text()}
    write_spool(tmp_path, NAME, RECORDS[2:3])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_spool_that_is_removed_lists_nothing(tmp_path: Path) -> None:
    write_spool(tmp_path, NAME, RECORDS[:1])
    remove_spool(tmp_path, NAME)
    assert read_spool(tmp_path, NAME) is None
    remove_spool(tmp_path, NAME)
    remove_spool(tmp_path / "missing", NAME)


def test_a_spool_that_cannot_be_removed_is_an_error_with_a_hint(tmp_path: Path) -> None:
    spool_path(tmp_path, NAME).mkdir()
    with pytest.raises(StoreError, match="cannot be removed: ") as raised:
        remove_spool(tmp_path, NAME)
    assert raised.value.hint
