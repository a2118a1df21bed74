import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from idlib import keys
from idlib.errors import KeyFileError, permission_hint
from tests.idlib.identity_files import NAME, OWN_UID


def test_files_of_another_user_are_reported_with_the_command_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "identity of alice"
    directory.mkdir()
    path = directory / "key.pem"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: keys.read_file(path),
        lambda: keys.write_new(path, b"1", OWN_UID),
        lambda: keys.replace(path, b"1", OWN_UID),
        keys.locked(directory).__enter__,
    )
    for attempt in attempts:
        with pytest.raises(KeyFileError, match="Permission denied") as raised:
            attempt()
        mend = f"chown -R {os.geteuid()} '{directory}'"
        assert raised.value.hint.startswith(f"as root run {mend} (with Compose: docker compose run")
        assert raised.value.hint.endswith(f"maintenance {mend})")


def test_the_hint_does_not_suggest_to_change_the_owner_of_a_parent_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(KeyFileError, match="Permission denied") as raised:
        keys.make_directory(tmp_path / "identity", OWN_UID)
    assert "chown" not in str(raised.value)


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o600])
def test_the_hint_for_an_own_directory_without_access_is_chmod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    directory = tmp_path / "my identity"
    directory.mkdir()
    path = directory / "key.pem"
    path.touch()
    directory.chmod(mode)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        attempts: tuple[Callable[[], object], ...] = (
            lambda: keys.read_file(path),
            lambda: keys.write_new(directory / "new.pem", b"1", OWN_UID),
            keys.locked(directory).__enter__,
        )
        for attempt in attempts:
            with pytest.raises(KeyFileError, match="Permission denied") as raised:
                attempt()
            assert raised.value.hint == f"run chmod 700 '{directory}'"
    directory.chmod(0o700)


def test_the_hint_names_the_parent_directory_that_denies_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "messenger" / "identity"
    directory.mkdir(parents=True)
    directory.parent.chmod(0o600)
    stat_of = Path.stat

    def refuse_below(path: Path, **named: Any) -> os.stat_result:
        if directory.parent in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat_of(path, **named)

    monkeypatch.setattr(Path, "stat", refuse_below)
    assert permission_hint(directory, "maintenance") == f"run chmod 700 {directory.parent}"
    directory.parent.chmod(0o700)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


UNFIT: Final = [
    (os.mkfifo, "is a named pipe, not a regular file"),
    (make_directory, "is a directory, not a regular file"),
    (make_dangling_link, "is a broken symbolic link"),
]


@pytest.mark.parametrize(("make", "said"), UNFIT)
def test_anything_but_a_file_in_the_place_of_a_key_is_reported_and_kept(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = keys.key_path(tmp_path, NAME)
    make(path)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: keys.write_new(path, b"1", OWN_UID),
        lambda: keys.replace_key(tmp_path, NAME, b"1", OWN_UID),
    )
    for attempt in attempts:
        with pytest.raises(KeyFileError) as raised:
            attempt()
        assert str(raised.value) == f"'{path}' {said}; move it away"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_below_a_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: keys.write_new(file / "key", b"1", OWN_UID),
        lambda: keys.replace(file / "key", b"1", OWN_UID),
        lambda: keys.read_file(file / "key"),
        lambda: keys.make_directory(file / "identity", OWN_UID),
        keys.locked(file).__enter__,
    )
    for attempt in attempts:
        with pytest.raises(KeyFileError, match="Not a directory"):
            attempt()
