"""Errors about files that cannot be written, and paths that are not free."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from idlib.errors import KeyFileError, permission_hint, quoted
from idlib.files import kind_of_obstacle

SERVICE: Final = "maintenance"


def refusal_to_overwrite(path: Path) -> KeyFileError:
    """Return an error that a key already exists, or that something other than a file is in its place."""
    kind = kind_instead_of_a_key(path)
    if kind is not None:
        return obstruction(path, kind)
    previous = f"{path.name.removesuffix('.pem')}.previous.pem"
    return KeyFileError(
        f"{quoted(path)} already exists",
        f"use --force to replace it (the old key is kept as {previous})",
    )


def obstruction(path: Path, kind: str) -> KeyFileError:
    """Return an error that something other than a file is in the place of one.

    Args:
        path: The path.
        kind: What it is.
    """
    return KeyFileError(f"{quoted(path)} is {kind}", "move it away")


def kind_instead_of_a_key(path: Path) -> str | None:
    """Return what a path is instead of a key file; None if it is a file, or does not exist.

    Args:
        path: The path.
    """
    if os.path.islink(path) and not os.path.exists(path):
        return "a broken symbolic link"
    return kind_of_obstacle(path)


@contextmanager
def os_errors_reported(action: str, path: Path, directory: Path | None = None) -> Iterator[None]:
    """Raise a `KeyFileError` instead of a system's error.

    Args:
        action: What is done with the file, as a verb.
        path: The file.
        directory: Its directory, if the hint may be to change its owner or mode.

    Raises:
        KeyFileError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        if directory is not None and isinstance(error, PermissionError):
            # The published programs ran as root, and left files that no other user can read.
            hint = permission_hint(directory, SERVICE)
        else:
            hint = "CRYPTO_PATH must be a directory that this user can write to, on a disk with free space"
        raise KeyFileError(f"cannot {action} {quoted(path)}: {error.strerror}", hint) from error
