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
_DAY_SECONDS: Final = 24 * 3600
# Checks are at most 18 hours apart.
_STALE_SECONDS: Final = 2 * _DAY_SECONDS


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
    """

    text: str
    since: float
    checked: float
    renewed: float = 0.0
    logged: float = 0.0
    urgency: Urgency = Urgency.SOON

    @property
    def is_ok(self) -> bool:
        """Whether all is well."""
        return self.text.startswith("ok: ")

    @property
    def is_healthy(self) -> bool:
        """Whether all is well, or the problem can wait."""
        return self.is_ok or self.urgency is Urgency.LATER


def print_health() -> ExitStatus:
    """Print what the last check found, and return the exit status that says whether the service is healthy."""
    try:
        directory = load(os.environ, {"CRYPTO_PATH"}).crypto_path
    except ConfigurationError as error:
        # The check may not know where to keep that it has failed.
        print(harmless(error.problems[0]))
        return ExitStatus.CONFIGURATION
    health = read_health(directory)
    if health is None and os.path.lexists(directory / HEALTH_FILE_NAME):
        print("the result of the last identity check cannot be read: look at the log")
        return ExitStatus.CONFIGURATION
    if health is None:
        print("ok: the identity has not been checked yet")
        return ExitStatus.OK
    age = time.time() - health.checked
    if health.is_healthy and age < -_DAY_SECONDS:
        print("the last identity check ended in the future: check the clock")
        return ExitStatus.CONFIGURATION
    if health.is_healthy and age > _STALE_SECONDS:
        print(f"the last identity check ended {age / 3600:.0f} hours ago")
        return ExitStatus.CONFIGURATION
    prefix = "ok: a problem that is not urgent yet: " if health.is_healthy and not health.is_ok else ""
    print(harmless(f"{prefix}{health.text}"))
    return ExitStatus.OK if health.is_healthy else ExitStatus.CONFIGURATION


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


def read_health(directory: Path) -> Health | None:
    """Return what the last check found; None if that is not known.

    Args:
        directory: Of the key files.
    """
    try:
        fields = json.loads(keys.read_file(directory / HEALTH_FILE_NAME))
        times = (float(fields["since"]), float(fields["checked"]), float(fields.get("renewed", 0)))
        urgency = Urgency(fields.get("urgency", Urgency.SOON))
        return Health(str(fields["text"]), *times, float(fields.get("logged", 0)), urgency)
    except (KeyFileError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def keep_health(directory: Path, health: Health, uid: int) -> None:
    """Keep what a check has found; if that is not possible, log why.

    Args:
        directory: Of the key files.
        health: What it has found.
        uid: The owner's user ID, if this process is allowed to change the owner.
    """
    contents = json.dumps(asdict(health)).encode()
    try:
        with keys.locked(directory):
            keys.replace(directory / HEALTH_FILE_NAME, contents, uid)
    except KeyFileError as error:
        _LOG.warning("The result of the identity check cannot be kept: %s", error)
