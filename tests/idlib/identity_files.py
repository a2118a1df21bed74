"""Helpers that write and read an identity's files in the tests of keys."""

import os
from pathlib import Path

from idlib import keys
from idlib.names import IdentityName

NAME = IdentityName("alice._device.example.test")
OWN_UID = os.getuid()


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def put_keys(directory: Path, *, current: bytes, previous: tuple[bytes, ...]) -> None:
    keys.key_path(directory, NAME).write_bytes(current)
    for path, data in zip(keys.previous_key_paths(directory, NAME), previous, strict=False):
        path.write_bytes(data)
