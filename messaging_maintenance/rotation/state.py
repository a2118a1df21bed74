"""The stage of a rotation, as a file beside the key files, which survives a power cut at any moment."""

import json
import math
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from idlib.errors import KeyFileError, MalformedRecordError, quoted
from idlib.keys import read_file, remove, rotation_path
from idlib.keys import replace as replace_file
from idlib.records import TlsaRecord, key_of
from idlib.settings import Settings
from messaging_maintenance.rotation.schedule import Instant, RunningTime

_FORMAT: Final = 1
_MAX_TTL: Final = 2**31 - 1
_HINT: Final = "restore it from a backup, or move it away if no rotation is under way"


class Stage(StrEnum):
    """How far a rotation has come."""

    REQUESTED = "requested"
    """The next key exists; a CA is being asked for its certificate."""
    PREPARED = "prepared"
    """The next key and its certificate exist; the record is being published."""
    PUBLISHED = "published"
    """Every name server has both records; the old key signs."""
    LOWERED = "lowered"
    """With a single record: every name server has the old record with a short TTL; the old key signs."""
    REPLACING = "replacing"
    """The new record is taking the place of the old one, and the new key that of the old one."""
    SWITCHING = "switching"
    """The new key is taking the place of the old one."""
    SWITCHED = "switched"
    """The new key signs; every name server has both records."""
    WITHDRAWN = "withdrawn"
    """Every name server has only one record; other private keys still open messages."""


class Way(StrEnum):
    """How one key follows the other."""

    OVERLAP = "overlap"
    """Both records are published for a while; no message is lost."""
    SINGLE = "single"
    """One record replaces the other, for peers that cannot read two."""
    COMPROMISED = "compromised"
    """The old record is removed at once, because its key was stolen or lost."""


@dataclass(frozen=True, slots=True)
class RotationState:
    """A rotation under way.

    Args:
        stage: How far it has come.
        way: How one key follows the other.
        since: When the stage was reached; waiting times count from it.
        ttl: For how many seconds caches may keep the records of the stage before.
        old: The data of the old key's record; None if that key was lost.
        new: The data of the new key's record; None while there is no certificate.
        leaving: Keys that the device keeps only to open messages until the rotation ends, each as a
            SubjectPublicKeyInfo.
        running: For how long the system has run at this stage, if that was noted.

    Raises:
        MalformedRecordError: A record has no key.
        ValueError: A number is out of its range.
    """

    stage: Stage
    way: Way
    since: Instant
    ttl: int
    old: bytes | None
    new: bytes | None
    leaving: tuple[bytes, ...] = ()
    running: RunningTime | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ttl <= _MAX_TTL:
            raise ValueError(f"a TTL of {self.ttl}")
        times = [self.since] if self.running is None else [self.since, self.running.until]
        if not all(math.isfinite(number) for at in times for number in (at.wall, at.up)):
            raise ValueError("a time that is not a number")
        for record in (self.old, self.new):
            if record is not None and key_of(record) is None:
                raise MalformedRecordError("a record has no key")
        if self.new is None and self.stage is not Stage.REQUESTED:
            raise ValueError("the new record is missing")
        if self.old is None and self.way is not Way.COMPROMISED:
            raise ValueError("the old record is missing")

    @property
    def old_record(self) -> TlsaRecord | None:
        """The old key's record."""
        return None if self.old is None else TlsaRecord.from_rdata(self.old)

    @property
    def new_record(self) -> TlsaRecord | None:
        """The new key's record."""
        return None if self.new is None else TlsaRecord.from_rdata(self.new)

    @property
    def old_key(self) -> bytes | None:
        """The old public key as a SubjectPublicKeyInfo."""
        return None if self.old is None else key_of(self.old)

    @property
    def new_key(self) -> bytes | None:
        """The new public key as a SubjectPublicKeyInfo."""
        return None if self.new is None else key_of(self.new)

    def running_at(self, now: Instant) -> RunningTime:
        """Return for how long the system has run at this stage.

        Args:
            now: The present.
        """
        return (self.running or RunningTime(0.0, self.since)).at(now)

    def waited(self, now: Instant) -> float:
        """Return how many seconds of a waiting time have passed at least.

        Args:
            now: The present.
        """
        return max(now.seconds_since(self.since), self.running_at(now).seconds)

    def at(self, stage: Stage, since: Instant, **changes: Any) -> "RotationState":
        """Return the state of a later stage.

        Args:
            stage: The stage.
            since: When it was reached.
            changes: Other fields that change with it.
        """
        return replace(self, stage=stage, since=since, running=None, **changes)

    def to_json(self) -> bytes:
        """Return the contents of the file."""
        fields: dict[str, Any] = {"format": _FORMAT, **asdict(self)}
        for name in ("old", "new"):
            fields[name] = None if fields[name] is None else fields[name].hex()
        fields["leaving"] = [key.hex() for key in self.leaving]
        if self.running is None:
            # Releases that do not know it can then read the file.
            del fields["running"]
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, contents: bytes, source: Path) -> "RotationState":
        """Return the state in the contents of a file.

        Args:
            contents: As `to_json` wrote them.
            source: The file that they come from, for error messages.

        Raises:
            KeyFileError: They are something else, or from a newer release.
        """
        try:
            fields = json.loads(contents)
            _require_format(fields.pop("format"), source)
            for name in ("old", "new"):
                fields[name] = None if fields[name] is None else bytes.fromhex(fields[name])
            fields["leaving"] = tuple(map(bytes.fromhex, fields["leaving"]))
            since = instant_from(fields.pop("since"))
            if "running" in fields:
                running = fields["running"]
                fields["running"] = RunningTime(float(running["seconds"]), instant_from(running["until"]))
            fields["stage"], fields["way"] = Stage(fields["stage"]), Way(fields["way"])
            fields["ttl"] = int(fields["ttl"])
            return cls(since=since, **fields)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            OverflowError,
            MalformedRecordError,
        ) as error:
            raise KeyFileError(f"{quoted(source)} cannot be read: it is damaged", _HINT) from error


class StateFile:
    """Where the state of a device's rotation is kept.

    Args:
        path: The file.
        uid: The owner's user ID, if this process is allowed to change the owner.
    """

    def __init__(self, path: Path, uid: int) -> None:
        self._path = path
        self._uid = uid

    def read(self) -> RotationState | None:
        """Return the state; None if no rotation is under way.

        Raises:
            KeyFileError: The file cannot be read, or is damaged.
        """
        try:
            contents = read_file(self._path)
        except KeyFileError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return RotationState.from_json(contents, self._path)

    def write(self, state: RotationState | None) -> None:
        """Write the state durably; call this while `idlib.keys.locked`.

        Args:
            state: None if the rotation is finished.

        Raises:
            KeyFileError: It cannot be written.
        """
        if state is None:
            remove(self._path)
        else:
            replace_file(self._path, state.to_json(), self._uid)


def state_file(settings: Settings) -> StateFile:
    """Return the file of the device's rotation.

    Args:
        settings: From the environment.
    """
    return StateFile(rotation_path(settings.crypto_path, settings.identity_name), settings.app_uid)


def instant_from(fields: dict[str, Any]) -> Instant:
    """Return the instant whose fields these are.

    Args:
        fields: As `dataclasses.asdict` returns them.

    Raises:
        TypeError: They are others.
        ValueError: One is not a number.
    """
    read = Instant(**fields)
    return Instant(float(read.wall), str(read.boot), float(read.up), bool(read.is_set))


def _require_format(release: object, source: Path) -> None:
    if isinstance(release, int) and release > _FORMAT:
        raise KeyFileError(
            f"{quoted(source)} is from a newer release", "use that release until the rotation is finished"
        )
    if release != _FORMAT:
        raise ValueError(f"format {release}")
