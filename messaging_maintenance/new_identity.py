"""Create the device's identity, put it into DNS, wait until others can find it, and check it: one command."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from idlib.commands import command
from idlib.errors import DiscoveryError, ExitStatus, NoRecordError, NotSecureError
from idlib.output import harmless
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import DISCOVERY_READS, MAINTENANCE_READS, PUBLISHING_READS, Settings
from messaging_maintenance.publish_tlsa import print_outcome

if TYPE_CHECKING:
    from idlib.bootstrap import Bootstrap
    from idlib.discovery import Discovery
    from idlib.publishing.publication import Publishing
    from idlib.publishing.zone import Zone

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS | DISCOVERY_READS
_WAIT_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 2.0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return parser(
        "Create a private key and a self-signed certificate for IDENTITY_NAME in CRYPTO_PATH, publish the record by the"
        " method DNS_PUBLISH, wait until the resolver finds it, and check the device. What is there already is kept, so"
        " the command can be run again. Without DNS_PUBLISH, print what to enter at your DNS provider.",
        "IDENTITY_NAME=alice._device.example.dedyn.io DNS_PUBLISH=desec"
        " DESEC_TOKEN_FILE=~/messenger/desec.token {program}",
    )


def main() -> ExitStatus:
    """Create what is missing, publish the record, look it up as other devices do, and check this device."""
    command_line().parse_args()
    require_stdout()
    settings = read_environment(_READS)
    # Imported late, because --help needs none of it.
    from idlib.bootstrap import Bootstrap

    identity = Bootstrap.from_settings(settings)
    # First, so that a mistyped name, a wrong setting or credential leaves no key behind.
    opened = _open(settings)
    _create(identity)
    if opened is None:
        from messaging_maintenance.record_text import print_record

        print_record(settings)
        print(f"When it is published, run {command('identity check')}.", file=sys.stderr)
        return ExitStatus.OK
    _publish(*opened, settings, identity)
    _wait_until_found(settings, identity)
    return _check(settings)


def _check(settings: Settings) -> ExitStatus:
    """Check this device, print what fails, and return the exit status."""
    from messaging_maintenance.check_identity import check_this_device
    from messaging_maintenance.checks.report import as_text, is_coloured
    from messaging_maintenance.checks.result import Status

    failures = [item for item in check_this_device() if item.status is Status.FAIL]
    if failures:
        coloured = is_coloured(os.environ, is_terminal=sys.stdout.isatty())
        print(as_text(settings.identity_name, failures, coloured=coloured))
        return ExitStatus.CHECK_FAILED
    print(f"{settings.identity_name} is ready: other devices find its key in DNS.")
    return ExitStatus.OK


def _open(settings: Settings) -> "tuple[Publishing, Zone] | None":
    """Return what changes the records, and the zone; None if the user does it."""
    if settings.dns_publish is None:
        return None
    # Imported late, because --help needs none of it.
    from messaging_maintenance.publishing import open_publishing

    publishing, zone = open_publishing(settings)
    publishing.check()
    return publishing, zone


def _create(identity: "Bootstrap") -> None:
    """Create the key and the certificate; of an earlier call that was interrupted between them, the certificate."""
    if not identity.has_private_key():
        identity.create_selfsigned_identity()
        print(f"{identity.identity_name} has a new key and certificate.", file=sys.stderr)
        return
    print(f"{identity.identity_name} already has a key, which is kept.", file=sys.stderr)
    # With a request, a CA issues the certificate.
    if not any(os.path.lexists(identity.get_path_for_pki_asset(kind)) for kind in ("cert", "csr")):
        identity.generate_selfsigned_certificate()
        print(f"{identity.identity_name} has a new certificate.", file=sys.stderr)


def _publish(publishing: "Publishing", zone: "Zone", settings: Settings, identity: "Bootstrap") -> None:
    from messaging_maintenance.rotation.republish import publish_records

    print_outcome(publish_records(publishing, identity, settings), zone)


def _wait_until_found(settings: Settings, identity: "Bootstrap") -> None:
    """Wait until the resolver finds the record of the key.

    Raises:
        DiscoveryError: It does not find it in time, or the zone is not protected by DNSSEC.
    """
    from idlib.discovery import Discovery

    own = identity.tlsa_record(settings.tlsa_selector)
    deadline = time.monotonic() + _WAIT_SECONDS
    is_waiting = False
    while True:
        try:
            _look_up(Discovery.from_settings(settings), settings, own.to_rdata())
        except NotSecureError:
            # Waiting does not sign a zone.
            raise
        except DiscoveryError as error:
            if time.monotonic() > deadline:
                raise still_unknown(error) from error
            if not is_waiting:
                is_waiting = True
                waiting = f"Waiting up to {_WAIT_SECONDS:.0f} s until the resolver finds the record: {error.fact}."
                print(harmless(waiting), file=sys.stderr, flush=True)
        else:
            return
        time.sleep(_PAUSE_SECONDS)


def _look_up(discovery: "Discovery", settings: Settings, rdata: bytes) -> None:
    from idlib.records import key_of

    found = discovery.find(settings.identity_name)
    if key_of(rdata) not in found.accepted:
        raise OldRecordsError(f"the resolver still has old records of {settings.identity_name}")


class OldRecordsError(DiscoveryError):
    """The resolver has records of the device, but not that of its key."""


def still_unknown(error: DiscoveryError) -> DiscoveryError:
    """Return the error with what to do: the record is published, so only caches can be in the way."""
    reason = ""
    if isinstance(error, OldRecordsError):
        reason = " the resolver keeps the old ones until their TTL has passed;"
    elif isinstance(error, NoRecordError):
        until = f" for up to {error.kept_seconds} s" if error.kept_seconds else ""
        reason = f" the resolver may have remembered its absence{until};"
    elif error.hint:
        reason = f" {error.hint};"
    error.hint = f"the record is published;{reason} later, run {command('identity check')}"
    return error
