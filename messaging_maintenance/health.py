"""What the last check by the resident maintenance service found, as a file beside the key files, and for `--health`."""

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from idlib import keys
from idlib.errors import ConfigurationError, ExitStatus, KeyFileError
from idlib.output import harmless
from idlib.settings import load
from messaging_maintenance.urgency import Urgency

_LOG = logging.getLogger("messaging_maintenance")

HEALTH_FILE_NAME: Final = "maintenance-health.json"
# Of publishing the epoch records, which is checked at other times.
EPOCH_HEALTH_FILE_NAME: Final = "maintenance-epochs.json"
_DAY_SECONDS: Final = 24 * 3600
# Checks are at most 18 hours apart.
_STALE_SECONDS: Final = 2 * _DAY_SECONDS
# New epoch records are published within minutes, unless a check that takes up to an hour is under way.
_LATE_SECONDS: Final = 5400


@dataclass(frozen=True, slots=True)
class Health:
    """What the last check found.

    Args:
        text: A line for people; it begins with `ok: ` if all is well.
        since: Since when there is a problem, in seconds since the epoch; the time of the check if there is none.
        checked: When the check ended, in seconds since the epoch.
        renewed: When the zone was last kept from being deleted, in seconds since the epoch; 0 for never.
        logged: When the problem was last logged, in seconds since the epoch; 0 for never.
        urgency: How urgent the problem is, if there is one.
        certificate_expiry: When the device's certificate expires, in seconds since the epoch; 0 if that is not known.
    """

    text: str
    since: float
    checked: float
    renewed: float = 0.0
    logged: float = 0.0
    urgency: Urgency = Urgency.SOON
    certificate_expiry: float = 0.0

    @property
    def is_ok(self) -> bool:
        """Whether all is well."""
        return self.text.startswith("ok: ")

    @property
    def is_healthy(self) -> bool:
        """Whether all is well, or the problem can wait."""
        return self.is_ok or self.urgency is Urgency.LATER


def print_health() -> ExitStatus:
    """Print what the last checks found, and return the exit status that says whether the service is healthy.

    It prints one line, and another one if both the identity and the epoch records have a problem.
    """
    try:
        directory = load(os.environ, {"CRYPTO_PATH"}).crypto_path
    except ConfigurationError as error:
        # The check may not know where to keep that it has failed.
        print(harmless(error.problems[0]))
        return ExitStatus.CONFIGURATION
    is_identity_healthy, text = _identity_health(directory)
    problem = _epoch_problem()
    if problem is None or not is_identity_healthy:
        print(harmless(text))
    if problem is not None:
        print(harmless(problem))
    return ExitStatus.OK if is_identity_healthy and problem is None else ExitStatus.CONFIGURATION


def is_healthy(directory: Path) -> bool:
    """Return whether the service is healthy, as `print_health` tells.

    Args:
        directory: Of the key files.
    """
    return _identity_health(directory)[0] and _epoch_problem() is None


def _identity_health(directory: Path) -> tuple[bool, str]:
    health = read_health(directory)
    if health is None and os.path.lexists(directory / HEALTH_FILE_NAME):
        return False, "the result of the last identity check cannot be read: look at the log"
    if health is None:
        return True, "ok: the identity has not been checked yet"
    age = time.time() - health.checked
    if health.is_healthy and age < -_DAY_SECONDS:
        return False, "the last identity check ended in the future: check the clock"
    if health.is_healthy and age > _STALE_SECONDS:
        return False, f"the last identity check ended {age / 3600:.0f} hours ago"
    prefix = "ok: a problem that is not urgent yet: " if health.is_healthy and not health.is_ok else ""
    return health.is_healthy, f"{prefix}{health.text}"


def _epoch_problem() -> str | None:
    """Return what is wrong with publishing the epoch records; None if nothing is, or if there are none to publish."""
    try:
        settings = load(os.environ, {"IDENTITY_NAME", "CRYPTO_PATH", "DNS_PUBLISH", "EPOCH_LENGTH", "EPOCH_SPOOL"})
        spool = settings.epoch_spool / f"{settings.identity_name}.epochs"
        written = spool.stat().st_mtime
    except (ConfigurationError, OSError):
        # The check of the identity reports a bad value.
        return None
    if settings.dns_publish is None:
        return None
    health = read_health(settings.crypto_path, EPOCH_HEALTH_FILE_NAME)
    if health is not None and not health.is_ok:
        return health.text
    age = time.time() - written
    if age > _LATE_SECONDS and (health is None or health.checked < written):
        return f"new epoch records have not been published for {age / 3600:.0f} hours: look at the log"
    if age > settings.epoch_length + _LATE_SECONDS:
        return (
            f"the receiver has left no new epoch records for {age / 3600:.0f} hours: look at its log; if EPOCH_KEYS is"
            f" off, remove {spool}"
        )
    return None


def problem_since(before: Health | None) -> float:
    """Return since when there is a problem, in seconds since the epoch.

    Args:
        before: What the check before has found.
    """
    # The clock may have been set back since then.
    return min(before.since, time.time()) if before is not None and not before.is_ok else time.time()


def renewed_at(before: Health | None) -> float:
    """Return when the zone was last kept from being deleted, in seconds since the epoch; 0 for never.

    Args:
        before: What the check before has found.
    """
    return 0.0 if before is None else before.renewed


def read_health(directory: Path, file_name: str = HEALTH_FILE_NAME) -> Health | None:
    """Return what the last check found; None if that is not known.

    Args:
        directory: Of the key files.
        file_name: Which check.
    """
    try:
        fields = json.loads(keys.read_file(directory / file_name))
        times = (float(fields["since"]), float(fields["checked"]), float(fields.get("renewed", 0)))
        urgency = Urgency(fields.get("urgency", Urgency.SOON))
        logged, expiry = float(fields.get("logged", 0)), float(fields.get("certificate_expiry", 0))
        return Health(str(fields["text"]), *times, logged, urgency, expiry)
    except (KeyFileError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def keep_health(directory: Path, health: Health, uid: int, file_name: str = HEALTH_FILE_NAME) -> None:
    """Keep what a check has found; if that is not possible, log why.

    Args:
        directory: Of the key files.
        health: What it has found.
        uid: The owner's user ID, if this process is allowed to change the owner.
        file_name: Which check.
    """
    contents = json.dumps(asdict(health)).encode()
    try:
        with keys.locked(directory):
            keys.replace(directory / file_name, contents, uid)
    except KeyFileError as error:
        _LOG.warning("The result of the identity check cannot be kept: %s", error)
