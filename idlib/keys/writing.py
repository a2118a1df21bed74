"""Writes files atomically, with a private mode from the start, and removes them durably."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from idlib.files import DIRECTORY_MODE, FILE_MODE, kind_of_obstacle, make_durable
from idlib.keys.faults import obstruction, os_errors_reported, refusal_to_overwrite

_STAGED_PREFIX: Final = ".idlib-"
_STAGED_SUFFIX: Final = ".new"
# The errors of link(2) on FAT, exFAT and other file systems without hard links.
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_OTHERS: Final = 0o077
NO_COMPANIONS: Final[Mapping[Path, bytes]] = MappingProxyType({})


def make_directory(path: Path, uid: int) -> None:
    """Create the directory of the key files, with mode 0700, and its parents, unless it exists.

    Raises:
        KeyFileError: It cannot be created.
    """
    with os_errors_reported("create", path), suppress(FileExistsError):
        if not path.is_dir():
            path.mkdir(mode=DIRECTORY_MODE, parents=True)
            _give_away_directory(path, uid)


def write_new(path: Path, data: bytes, uid: int, companions: Mapping[Path, bytes] = NO_COMPANIONS) -> None:
    """Write a new file atomically, with mode 0600 from the start; call this while `locked`.

    Args:
        path: The file; a symbolic link counts as existing.
        data: All of its bytes.
        uid: The owner's user ID, if this process is allowed to change the owner.
        companions: More files in the same directory, written after it; existing ones are replaced.

    Raises:
        KeyFileError: The file already exists, or a file cannot be written; no file has changed.
    """
    with os_errors_reported("write", path, path.parent), ExitStack() as stack:
        _require_free(companions)
        temporary = stack.enter_context(_staged(path, data, uid))
        staged = [(stack.enter_context(_staged(other, contents, uid)), other) for other, contents in companions.items()]
        try:
            _put_in_place(temporary, path)
        except FileExistsError as error:
            raise refusal_to_overwrite(path) from error
        make_durable(path.parent)
        _move_into_place(staged)


def replace(path: Path, data: bytes, uid: int) -> None:
    """Write or replace a file atomically, with mode 0600 from the start; call this while `locked`.

    A symbolic link is replaced, not followed.

    Raises:
        KeyFileError: It cannot be written; no file has changed.
    """
    replace_all({path: data}, uid)


def replace_all(changes: Mapping[Path, bytes], uid: int) -> None:
    """Write or replace files of one directory in this order, each atomically; call this while `locked`.

    Args:
        changes: The contents of each file.
        uid: The owner's user ID, if this process is allowed to change the owner.

    Raises:
        KeyFileError: A file cannot be written; if it is for lack of space or permission, no file has changed.
    """
    first = next(iter(changes))
    with os_errors_reported("write", first, first.parent), ExitStack() as stack:
        _require_free(changes)
        # All data is on the disk before the first file changes, so that a full disk changes none.
        _move_into_place([(stack.enter_context(_staged(path, data, uid)), path) for path, data in changes.items()])


def remove(*paths: Path) -> None:
    """Remove files of one directory in this order, durably; a file that does not exist is skipped.

    Args:
        paths: The files; call this while `locked`.

    Raises:
        KeyFileError: A file cannot be removed.
    """
    for path in paths:
        with os_errors_reported("remove", path, path.parent):
            path.unlink(missing_ok=True)
            make_durable(path.parent)


def remove_unfinished(directory: Path) -> None:
    """Remove the unfinished files of a killed process; call this while `locked`.

    Args:
        directory: The directory of the key files.

    Raises:
        OSError: A file cannot be removed.
    """
    for leftover in directory.glob(f"{_STAGED_PREFIX}*{_STAGED_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def is_open_to_others(path: Path) -> bool:
    """Return whether other users can read or write a file, as on a file system without permissions.

    Raises:
        KeyFileError: Its mode cannot be read.
    """
    with os_errors_reported("read", path):
        return bool(path.stat().st_mode & _OTHERS)


def _require_free(paths: Iterable[Path]) -> None:
    """Raise an error if a path is not free for a file; otherwise the second write would fail after the first."""
    for path in paths:
        kind = kind_of_obstacle(path)
        if kind is not None:
            raise obstruction(path, kind)


@contextmanager
def _staged(path: Path, data: bytes, uid: int) -> Iterator[Path]:
    temporary = path.parent / f"{_STAGED_PREFIX}{os.urandom(8).hex()}{_STAGED_SUFFIX}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            _give_away(descriptor, uid)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    """Give a staged file its final name, if that is free.

    Raises:
        FileExistsError: The name is taken, perhaps by a symbolic link.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _reserve_and_replace(temporary, path)


def _reserve_and_replace(temporary: Path, path: Path) -> None:
    # An empty file reserves the name against other programs; the staged file replaces it.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE))
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _move_into_place(staged: list[tuple[Path, Path]]) -> None:
    for temporary, path in staged:
        temporary.replace(path)
        make_durable(path.parent)


def _give_away_directory(path: Path, uid: int) -> None:
    # By descriptor, not by path: a user who can write to the parent could put a symbolic link in its place meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give_away(descriptor, uid)
    finally:
        os.close(descriptor)


def _give_away(descriptor: int, uid: int) -> None:
    try:
        os.fchown(descriptor, uid, -1)
    except OSError as error:
        # Only root may do this, and not in every container; a user namespace may not have this user ID.
        if error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
