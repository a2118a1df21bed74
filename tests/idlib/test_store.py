import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.store import FILE_NAME, NewWaitingMessage, ReplayEntry, Store

ENTRY = ReplayEntry(b"x" * 16, "alice.example", 500, 1000)


def test_the_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "data"):
        for file in (tmp_path / "new" / "data").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_fact_is_kept_as_it_was_first(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.fact("client_id", "first") == "first"
    with Store(tmp_path) as store:
        assert store.fact("client_id", "second") == "first"


def test_what_was_printed_is_known_after_a_restart_until_it_expires(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert not store.has_printed(ENTRY.identifier)
        store.finish([ENTRY], [])
    with Store(tmp_path) as store:
        store.forget_printed(1000)
        assert store.has_printed(ENTRY.identifier)
        store.forget_printed(1001)
        assert not store.has_printed(ENTRY.identifier)


def test_printed_messages_are_counted_for_each_sender_until_they_are_forgotten(tmp_path: Path) -> None:
    def entry(number: int, sender: str, expires_at: int) -> ReplayEntry:
        return ReplayEntry(bytes([number]) * 16, sender, expires_at - 500, expires_at)

    with Store(tmp_path) as store:
        store.finish([entry(1, "alice.example", 1000), entry(2, "alice.example", 2000)], [])
        store.finish([entry(3, "bob.example", 1500)], [])
    with Store(tmp_path) as store:
        assert store.number_printed == 3
        assert (store.number_printed_of("alice.example"), store.number_printed_of("bob.example")) == (2, 1)
        assert store.number_printed_of("carol.example") == 0
        assert store.latest_forgotten_issue == -1
        store.forget_printed(1600)
        assert (store.number_printed_of("alice.example"), store.number_printed_of("bob.example")) == (1, 0)
        assert store.latest_forgotten_issue == 1000
    with Store(tmp_path) as store:
        assert store.number_printed == 1
        assert store.latest_forgotten_issue == 1000


def test_the_latest_time_that_was_noted_is_kept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.latest_time == 0
        store.note_time(2000)
        store.note_time(1000)
        assert store.latest_time == 2000
    with Store(tmp_path) as store:
        assert store.latest_time == 2000


def test_messages_wait_in_order_across_a_restart_until_they_are_finished(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep_waiting([NewWaitingMessage("alice.example", "first", b"1", 1.5)])
        store.keep_waiting([NewWaitingMessage("bob.example", "other", b"2", 2.5)])
        store.keep_waiting([NewWaitingMessage("alice.example", "second", b"3", 3.5)])
    with Store(tmp_path) as store:
        assert set(store.waiting_senders()) == {"alice.example", "bob.example"}
        assert store.number_waiting() == 3
        first, second = store.waiting_of("alice.example")
        assert (first.signed, first.digest, first.received_at) == ("first", b"1", 1.5)
        assert second.signed == "second"
        store.finish([], [first.number])
        assert [message.signed for message in store.waiting_of("alice.example")] == ["second"]


def test_of_a_senders_messages_the_newest_lose_their_places(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep_waiting([NewWaitingMessage("bob.example", "other", b"1", 0.5)])
        store.keep_waiting([NewWaitingMessage("alice.example", "new", b"2", 3.5)])
        store.keep_waiting([NewWaitingMessage("alice.example", "old", b"3", 1.5)])
        store.keep_waiting([NewWaitingMessage("alice.example", "newer", b"4", 4.5)])
        assert store.forget_newest_waiting("alice.example", 2) == 1
        assert store.forget_newest_waiting("alice.example", 2) == 0
        assert {message.signed for message in store.waiting_of("alice.example")} == {"new", "old"}
        assert store.number_waiting() == 3


def test_the_sender_of_whom_most_messages_wait_is_named(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.keep_waiting([NewWaitingMessage("alice.example", "1", b"1", 1.5)])
        store.keep_waiting([NewWaitingMessage("bob.example", "2", b"2", 2.5)])
        assert store.most_waiting("bob.example") == ("bob.example", 1)
        store.keep_waiting([NewWaitingMessage("alice.example", "3", b"3", 3.5)])
        assert store.most_waiting("bob.example") == ("alice.example", 2)


def test_a_second_process_is_told_that_the_store_is_in_use(tmp_path: Path) -> None:
    with Store(tmp_path):
        program = f"from pathlib import Path; from idlib.store import Store; Store(Path({str(tmp_path)!r}))"
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "in use by another process" in second.stderr
    with Store(tmp_path) as store:
        assert store.waiting_senders() == ()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="DATA_PATH"):
        Store(tmp_path / "file")


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("precious " * 1000)
    with pytest.raises(StoreError, match="cannot be read"):
        Store(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == "precious " * 1000


def test_a_group_that_was_finished_survives_kill_9(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from idlib.store import ReplayEntry, Store
        store = Store(Path({str(tmp_path)!r}))
        store.finish([ReplayEntry(bytes([number]) * 16, "alice.example", 500, 1000) for number in range(32)], [])
        print("finished", flush=True)
        os.kill(os.getpid(), {signal.SIGKILL})
        """)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout == "finished\n"
    with Store(tmp_path) as store:
        assert all(store.has_printed(bytes([number]) * 16) for number in range(32))


def test_the_descriptor_does_not_leak_into_other_programs(tmp_path: Path) -> None:
    with Store(tmp_path):
        own = {os.readlink(f"/proc/self/fd/{number}") for number in _descriptors() if not os.get_inheritable(number)}
        assert str(tmp_path / FILE_NAME) in own


def _descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue
        found.append(int(name))
    return found
