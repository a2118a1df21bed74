"""Lets only one program at a time take a step of a device's rotation."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from idlib.errors import KeyFileError, permission_hint, quoted
from idlib.files import open_regular
from idlib.keys import how_to_get_a_key, rotation_path
from idlib.settings import Settings
from idlib.system.file_lock import lock

_LOCK_SECONDS: Final = 10.0


@contextmanager
def alone(settings: Settings, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Exclude other programs that take a step of this device's rotation, or publish its records; do not nest calls.

    The lock on the key files is held only while they are written; a step also waits for name servers.

    Args:
        settings: From the environment.
        seconds: How long to wait for another program.

    Raises:
        KeyFileError: There is no directory of key files, or another program is taking a step.
    """
    path = rotation_path(settings.crypto_path, settings.identity_name).with_suffix(".lock")
    try:
        # The file is never removed: a program that waits for it would lock a file that others no longer see.
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise KeyFileError(f"there is no directory {quoted(path.parent)}", how_to_get_a_key()) from error
    except OSError as error:
        hint = permission_hint(path.parent, "maintenance")
        raise KeyFileError(f"cannot open {quoted(path)}: {error.strerror}", hint) from error
    try:
        with suppress(OSError):
            # Only root may do this, and not in every container.
            os.fchown(descriptor, settings.app_uid, -1)
        _lock(descriptor, seconds)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, seconds: float) -> None:
    try:
        lock(descriptor, seconds)
    except TimeoutError as error:
        raise KeyFileError(
            "another program is changing the key or the records of this device", "try again when it has ended"
        ) from error
