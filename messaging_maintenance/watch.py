"""One check by the resident maintenance service: the record is in DNS, and the key is changed when that is due."""

import logging
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlib import keys
from idlib.bootstrap import Bootstrap
from idlib.commands import command
from idlib.errors import ConfigurationError, ExitStatus, IdlibError, KeyFileError
from idlib.output import harmless
from idlib.program.command_line import run
from idlib.program.environment import read_environment
from idlib.records import key_of
from idlib.settings import MAINTENANCE_READS, PUBLISHING_READS, ROTATION_READS, Settings, Switch, load
from idlib.system.user_command import run_user_command
from messaging_maintenance.health import Health, keep_health, problem_since, read_health, renewed_at
from messaging_maintenance.urgency import DueError, is_to_be_logged, urgency_of

if TYPE_CHECKING:
    from idlib.publishing.publication import Publishing
    from messaging_maintenance.rotation.state import RotationState
    from messaging_maintenance.rotation.steps import Rotation

_LOG = logging.getLogger("messaging_maintenance")

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS
_DAY_SECONDS: Final = 24 * 3600
# A certificate that ends sooner is a problem.
_CERTIFICATE_SECONDS: Final = 30 * _DAY_SECONDS
# A key is overdue when ROTATE_EVERY has passed and a third of it, or this if that is less.
_LONGEST_GRACE_SECONDS: Final = 30 * _DAY_SECONDS
# deSEC deletes a zone to which nothing was written for half a year.
_RENEWAL_SECONDS: Final = 30 * _DAY_SECONDS
_HOOK_SECONDS: Final = 300.0
_RESTORED: Final = "restored"
# Where the health is kept does not depend on the name.
_ANY_NAME: Final = "device.example"


class HookError(IdlibError):
    """ROTATE_HOOK failed."""


def main() -> ExitStatus:
    """Check the identity once, log what was done and what is wrong, and keep it for `--health`."""
    try:
        settings = read_environment(_READS)
    except ConfigurationError as error:
        _keep_problem(error.problems[0])
        raise
    before = read_health(settings.crypto_path)
    renewed = renewed_at(before)
    found, problems = "", []
    try:
        found = _check(settings)
    except IdlibError as error:
        problems.append(error)
    # Also after a failed check: the operator may be slower than the provider.
    try:
        renewed = _renew(settings, renewed)
    except IdlibError as error:
        problems.append(error)
    try:
        _require_lasting_certificate(settings)
    except IdlibError as error:
        problems.append(error)
    if problems:
        health = _report(problems[0], before, renewed, settings)
    else:
        health = Health(f"ok: {found}", time.time(), time.time(), renewed)
        if before is not None and not before.is_ok:
            _LOG.info("Identity check succeeded again: %s", found)
    health = replace(health, certificate_expiry=_certificate_expiry(settings))
    keep_health(settings.crypto_path, health, settings.app_uid)
    return ExitStatus.OK if health.is_ok else ExitStatus.CHECK_FAILED


def _certificate_expiry(settings: Settings) -> float:
    """Return when the certificate expires, in seconds since the epoch; 0 if there is none that can be read."""
    with suppress(KeyFileError):
        return Bootstrap.from_settings(settings).get_local_cert_obj().not_valid_after_utc.timestamp()
    return 0.0


def _report(problem: IdlibError, before: Health | None, renewed: float, settings: Settings) -> Health:
    """Log a problem if that is due, and return what is kept of it."""
    now, text, speed = time.time(), harmless(str(problem)), settings.rotate_test_speed
    since = problem_since(before)
    deadline = _deadline(settings)
    urgency = urgency_of(problem, now - since, None if deadline is None else deadline - now, speed)
    if (
        before is None
        or (before.text, before.urgency) != (text, urgency)
        or is_to_be_logged(urgency, now - before.logged, speed)
    ):
        members = {"urgency": urgency.name.lower()}
        _LOG.log(urgency.log_level, "Identity check failed: %s", problem, extra={"members": members})
        return Health(text, since, now, renewed, now, urgency)
    return Health(text, since, now, renewed, before.logged, urgency)


def _deadline(settings: Settings) -> float | None:
    """Return when the key is overdue or its certificate ends, whichever is first; None if neither is known."""
    identity = Bootstrap.from_settings(settings)
    times = []
    with suppress(KeyFileError):
        times.append(identity.get_local_cert_obj().not_valid_after_utc.timestamp())
    if settings.rotate_every is not None:
        grace = min(settings.rotate_every / 3, _LONGEST_GRACE_SECONDS)
        with suppress(OSError):
            created = Path(identity.get_path_for_pki_asset("key")).stat().st_mtime
            times.append(created + (settings.rotate_every + grace) / settings.rotate_test_speed)
    return min(times, default=None)


def _require_lasting_certificate(settings: Settings) -> None:
    """Check that the certificate does not end soon, unless a rotation replaces it before that.

    Raises:
        DueError: It ends soon.
        KeyFileError: It cannot be read.
    """
    identity = Bootstrap.from_settings(settings)
    if not os.path.lexists(identity.get_path_for_pki_asset("cert")):
        return
    certificate = identity.get_local_cert_obj()
    end = certificate.not_valid_after_utc
    is_self_signed = certificate.issuer == certificate.subject
    if end.timestamp() - time.time() > _CERTIFICATE_SECONDS or (is_self_signed and settings.rotate_every is not None):
        return
    raise DueError(
        f"the certificate is valid until {end:%Y-%m-%d}",
        f"replace it with {command('identity rotate')} start{'' if is_self_signed else ' --csr'}",
    )


def _keep_problem(problem: str) -> None:
    """Keep a problem with the settings, if the one that says where is good."""
    with suppress(ConfigurationError):
        directory = load({**os.environ, "IDENTITY_NAME": _ANY_NAME}, {"CRYPTO_PATH"}).crypto_path
        before = read_health(directory)
        health = Health(harmless(problem), problem_since(before), time.time(), renewed_at(before), time.time())
        keep_health(directory, health, os.geteuid())


def _renew(settings: Settings, renewed: float) -> float:
    """Keep the zone from being deleted, if that is due; return when it was last done, in seconds since the epoch.

    Args:
        settings: From the environment.
        renewed: When it was last done.

    Raises:
        IdlibError: It could not be done.
    """
    now = time.time()
    # Not if the device has no key: nothing of it is in the zone. A time in the future is that of a wrong clock.
    is_due = not 0 <= now - renewed < _RENEWAL_SECONDS and Bootstrap.from_settings(settings).has_private_key()
    if settings.dns_publish is None or not is_due:
        return renewed
    from messaging_maintenance.publishing import open_publishing

    publishing, _ = open_publishing(settings)
    return now if publishing.renew() else renewed


def _check(settings: Settings) -> str:
    """Do what is due, and return a few words on the state of the identity.

    Raises:
        IdlibError: Something could not be done, or the operator must do something.
    """
    identity = Bootstrap.from_settings(settings)
    is_rotating = os.path.lexists(keys.rotation_path(settings.crypto_path, settings.identity_name))
    if not identity.has_private_key() and not is_rotating:
        return "there is no identity yet"
    if settings.rotate_every is not None and settings.dns_publish is None:
        raise ConfigurationError(
            f"ROTATE_EVERY needs DNS_PUBLISH; set it, or rotate by hand with {command('identity rotate')}"
        )
    # Imported late, because before there is a key none of it is needed.
    from messaging_maintenance.publishing import open_publishing
    from messaging_maintenance.rotation.state import Stage
    from messaging_maintenance.rotation.steps import Rotation

    publishing, _ = open_publishing(settings)
    rotation = Rotation(settings, publishing)
    state = rotation.state()
    if state is not None and state.stage in {Stage.REPLACING, Stage.SWITCHING}:
        return _complete(rotation, state, publishing, settings)
    _require_records(publishing, identity, settings)
    if settings.rotate_every is None:
        return "the record is in DNS"
    return _rotate(rotation, identity, settings, settings.rotate_every)


def _complete(rotation: "Rotation", state: "RotationState", publishing: "Publishing", settings: Settings) -> str:
    """Complete a step that was interrupted, before the records are compared with the keys: they may not match yet.

    Raises:
        IdlibError: The operator must do it, or has taken the device out of DNS meanwhile.
    """
    if {state.old_key, state.new_key}.isdisjoint(map(key_of, publishing.read().rdatas)):
        raise _vanished()
    if settings.rotate_every is None:
        raise KeyFileError(
            "a step of the rotation was interrupted, so others may refuse what this device sends",
            f"run {command('identity rotate')} status, and take the step that it names",
        )
    return _advance(rotation, state, settings)


def _require_records(publishing: "Publishing", identity: Bootstrap, settings: Settings) -> None:
    """Check that DNS has the device's records; if RESTORE_RECORD is on, put missing ones back.

    Raises:
        KeyFileError: A record is missing, and is not to be restored.
    """
    from messaging_maintenance.rotation.records import records_to_publish
    from messaging_maintenance.rotation.republish import publish_records
    from messaging_maintenance.rotation.state import Way, state_file

    published = {key_of(rdata) for rdata in publishing.read().rdatas}
    wanted = {key_of(record.to_rdata()) for record in records_to_publish(identity, settings)}
    if wanted <= published:
        return
    state = state_file(settings).read()
    if settings.restore_record is not Switch.ON or (state is not None and state.way is Way.COMPROMISED):
        raise _vanished()
    publish_records(publishing, identity, settings)
    _LOG.warning("Record restored: DNS did not have every record of %s", settings.identity_name)
    _run_hook(settings, _RESTORED)


def _vanished() -> KeyFileError:
    return KeyFileError(
        "a record of the device's key is not in DNS",
        f"publish it with {command('identity publish')}, or set RESTORE_RECORD=on; if the device was"
        " stolen, leave it out",
    )


def _rotate(rotation: "Rotation", identity: Bootstrap, settings: Settings, period: int) -> str:
    from messaging_maintenance.rotation.state import Way

    state = rotation.state()
    if state is None:
        age = time.time() - Path(identity.get_path_for_pki_asset("key")).stat().st_mtime
        if age < -_DAY_SECONDS:
            raise KeyFileError(
                "the key's file is from the future, so its age is unknown",
                "check the clock; if it is right, run touch on the key's file, and its age counts from now",
            )
        left = period - age * settings.rotate_test_speed
        if left > 0:
            return f"the key is due to be changed in {left / _DAY_SECONDS:.0f} days"
        certificate = identity.get_local_cert_obj()
        if certificate.issuer != certificate.subject:
            rotate = command("identity rotate")
            raise DueError(
                "the key is due to be changed, but its certificate is from a CA",
                f"run {rotate} start --csr, and give the CA's certificate to {rotate} certificate",
            )
        rotation.start(Way.OVERLAP)
        _LOG.info("Rotation started: the record of the next key is published")
        _run_hook(settings, "start")
        return "a rotation was started"
    return _advance(rotation, state, settings)


def _advance(rotation: "Rotation", state: "RotationState", settings: Settings) -> str:
    step = rotation.advance()
    if step is None:
        return f"a rotation is at the stage {state.stage}"
    _LOG.info("Rotation step taken: %s, to %s", step.command, step.what)
    _run_hook(settings, step.command)
    return f"a rotation has taken the step {step.command}"


def _run_hook(settings: Settings, step: str) -> None:
    if settings.rotate_hook is None:
        return
    try:
        status = run_user_command(settings.rotate_hook, "", {**os.environ, "ROTATE_STEP": step}, _HOOK_SECONDS)
    except TimeoutError as error:
        raise HookError(
            f"ROTATE_HOOK did not end within {_HOOK_SECONDS:g} s at the step {step} and was killed",
            "run it by hand to see why",
        ) from error
    except OSError as error:
        raise HookError(f"ROTATE_HOOK cannot be started: {error.strerror}", "install a shell") from error
    if status:
        raise HookError(f"ROTATE_HOOK ended with status {status} at the step {step}", "see what it printed")


if __name__ == "__main__":
    # The path of the service, because what an error names is beside the service, not beside this module.
    if len(sys.argv) > 1:
        del sys.argv[0]
    run(main)
