import threading
from pathlib import Path

import pytest

from idlib import keys
from idlib.errors import KeyFileError
from idlib.system import update_lock
from tests.idlib.identity_files import OWN_UID, files_in


def test_the_lock_excludes_a_second_writer_until_it_is_released(tmp_path: Path) -> None:
    with (
        keys.locked(tmp_path),
        pytest.raises(KeyFileError, match="another program is writing keys"),
        keys.locked(tmp_path, timeout=0),
    ):
        pass
    with keys.locked(tmp_path, timeout=0):
        pass
    assert files_in(tmp_path) == {}


def test_a_second_writer_waits_for_the_lock(tmp_path: Path) -> None:
    entered = threading.Event()
    with keys.locked(tmp_path):

        def enter() -> None:
            with keys.locked(tmp_path):
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_updates_are_delayed_while_keys_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "updates.lock"
    monkeypatch.setattr(update_lock, "PATH", lock)
    directory = tmp_path / "identity"
    directory.mkdir()
    with keys.locked(directory):
        assert lock.exists()
        keys.write_new(directory / "key.pem", b"1", OWN_UID)
    assert not lock.exists()
