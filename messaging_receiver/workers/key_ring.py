"""A worker's private keys: read from their files, and dropped when the receiver no longer uses them."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.errors import KeyFileError
from idlib.keys import key_path, next_key_path, previous_key_paths, read_private_key
from idlib.names import IdentityName

READ_AGAIN_SECONDS: Final = 1.0


def fingerprint(key: PrivateKey) -> bytes:
    """Return the SHA-256 digest of a private key's public key, which tells the key without disclosing it.

    Args:
        key: The private key.
    """
    return hashlib.sha256(key.public.der).digest()


class KeyRing:
    """The device's private keys that the receiver uses, by their fingerprints.

    Args:
        crypto_path: The directory of the key files.
        name: The device's name.
        clock: Seconds that never go back.
    """

    def __init__(self, crypto_path: Path, name: IdentityName, clock: Callable[[], float] = time.monotonic) -> None:
        # In the order in which a rotation moves keys, so that a key that moves meanwhile is not missed.
        self._paths = (
            next_key_path(crypto_path, name),
            key_path(crypto_path, name),
            *previous_key_paths(crypto_path, name),
        )
        self._clock = clock
        self._keys: dict[bytes, PrivateKey] = {}
        self._wanted: tuple[bytes, ...] = ()
        self._read_again_at = 0.0

    @property
    def keys(self) -> tuple[PrivateKey, ...]:
        """The keys that the receiver uses and that are here, in its order."""
        return tuple(self._keys[wanted] for wanted in self._wanted if wanted in self._keys)

    @property
    def is_complete(self) -> bool:
        """Whether all keys that the receiver uses are here."""
        return len(self._keys) == len(self._wanted)

    def use(self, fingerprints: Sequence[bytes]) -> None:
        """Drop all other keys, and read those that are missing, if their files can be read.

        Args:
            fingerprints: The fingerprints of the keys to use, in the order in which they are tried.
        """
        now = self._clock()
        wanted = tuple(fingerprints)
        if wanted != self._wanted:
            self._wanted = wanted
            self._keys = {known: key for known, key in self._keys.items() if known in wanted}
        elif now < self._read_again_at:
            return
        if not self.is_complete:
            self._read_again_at = now + READ_AGAIN_SECONDS
            self._read()

    def _read(self) -> None:
        for path in self._paths:
            try:
                key = read_private_key(path)
            except KeyFileError:
                # The receiver reads the same files, and logs what is wrong with them.
                continue
            known = fingerprint(key)
            if known in self._wanted:
                self._keys[known] = key
