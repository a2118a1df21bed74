"""The envelope: signs a text and encrypts it to its recipient, and the reverse; no I/O.

docs/protocol.md defines the strict profile of JWS (RFC 7515) and JWE (RFC 7516). Nothing here uses DNS, files, MQTT or
the clock.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlib.envelope.interface import (
        NO_EPOCH_KEYS,
        Binding,
        Decrypted,
        SealedTo,
        UnverifiedMessage,
        UnverifiedReceipt,
        decrypt,
        encrypt,
        new_identifier,
        parse,
        parse_decrypted,
        parse_receipt,
        seal,
        seal_receipt,
        sign,
        sign_receipt,
        signing_key_of,
        verify,
        verify_receipt,
    )

__all__ = [
    "NO_EPOCH_KEYS",
    "Binding",
    "Decrypted",
    "SealedTo",
    "UnverifiedMessage",
    "UnverifiedReceipt",
    "decrypt",
    "encrypt",
    "new_identifier",
    "parse",
    "parse_decrypted",
    "parse_receipt",
    "seal",
    "seal_receipt",
    "sign",
    "sign_receipt",
    "signing_key_of",
    "verify",
    "verify_receipt",
]


def __getattr__(name: str) -> object:
    """Import everything when it is first used, so that a program that only signs starts fast."""
    if name in __all__:
        return getattr(import_module("idlib.envelope.interface"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
