import errno
import os
import resource
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from idlib import keys
from idlib.errors import KeyFileError
from tests.idlib.identity_files import NAME, OWN_UID, files_in, put_keys


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.binary(max_size=2000))
def test_what_is_written_is_read(tmp_path: Path, data: bytes) -> None:
    keys.replace(tmp_path / "file", data, OWN_UID)
    assert keys.read_file(tmp_path / "file") == data


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
