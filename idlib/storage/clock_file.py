"""What the resident sender knows about the clock, in a small file beside the outbox."""

import json
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import read_regular, replace_durably

FILE_NAME: Final = "outbox_clock.json"
_MAX_OCTETS: Final = 65536
_LATEST_TIME: Final = "latest_time"
_BOOT: Final = "boot"


class ClockFile:
    """The file, written by one thread: a `ClockStore`. A damaged file counts as missing, so it needs no repair.

    Args:
        directory: The directory of the file; it must exist before anything is stored.

    Raises:
        StoreError: The file exists but cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._facts = self._read()

    @property
    def latest_time(self) -> int:
        """The recorded time, in seconds since the epoch; 0 if there is none."""
        try:
            return int(self._facts.get(_LATEST_TIME, "0"))
        except ValueError:
            return 0

    @property
    def boot(self) -> str:
        """The boot of the system in which the clock was last known to be set; empty if none was stored."""
        return self._facts.get(_BOOT, "")

    def get_fact(self, name: str) -> str | None:
        """Return the value stored under a name, or None if there is none.

        Args:
            name: The name of the fact.
        """
        return self._facts.get(name)

    def set_fact(self, name: str, value: str) -> None:
        """Store a value under a name, replacing an earlier one; it is durable when this returns.

        Args:
            name: The name of the fact.
            value: The value.
        """
        facts = {**self._facts, name: value}
        self._write(json.dumps(facts).encode("ascii"))
        self._facts = facts

    def note_time(self, now: int) -> None:
        """Record a time, unless a later one is recorded already.

        Args:
            now: Seconds since the epoch.
        """
        if now > self.latest_time:
            self.reset_time(now)

    def reset_time(self, now: int) -> None:
        """Replace the recorded time, even if it is later.

        Args:
            now: Seconds since the epoch.
        """
        self.set_fact(_LATEST_TIME, str(now))

    def trust_clock_since(self, boot: str) -> None:
        """Store the boot of the system in which the clock is known to be set.

        Args:
            boot: The unique identifier of this boot.
        """
        if boot != self.boot:
            self.set_fact(_BOOT, boot)

    def lower_floor(self, issued_at: int) -> bool:  # noqa: ARG002  # required by `ClockStore`
        """Return False: a sender remembers no messages, so it refuses none as repeats.

        Args:
            issued_at: A time, in seconds since the epoch.
        """
        return False

    def _read(self) -> dict[str, str]:
        try:
            facts = json.loads(read_regular(self._path, _MAX_OCTETS))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(
                f"{quoted(self._path)} cannot be read: {error.strerror}", "remove it, or make this user its owner"
            ) from error
        except (ValueError, RecursionError):
            return {}
        return {str(name): str(value) for name, value in facts.items()} if isinstance(facts, dict) else {}

    def _write(self, data: bytes) -> None:
        try:
            replace_durably(self._path, data)
        except OSError as error:
            raise StoreError(
                f"{quoted(self._path)} cannot be written: {error.strerror}",
                "check the free space on the disk and DATA_PATH",
            ) from error
