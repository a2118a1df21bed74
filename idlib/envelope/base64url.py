"""Strict base64url (RFC 7515, section 2): each byte string has exactly one text."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(octets: bytes) -> str:
    """Return the bytes in base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes for which `encode` returns exactly this text.

    Raises:
        ValueError: The text has padding, white space, a character outside the alphabet, an impossible length, or bits
            set that belong to no byte (RFC 4648, section 3.5).
    """
    octets = urlsafe_b64decode(text + "==")
    if encode(octets) != text:
        raise ValueError("a part is not base64url without padding")
    return octets
