"""Moves private keys between their places: the next key, the current key, the previous keys.

Each move writes a key to its new place before it leaves the old one, so that a program that reads the places in this
order never misses a key, and a move that is interrupted can be repeated.
"""

from pathlib import Path

from idlib.errors import KeyFileError
from idlib.keys import (
    certificate_path,
    key_path,
    next_certificate_path,
    next_key_path,
    previous_key_paths,
    read_file,
    read_private_key,
    remove,
    replace_all,
    replace_key,
)
from idlib.names import IdentityName


def write_next_key(crypto_path: Path, name: IdentityName, key: bytes, uid: int) -> None:
    """Write the next key; one that exists is replaced, and its certificate removed. Call this while `locked`.

    Args:
        crypto_path: The directory of the key files.
        name: The device.
        key: In PEM form.
        uid: The owner's user ID, if this process is allowed to change the owner.

    Raises:
        KeyFileError: It cannot be written.
    """
    remove(next_certificate_path(crypto_path, name))
    replace_all({next_key_path(crypto_path, name): key}, uid)


def promote_next_key(crypto_path: Path, name: IdentityName, uid: int) -> None:
    """Make the next key and its certificate the current ones; call this while `locked`.

    The current key becomes the first previous key. If there is no next key, the move was made already.

    Args:
        crypto_path: The directory of the key files.
        name: The device.
        uid: The owner's user ID, if this process is allowed to change the owner.

    Raises:
        KeyFileError: A file cannot be read or written.
    """
    next_key, next_certificate = next_key_path(crypto_path, name), next_certificate_path(crypto_path, name)
    if not next_key.exists():
        remove(next_certificate)
        return
    key = read_file(next_key)
    certificate = {certificate_path(crypto_path, name): read_file(next_certificate)}
    current = key_path(crypto_path, name)
    if current.exists() and read_file(current) == key:
        # An earlier call was interrupted after it had replaced the key.
        replace_all(certificate, uid)
    else:
        replace_key(crypto_path, name, key, uid, certificate)
    # The key first: a next key without its certificate would make a repeated call fail.
    remove(next_key, next_certificate)


def retire_next_key(crypto_path: Path, name: IdentityName, uid: int) -> None:
    """Make the next key the first previous key; call this while `locked`. Without a next key, nothing changes.

    Args:
        crypto_path: The directory of the key files.
        name: The device.
        uid: The owner's user ID, if this process is allowed to change the owner.

    Raises:
        KeyFileError: A file cannot be read or written.
    """
    next_key = next_key_path(crypto_path, name)
    if next_key.exists():
        places = previous_key_paths(crypto_path, name)
        kept = dict.fromkeys(read_file(path) for path in (next_key, *places) if path.exists())
        replace_all(dict(reversed(list(zip(places, kept, strict=False)))), uid)
    remove(next_key, next_certificate_path(crypto_path, name))


def destroy_previous_key(crypto_path: Path, name: IdentityName, public_key: bytes) -> None:
    """Remove a previous key; call this while `locked`. If it is not there, nothing changes.

    Args:
        crypto_path: The directory of the key files.
        name: The device.
        public_key: As a SubjectPublicKeyInfo.

    Raises:
        KeyFileError: A file cannot be removed.
    """
    for path in previous_key_paths(crypto_path, name):
        try:
            is_it = path.exists() and read_private_key(path).public.der == public_key
        except KeyFileError:
            # Another key, which is damaged.
            continue
        if is_it:
            remove(path)
