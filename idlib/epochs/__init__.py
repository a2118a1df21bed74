"""Epoch keys: short-lived keys that messages are encrypted to, so that old messages stay closed if an identity leaks.

Without I/O: `keys` has the keys themselves, `record` what is published about them, `schedule` when a device creates and
destroys them, `selection` which one a sender uses. `encryption_keys` asks DNS for a recipient's key. On the disk:
`halves` has a device's private halves, `destroyed` the list of those that it has destroyed, `spool` the records to
publish.
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
