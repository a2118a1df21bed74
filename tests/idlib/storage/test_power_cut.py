"""A log after a power cut: SQLite's own recovery is sufficient, no file is moved aside, and no message is refused."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from idlib.storage import Printed, Remembered, ReplayEntry, connected_file
from idlib.storage.pages import _frames, is_log_damaged
from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.damage import (
    KINDS,
    NOW,
    PAGE,
    aside,
    entry,
    page_bytes,
    run_and_kill,
)

GROUPS: Final = {
    "replay": (
        "ReplayMemory",
        "[store.remember([Printed(entry(50 * g + n), 'example', b'k') for n in range(50)], NOW) for g in range(8)]",
    ),
    "waiting": (
        "WaitingMessages",
        "[store.change([waiting_message(n) for n in (2 * g, 2 * g + 1)], ()) for g in range(1, 9)]",
    ),
    "outbox": ("Outbox", "[store.put(outgoing(number)) for number in range(1, 9)]"),
}


def log_of(directory: Path, name: str) -> Path:
    path = KINDS[name].path(directory)
    return path.with_name(f"{path.name}-wal")


def transactions(log: Path) -> list[range]:
    """Return the frames of each transaction in a log."""
    frames = _frames(log.read_bytes())
    assert all(frame.is_intact for frame in frames)
    ends = [number + 1 for number, frame in enumerate(frames) if frame.is_commit]
    assert ends[-1] == len(frames)
    return [range(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]


def lose(log: Path, *numbers: int) -> None:
    """Zero frames, as if they had not reached the disk."""
    frame = page_bytes(log) + 24
    with log.open("r+b") as file:
        for number in numbers:
            file.seek(32 + number * frame)
            file.write(bytes(frame))


def first_frame(last: range) -> list[int]:
    return [last[0]]


def end_frame(last: range) -> list[int]:
    return [last[-1]]


def every_other_frame(last: range) -> list[int]:
    return list(last[::2])


@pytest.mark.parametrize("lost", [first_frame, end_frame, every_other_frame])
@pytest.mark.parametrize("name", list(KINDS))
def test_a_power_cut_loses_only_the_transaction_in_progress(
    name: str, lost: Callable[[range], list[int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_and_kill(tmp_path, *GROUPS[name])
    log = log_of(tmp_path, name)
    lose(log, *lost(transactions(log)[-1]))
    assert not is_log_damaged(log.read_bytes())
    expected = {"replay": set(range(350)), "waiting": set(range(2, 16)), "outbox": set(range(1, 8))}[name]
    assert KINDS[name].read(tmp_path) == expected
    assert aside(KINDS[name].path(tmp_path)) == []
    assert "damaged" not in caplog.text


def test_a_message_queued_at_the_broker_before_a_power_cut_is_new_after_it(tmp_path: Path) -> None:
    run_and_kill(tmp_path, *GROUPS["replay"])
    log = log_of(tmp_path, "replay")
    lose(log, transactions(log)[-1][0])
    with ReplayMemory(tmp_path) as store:
        queued = ReplayEntry("new.example", bytes(16), int(time.time()) - 60)
        assert store.verdict(queued) is Remembered.NEW


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_damage_differs_from_a_power_cut_by_the_number_of_transactions_after_it(behind: int, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *GROUPS["replay"])
    log = log_of(tmp_path, "replay")
    # The last two transactions may have been unsynced; an earlier one was certainly on the disk.
    lose(log, transactions(log)[-1 - behind][0])
    assert is_log_damaged(log.read_bytes()) == (behind == 2)


def test_a_power_cut_after_damage_restores_no_uncommitted_row(tmp_path: Path) -> None:
    run_and_kill(tmp_path, *GROUPS["waiting"])
    log = log_of(tmp_path, "waiting")
    groups = transactions(log)
    lose(log, groups[1][0], groups[-1][0])
    assert is_log_damaged(log.read_bytes())
    kept = KINDS["waiting"].read(tmp_path)
    assert kept >= set(range(6, 16))
    assert not kept & {16, 17}
    assert len(aside(KINDS["waiting"].path(tmp_path))) == 1


@pytest.mark.parametrize("name", ["waiting", "outbox"])
def test_rows_of_an_incomplete_transaction_are_not_restored(name: str, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *GROUPS[name])
    log = log_of(tmp_path, name)
    last = transactions(log)[-1]
    lose(log, last[0])
    path = KINDS[name].path(tmp_path)
    path.write_bytes(bytes(PAGE))
    kept = KINDS[name].read(tmp_path)
    assert kept == {"waiting": set(range(2, 16)), "outbox": set(range(1, 8))}[name]


def test_each_portion_of_forgetting_is_on_the_disk_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    with ReplayMemory(tmp_path) as store:
        store.remember([Printed(entry(number), "example", b"key") for number in range(100)], NOW)
        monkeypatch.setattr(connected_file, "make_durable", synced.append)
        while store.tidy(NOW + 500 * 86400).more:
            assert synced == [log_of(tmp_path, "replay")]
            synced.clear()
        assert synced == []


def test_the_log_of_a_killed_process_is_on_the_disk_before_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_and_kill(tmp_path, *GROUPS["replay"])
    synced: list[Path] = []
    monkeypatch.setattr(connected_file, "make_durable", synced.append)
    with ReplayMemory(tmp_path):
        assert synced == [log_of(tmp_path, "replay")]
