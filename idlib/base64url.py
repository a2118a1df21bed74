"""Strict base64url (RFC 7515, section 2): each byte string has exactly one text."""

from binascii import a2b_base64, b2a_base64
from typing import Final

# The padding that the decoder requires, and the last characters without bits that belong to no byte, by the number of
# characters after the last group of four.
_PADDING: Final = {0: "", 2: "==", 3: "="}
_LAST_CHARACTERS: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


def encode(octets: bytes) -> str:
    """Return the bytes in base64url without padding."""
    return b2a_base64(octets, newline=False).decode().rstrip("=").replace("+", "-").replace("/", "_")


def decode(text: str) -> bytes:
    """Return the bytes for which `encode` returns exactly this text.

    Raises:
        ValueError: The text has padding, white space, a character outside the alphabet, an impossible length, or bits
            set that belong to no byte (RFC 4648, section 3.5).
    """
    remainder = len(text) % 4
    if remainder == 1 or (remainder and text[-1] not in _LAST_CHARACTERS[remainder]):
        raise ValueError("a part of base64url has an impossible end")
    if "=" in text or "+" in text or "/" in text:
        raise ValueError("a part has a character outside base64url")
    # Two replacements take less than half the time of a translation table.
    return a2b_base64(text.replace("-", "+").replace("_", "/") + _PADDING[remainder], strict_mode=True)
