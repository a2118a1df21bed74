"""One attempt by the resident maintenance service to publish the epoch records that the receiver has left."""

import logging
import sys
import time
from typing import Final

from idlib.errors import ExitStatus, IdlibError
from idlib.output import harmless
from idlib.program.command_line import run
from idlib.program.environment import read_environment
from idlib.settings import EPOCH_PUBLISHING_READS, MAINTENANCE_READS, PUBLISHING_READS, ROTATION_READS, Settings
from messaging_maintenance.epoch_publishing import publish_spool
from messaging_maintenance.health import EPOCH_HEALTH_FILE_NAME, Health, keep_health, problem_since, read_health
from messaging_maintenance.urgency import Urgency, is_to_be_logged

_LOG = logging.getLogger("messaging_maintenance")

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS | EPOCH_PUBLISHING_READS


def main() -> ExitStatus:
    """Publish what is in the spool, unless DNS has it; log what was done and what is wrong, and keep it for `--health`.

    Raises:
        ConfigurationError: Variables are missing or have bad values.
    """
    settings = read_environment(_READS)
    before = read_health(settings.crypto_path, EPOCH_HEALTH_FILE_NAME)
    started = time.time()
    try:
        publication = publish_spool(settings)
    except IdlibError as error:
        health = _report(error, before, settings)
    else:
        if publication is None:
            return ExitStatus.OK
        if not publication.change.is_empty:
            change = publication.change
            _LOG.info("Epoch records published: %s, with a TTL of %d s", change.name, change.after.ttl)
        if before is not None and not before.is_ok:
            _LOG.info("Publishing epoch records succeeded again")
        health = Health("ok: the epoch records are in DNS", started, started)
    keep_health(settings.crypto_path, health, settings.app_uid, EPOCH_HEALTH_FILE_NAME)
    return ExitStatus.OK if health.is_ok else ExitStatus.CHECK_FAILED


def _report(problem: IdlibError, before: Health | None, settings: Settings) -> Health:
    """Log a problem if that is due, and return what is kept of it: it is unhealthy from the first time."""
    now, speed = time.time(), settings.rotate_test_speed
    text = f"publishing epoch records failed: {harmless(str(problem))}"
    since = problem_since(before)
    # Without a new record, others can send nothing once the last key is destroyed.
    urgency = Urgency.NOW if (now - since) * speed > settings.epoch_retention / 2 else Urgency.SOON
    if (
        before is None
        or (before.text, before.urgency) != (text, urgency)
        or is_to_be_logged(urgency, now - before.logged, speed)
    ):
        members = {"urgency": urgency.name.lower()}
        _LOG.log(urgency.log_level, "Publishing epoch records failed: %s", problem, extra={"members": members})
        return Health(text, since, now, logged=now, urgency=urgency)
    return Health(text, since, now, logged=before.logged, urgency=urgency)


if __name__ == "__main__":
    # The path of the service, because what an error names is beside the service, not beside this module.
    if len(sys.argv) > 1:
        del sys.argv[0]
    run(main)
