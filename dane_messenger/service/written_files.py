"""Files that this program writes and may replace: each says so in its first line, with a checksum of the rest.

A file that someone has changed is neither replaced nor removed.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

from idlib.errors import ServiceError, quoted
from idlib.files import read_regular, replace_durably

_MODE: Final = 0o644
_MAX_BYTES: Final = 65_536
_FIRST_LINE: Final = "# Written by dane-messenger, which replaces it; for changes, run systemctl edit. SHA-256: "
_WRITTEN: Final = re.compile(re.escape(_FIRST_LINE).encode() + rb"([0-9a-f]{64})\n(.*)", re.DOTALL)


def check_replaceable(paths: list[Path]) -> None:
    """Check that files are missing, or are as this program has written them.

    Args:
        paths: The files.

    Raises:
        ServiceError: One is not.
    """
    for path in paths:
        if not is_replaceable(path):
            raise ServiceError(
                f"{quoted(path)} was changed, or was not written by this program",
                f"move your changes to what systemctl edit {path.name} opens, remove the file, and run this again",
            )


def is_replaceable(path: Path) -> bool:
    """Return whether a file is missing, or is as this program has written it; a masked unit is not.

    Args:
        path: The file.
    """
    try:
        written = _WRITTEN.fullmatch(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError:
        return False
    return written is not None and hashlib.sha256(written[2]).hexdigest().encode() == written[1]


def write(path: Path, text: str) -> bool:
    """Write a file atomically, with the line that says who has written it; return whether that changed anything.

    Args:
        path: The file; its directory is created if it is missing.
        text: What it is to hold.

    Raises:
        ServiceError: It cannot be written.
    """
    contents = text.encode()
    whole = f"{_FIRST_LINE}{hashlib.sha256(contents).hexdigest()}\n".encode() + contents
    try:
        if path.exists() and read_regular(path, _MAX_BYTES) == whole:
            return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_durably(path, whole, _MODE)
    except OSError as error:
        raise ServiceError(f"{quoted(path)} cannot be written: {error.strerror}", "check the disk") from error
    return True
