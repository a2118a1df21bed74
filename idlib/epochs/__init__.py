"""Epoch keys: short-lived keys that messages are encrypted to, so that old messages stay closed if an identity leaks.

`keys` has the keys themselves; no I/O.
"""

from idlib.epochs.keys import PUBLIC_OCTETS, SEED_OCTETS, EpochPrivateKey, EpochPublicKey

__all__ = ["PUBLIC_OCTETS", "SEED_OCTETS", "EpochPrivateKey", "EpochPublicKey"]
