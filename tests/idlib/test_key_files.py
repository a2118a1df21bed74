"""Writing key and certificate files: modes, owners, links, other file systems, full disks."""

import errno
import os
import resource
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from idlib import keys
from idlib.errors import KeyFileError, permission_hint
from idlib.names import IdentityName
from idlib.system import update_lock
from tests.idlib.identity_files import NAME, OWN_UID, files_in, put_keys


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_has_access_to_files_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        keys.write_new(tmp_path / "new", b"1", OWN_UID)
        keys.replace(tmp_path / "replaced", b"2", OWN_UID)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_replaced_file_gets_a_private_mode(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    path.chmod(0o644)
    keys.replace(path, b"new", OWN_UID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_application_user_owns_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to = []
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given_to.append((uid, gid)))
    directory = tmp_path / "identity"
    keys.make_directory(directory, 1001)
    keys.write_new(directory / "key", b"1", 1001)
    keys.replace(directory / "cert", b"1", 1001)
    assert given_to == [(1001, -1)] * 3


def test_a_process_that_may_not_change_the_owner_keeps_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    keys.write_new(tmp_path / "key", b"1", 1001)
    assert (tmp_path / "key").read_bytes() == b"1"


def test_write_new_never_overwrites_a_file(tmp_path: Path) -> None:
    path = keys.key_path(tmp_path, NAME)
    keys.write_new(path, b"first", OWN_UID)
    with pytest.raises(KeyFileError, match=r"--force .*alice\._device\.example\.test\.key\.previous\.pem"):
        keys.write_new(path, b"second", OWN_UID, {tmp_path / "companion": b"second"})
    assert files_in(tmp_path) == {path.name: b"first"}


def test_exactly_one_of_many_simultaneous_writers_succeeds(tmp_path: Path) -> None:
    path, winners = tmp_path / "key", []
    barrier = threading.Barrier(8)

    def write(data: bytes) -> None:
        barrier.wait()
        try:
            keys.write_new(path, data, OWN_UID)
        except KeyFileError:
            return
        winners.append(data)

    threads = [threading.Thread(target=write, args=(b"%d" % number * 1000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files_in(tmp_path) == {"key": winners[0]}
    assert len(winners) == 1


@pytest.mark.parametrize("is_dangling", [True, False])
def test_a_symbolic_link_is_not_followed_when_writing(tmp_path: Path, *, is_dangling: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "key"
    if not is_dangling:
        target.write_bytes(b"precious")
    link.symlink_to(target)
    before = target.exists() and target.read_bytes()
    with pytest.raises(KeyFileError):
        keys.write_new(link, b"new", OWN_UID)
    assert link.is_symlink()
    keys.replace(link, b"new", OWN_UID)
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"
    assert (target.exists() and target.read_bytes()) == before


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


def test_updates_are_delayed_while_keys_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "updates.lock"
    monkeypatch.setattr(update_lock, "PATH", lock)
    directory = tmp_path / "identity"
    directory.mkdir()
    with keys.locked(directory):
        assert lock.exists()
        keys.write_new(directory / "key.pem", b"1", OWN_UID)
    assert not lock.exists()


def test_a_directory_and_its_parents_are_created_and_private(tmp_path: Path) -> None:
    directory = tmp_path / "messenger" / "identity"
    keys.make_directory(directory, OWN_UID)
    keys.make_directory(directory, OWN_UID)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_owner_is_not_changed_through_a_link_that_replaces_a_new_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, directory = tmp_path / "victim", tmp_path / "identity"
    victim.mkdir()
    mkdir = Path.mkdir

    def make_and_swap(self: Path, *arguments: Any, **named: Any) -> None:
        mkdir(self, *arguments, **named)
        self.rename(tmp_path / "moved")
        self.symlink_to(victim)

    monkeypatch.setattr(Path, "mkdir", make_and_swap)
    given_away = []
    monkeypatch.setattr(os, "fchown", lambda descriptor, *_: given_away.append(descriptor))
    with pytest.raises(KeyFileError):
        keys.make_directory(directory, 1001)
    assert given_away == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_keys_can_be_written_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    path = keys.key_path(tmp_path, NAME)
    keys.write_new(path, b"first", OWN_UID, {tmp_path / "crt": b"its certificate"})
    assert path.read_bytes() == b"first"
    with pytest.raises(KeyFileError, match="already exists; use --force"):
        keys.write_new(path, b"second", OWN_UID)
    assert files_in(tmp_path) == {path.name: b"first", "crt": b"its certificate"}


def test_a_failure_on_a_file_system_without_hard_links_leaves_no_empty_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(KeyFileError, match="Operation not permitted"):
        keys.write_new(keys.key_path(tmp_path, NAME), b"first", OWN_UID)
    assert files_in(tmp_path) == {}


def test_a_named_pipe_is_rejected_as_a_key_file_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key.pem")
    with pytest.raises(KeyFileError, match="it is a named pipe, not a regular file"):
        keys.read_private_key(tmp_path / "key.pem")


def test_the_hint_for_an_own_unreadable_key_is_chmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "my key.pem"
    path.touch(0o000)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KeyFileError) as caught:
        keys.read_private_key(path)
    assert caught.value.hint == f"run chmod 600 '{path}'"


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


def test_no_key_is_written_if_a_directory_is_in_the_place_of_its_certificate(tmp_path: Path) -> None:
    path, certificate = keys.key_path(tmp_path, NAME), keys.certificate_path(tmp_path, NAME)
    certificate.mkdir()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: keys.write_new(path, b"1", OWN_UID, {certificate: b"2"}),
        lambda: keys.replace_key(tmp_path, NAME, b"1", OWN_UID, {certificate: b"2"}),
    )
    for attempt in attempts:
        with pytest.raises(KeyFileError, match=r"crt\.pem' is a directory, not a regular file; move it away"):
            attempt()
    assert list(tmp_path.iterdir()) == [certificate]


def test_the_hint_for_a_missing_key_names_other_keys_in_the_directory(tmp_path: Path) -> None:
    keys.key_path(tmp_path, NAME).touch()
    with pytest.raises(KeyFileError) as caught:
        keys.read_private_key(keys.key_path(tmp_path, IdentityName("alcie._device.example.test")))
    assert caught.value.hint.startswith(f"'{tmp_path}' has a key of {NAME}: is IDENTITY_NAME right? If so, create")


def test_the_hint_names_crypto_path_if_the_default_directory_is_missing() -> None:
    if Path("/identity").exists():
        pytest.fail("this test needs a system without the directory /identity")
    with pytest.raises(KeyFileError, match="set CRYPTO_PATH to"):
        keys.read_private_key(keys.key_path(Path("/identity"), NAME))


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    put_keys(tmp_path, current=b"current", previous=(b"older",))
    before = files_in(tmp_path)
    too_much = {tmp_path / "companion": b"x" * 200}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(KeyFileError, match="File too large"):
            keys.write_new(tmp_path / "new", b"1", OWN_UID, too_much)
        with pytest.raises(KeyFileError, match="File too large"):
            keys.replace_key(tmp_path, NAME, b"new", OWN_UID, too_much)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_in(tmp_path) == before
