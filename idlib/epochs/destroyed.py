"""The list of destroyed epoch keys, which says whether a message came too late or was never for this device's keys.

The file NAME.destroyed in EPOCH_PATH has one line for each key: its id, and the time at which it was due to be
destroyed. It holds nothing that is secret. One process at a time may write it; others may read it.
"""

import re
from pathlib import Path
from typing import Final

from idlib.epochs.hints import directory_hint
from idlib.errors import StoreError, quoted
from idlib.files import read_regular, replace_durably
from idlib.keys.paths import file_stem
from idlib.names import IdentityName

KEPT_SECONDS: Final = 60 * 24 * 60 * 60
MAX_DESTROYED: Final = 4096
_LINE: Final = re.compile(r"([0-9A-Za-z_-]{22}) ([0-9]{1,10})", re.ASCII)
_MAX_BYTES: Final = 2 * MAX_DESTROYED * 34


class DestroyedKeys:
    """The epoch keys of a device that were destroyed in the last 60 days, at most 4096.

    Args:
        directory: EPOCH_PATH.
        name: The device.
    """

    def __init__(self, directory: Path, name: IdentityName) -> None:
        self._path = directory / f"{file_stem(name)}.destroyed"
        self._until: dict[str, int] = {}
        # What changes when the file is replaced; None if it is to be read anyway.
        self._state: tuple[int, ...] | None = None

    def ids(self) -> frozenset[str]:
        """Return the ids of the destroyed keys; none if the list cannot be read, because no key needs it."""
        try:
            return frozenset(self._known())
        except StoreError:
            return frozenset()

    def until(self, key_id: str) -> int | None:
        """Return when a key was due to be destroyed, in seconds since the epoch; None if it is not on the list.

        Args:
            key_id: The key's id, as a message states it.

        Raises:
            StoreError: The list cannot be read.
        """
        return self._known().get(key_id)

    def add(self, key_id: str, until: int) -> None:
        """Add a key, durably; it is on the list before its half is destroyed.

        Args:
            key_id: The key's id.
            until: When it is due to be destroyed, in seconds since the epoch.

        Raises:
            StoreError: The list cannot be written; it is unchanged.
        """
        known = self._read()
        if key_id not in known:
            self._write({**known, key_id: until})

    def forget(self, now: int) -> None:
        """Remove the keys that were destroyed more than 60 days ago.

        Args:
            now: The time, in seconds since the epoch, by a clock that is trusted.

        Raises:
            StoreError: The list cannot be written; it is unchanged.
        """
        known = self._read()
        kept = {key_id: until for key_id, until in known.items() if until > now - KEPT_SECONDS}
        if len(kept) < len(known):
            self._write(kept)

    def _known(self) -> dict[str, int]:
        """Return what is in the file, which is read again if another process has replaced it."""
        return self._until if self._state is not None and self._state == self._look() else self._read()

    def _read(self) -> dict[str, int]:
        # Checked before the file is read, so that a change in between is noticed at the next call.
        state = self._look()
        try:
            lines = read_regular(self._path, _MAX_BYTES).decode("ascii", "replace").splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            self._state = None
            raise self._error("read", error) from error
        self._until = {found[1]: int(found[2]) for line in lines if (found := _LINE.fullmatch(line))}
        self._state = state
        return self._until

    def _look(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def _write(self, known: dict[str, int]) -> None:
        newest = dict(sorted(known.items(), key=lambda item: item[1])[-MAX_DESTROYED:])
        try:
            replace_durably(self._path, "".join(f"{key_id} {until}\n" for key_id, until in newest.items()).encode())
        except OSError as error:
            raise self._error("written", error) from error
        finally:
            # What is on the disk now is read again.
            self._state = None

    def _error(self, participle: str, error: OSError) -> StoreError:
        return StoreError(
            f"the list of destroyed epoch keys, {quoted(self._path)}, cannot be {participle}: {error.strerror}",
            directory_hint("EPOCH_PATH", self._path.parent, error),
        )
