"""Base64url as RFC 7515, section 2, has it, and not a character more: one text for each octet string."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(octets: bytes) -> str:
    """Return the octets in base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the octets that `encode` makes this very text of.

    Raises:
        ValueError: The text has padding, white space, a character outside the alphabet, an impossible length, or bits
            set that belong to no octet (RFC 4648, section 3.5).
    """
    octets = urlsafe_b64decode(text + "==")
    if encode(octets) != text:
        raise ValueError("a part is not base64url without padding")
    return octets
