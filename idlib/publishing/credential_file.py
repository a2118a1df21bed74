"""Reads files that hold a credential for DNS: private by mode, small, and never quoted in an error."""

import os
import re
import shlex
import stat
import struct
from pathlib import Path
from typing import Final

from idlib.errors import CredentialError, quoted
from idlib.files import open_regular

_MAX_BYTES: Final = 16_384
# What deSEC makes its tokens of, now and before.
_TOKEN: Final = re.compile("[A-Za-z0-9_-]+")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# The form of an access list, as linux/posix_acl_xattr.h defines it: a version, then entries.
_ACCESS_LIST: Final = "system.posix_acl_access"
_HEADER_BYTES: Final = 4
_ENTRY: Final = struct.Struct("<HHI")
_NAMED_USER: Final = 0x02
# The owner, and the mask, which gives no one anything by itself.
_NOT_OTHERS: Final = frozenset({0x01, 0x10})


def read_credential(path: Path) -> str:
    """Return the text of a file that only its owner may read or write.

    Args:
        path: The file.

    Raises:
        CredentialError: It is missing, unreadable, too large, open to other users, or not text.
    """
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            is_open_to_others = bool(mode & _OTHERS) and not _is_for_this_user_only(file.fileno())
            contents = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise CredentialError(
            f"there is no {quoted(path)}", "put the credential there, readable only by you"
        ) from error
    except PermissionError as error:
        raise CredentialError(f"cannot read {quoted(path)}: {error.strerror}", "check its owner and mode") from error
    except OSError as error:
        raise CredentialError(f"cannot read {quoted(path)}: {error.strerror}", "put the right file there") from error
    if is_open_to_others:
        raise CredentialError(
            f"other users can read or write the credential {quoted(path)} (mode {stat.S_IMODE(mode):04o})",
            f"run chmod 600 {shlex.quote(str(path))}, and replace the credential if others may have read it",
        )
    if len(contents) > _MAX_BYTES:
        raise CredentialError(f"{quoted(path)} is too large for a credential", "put the right file there")
    try:
        return contents.decode("ascii")
    except UnicodeDecodeError as error:
        raise CredentialError(f"{quoted(path)} is not text", "put the right file there") from error


def _is_for_this_user_only(descriptor: int) -> bool:
    """Return whether only root and this user can read a file because of its access list, as systemd passes credentials.

    Then the group's part of the mode is the most that anyone in the list may do. Source: acl(5).
    """
    try:
        entries = list(_ENTRY.iter_unpack(os.getxattr(descriptor, _ACCESS_LIST)[_HEADER_BYTES:]))
    except (OSError, struct.error):
        # There is no list.
        return False
    return os.fstat(descriptor).st_uid in {0, os.geteuid()} and all(
        tag in _NOT_OTHERS or not permissions or (tag == _NAMED_USER and number in {0, os.geteuid()})
        for tag, permissions, number in entries
    )


def read_secret(path: Path) -> str:
    """Return the one word in a file: a token.

    Args:
        path: The file.

    Raises:
        CredentialError: It cannot be read, or does not have exactly one word of letters, digits, - and _.
    """
    words = read_credential(path).split()
    if len(words) != 1 or not _TOKEN.fullmatch(words[0]):
        raise CredentialError(
            f"{quoted(path)} does not hold exactly one token",
            "put only the token there, without a name before it and without quotation marks",
        )
    return words[0]
