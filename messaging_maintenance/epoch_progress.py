"""How far the mark of epoch keys has come, as a file beside the key files, which survives a power cut at any moment."""

import json
import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from idlib import keys
from idlib.errors import KeyFileError, quoted
from idlib.settings import Settings
from messaging_maintenance.rotation.schedule import Instant
from messaging_maintenance.rotation.state import instant_from

_FORMAT: Final = 1
_NUMBER_OF_FIELDS: Final = 4
_MAX_TTL: Final = 2**31 - 1


class Step(StrEnum):
    """What was done last."""

    PUBLISHED = "published"
    """Every name server has the epoch records; the certificate is not marked yet."""
    UNMARKED = "unmarked"
    """Every name server has the certificate without the mark; the epoch records are still there."""


@dataclass(frozen=True, slots=True)
class EpochProgress:
    """A step, and for how long caches may have what was there before.

    Args:
        step: The step.
        since: When it was done.
        ttl: For how many seconds caches may have what was there before.

    Raises:
        ValueError: A number is out of its range.
    """

    step: Step
    since: Instant
    ttl: int

    def __post_init__(self) -> None:
        if not 0 <= self.ttl <= _MAX_TTL:
            raise ValueError(f"a TTL of {self.ttl}")
        if not (math.isfinite(self.since.wall) and math.isfinite(self.since.up)):
            raise ValueError("a time that is not a number")

    def to_json(self) -> bytes:
        """Return the contents of the file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, contents: bytes, source: Path) -> "EpochProgress":
        """Return the progress in the contents of a file.

        Args:
            contents: As `to_json` wrote them.
            source: The file that they come from, for error messages.

        Raises:
            KeyFileError: They are something else.
        """
        try:
            return _progress_from(json.loads(contents))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise KeyFileError(
                f"{quoted(source)} cannot be read: it is damaged", "remove it, so that the waiting time begins again"
            ) from error


class ProgressFile:
    """Where the progress is kept.

    Args:
        settings: From the environment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = keys.epoch_progress_path(settings.crypto_path, settings.identity_name)

    def read(self) -> EpochProgress | None:
        """Return the progress; None if nothing is under way.

        Raises:
            KeyFileError: The file cannot be read, or is damaged.
        """
        try:
            contents = keys.read_file(self._path)
        except KeyFileError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return EpochProgress.from_json(contents, self._path)

    def write(self, progress: EpochProgress | None) -> None:
        """Write the progress durably.

        Args:
            progress: None if nothing is under way any longer.

        Raises:
            KeyFileError: It cannot be written.
        """
        with keys.locked(self._settings.crypto_path):
            if progress is None:
                keys.remove(self._path)
            else:
                keys.replace(self._path, progress.to_json(), self._settings.app_uid)


def _progress_from(fields: dict[str, Any]) -> EpochProgress:
    if fields["format"] != _FORMAT or len(fields) != _NUMBER_OF_FIELDS:
        raise ValueError("another format")
    return EpochProgress(Step(fields["step"]), instant_from(fields["since"]), int(fields["ttl"]))
