"""Creates the identifier of a message, `jti` (RFC 7519, section 4.1.7)."""

import os
from typing import Final

from idlib import base64url

_NEW_OCTETS: Final = 16


def new_identifier() -> str:
    """Return an identifier of 128 random bits for a message."""
    return base64url.encode(os.urandom(_NEW_OCTETS))
