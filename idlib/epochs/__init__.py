"""Epoch keys: short-lived keys that messages are encrypted to, so that old messages stay closed if an identity leaks.

`keys` has the keys themselves; no I/O.
"""

from idlib.epochs.keys import (
    KEY_ID_OCTETS,
    PUBLIC_OCTETS,
    SEED_OCTETS,
    EpochPrivateKey,
    EpochPublicKey,
    IdentifiedEpochKey,
)

__all__ = [
    "KEY_ID_OCTETS",
    "PUBLIC_OCTETS",
    "SEED_OCTETS",
    "EpochPrivateKey",
    "EpochPublicKey",
    "IdentifiedEpochKey",
]
