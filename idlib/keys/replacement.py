"""Replaces a device's private key, and keeps the previous ones."""

import os
from collections.abc import Mapping
from pathlib import Path

from idlib.commands import command
from idlib.errors import KeyFileError, quoted
from idlib.keys.faults import kind_instead_of_a_key, obstruction
from idlib.keys.paths import key_path, previous_key_paths, rotation_path
from idlib.keys.reading import read_file
from idlib.keys.writing import NO_COMPANIONS, replace_all
from idlib.names import IdentityName


def replace_key(
    crypto_path: Path, name: IdentityName, data: bytes, uid: int, companions: Mapping[Path, bytes] = NO_COMPANIONS
) -> None:
    """Replace the current private key, which becomes the first previous key; call this while `locked`.

    Older previous keys move up by one number, and the fourth is deleted. If the process is killed, either the old or
    the new key is in place, and the next call continues.

    Args:
        crypto_path: The directory of the key files.
        name: The device.
        data: The new key in PEM form.
        uid: The owner's user ID, if this process is allowed to change the owner.
        companions: More files that are written after it, such as its certificate.

    Raises:
        KeyFileError: A file cannot be read or written; the old key is still in place.
    """
    path, previous = key_path(crypto_path, name), previous_key_paths(crypto_path, name)
    kind = kind_instead_of_a_key(path)
    if kind is not None:
        raise obstruction(path, kind)
    # Each key once, so that a key that a killed call has already copied does not push out an older one.
    kept = list(dict.fromkeys(read_file(old) for old in (path, *previous) if os.path.lexists(old)))
    oldest_first = reversed(list(zip(previous, kept, strict=False)))
    replace_all({**dict(oldest_first), path: data, **companions}, uid)


def require_no_rotation(crypto_path: Path, name: IdentityName) -> None:
    """Check that no rotation of the key is under way; call this while `locked`, before the key is replaced.

    Args:
        crypto_path: The directory of the key files.
        name: The device.

    Raises:
        KeyFileError: One is under way: it would go on with the records and keys that it knows.
    """
    path = rotation_path(crypto_path, name)
    if os.path.lexists(path):
        rotate = command("identity rotate")
        raise KeyFileError(
            f"a rotation of the key is under way ({quoted(path)})",
            f"finish it with {rotate}, give it up with {rotate} --abort, or replace a stolen or lost key with"
            f" {rotate} start --compromised",
        )
