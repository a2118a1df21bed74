"""A worker's epoch keys: read from their files, and dropped when the receiver has destroyed them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from idlib.envelope import NO_EPOCH_KEYS
from idlib.errors import IdlibError
from idlib.names import IdentityName
from messaging_receiver.workers.key_ring import READ_AGAIN_SECONDS

if TYPE_CHECKING:
    # Imported only if the device has epoch keys, because it takes memory.
    from idlib.epochs import EpochPrivateKey


class EpochRing:
    """The device's living epoch keys, by their ids.

    Args:
        directory: EPOCH_PATH.
        name: The device's name.
        clock: Seconds that never go back.
    """

    def __init__(self, directory: Path, name: IdentityName, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._name = name
        self._clock = clock
        self._keys: Mapping[str, EpochPrivateKey] = NO_EPOCH_KEYS
        self._wanted: tuple[str, ...] = ()
        self._read_again_at = 0.0

    @property
    def keys(self) -> "Mapping[str, EpochPrivateKey]":
        """The keys that are here."""
        return self._keys

    def use(self, ids: Sequence[str]) -> None:
        """Drop all other keys, and read those that are missing, if their files can be read.

        Args:
            ids: The ids of the living keys.
        """
        now = self._clock()
        wanted = tuple(ids)
        if wanted != self._wanted:
            self._wanted = wanted
            self._keys = {known: key for known, key in self._keys.items() if known in wanted}
        elif now < self._read_again_at:
            return
        if len(self._keys) < len(self._wanted):
            self._read_again_at = now + READ_AGAIN_SECONDS
            self._keys = {**self._keys, **self._read()}

    def _read(self) -> "dict[str, EpochPrivateKey]":
        from idlib.epochs.halves import Halves

        halves = Halves(self._directory, self._name)
        found = {}
        for key_id in self._wanted:
            if key_id not in self._keys:
                try:
                    kept = halves.read(key_id)
                except IdlibError:
                    # The receiver reads the same files, and logs what is wrong with them.
                    continue
                if kept is not None:
                    found[key_id] = kept.key
        return found
