"""What to do if a directory of epoch keys or records cannot be used."""

import errno
from pathlib import Path
from typing import Final

from idlib.errors import permission_hint

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNFIT: Final = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EROFS})


def directory_hint(variable: str, directory: Path, error: OSError) -> str:
    """Return what gives the receiver a directory that it can write to.

    Args:
        variable: The environment variable that names it.
        directory: The directory.
        error: Why it cannot be used.
    """
    if error.errno in _FULL:
        return "free space on the disk"
    advice = f"set {variable} to a directory that this user can write to"
    return advice if error.errno in _UNFIT else f"{advice}, or {permission_hint(directory, 'messaging_receiver')}"
