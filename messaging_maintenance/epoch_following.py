"""Publishes epoch records when a rotation changes the key that signs them, so that messages to the device do not wait.

A sender skips an epoch record if none of the TLSA records that it sees is of the key that has signed it. With an
overlap there is always one. If one TLSA record replaces the other, the living epoch records are published with both
signatures before that. After a theft, caches may have the old epoch records until their TTL has passed.
"""

import time
from collections.abc import Callable
from typing import Final

from idlib.bootstrap import Bootstrap
from idlib.commands import command
from idlib.epochs.spool import read_spool
from idlib.errors import StoreError
from idlib.keys import key_path, locked, read_private_key
from idlib.settings import Settings
from messaging_maintenance.epoch_publishing import publish_spool
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.schedule import Instant
from messaging_maintenance.rotation.state import RotationState, Stage, Way, state_file

# The receiver looks for new key files every 3 s, and for what is due with epoch keys every 10 s.
_RECEIVER_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5


def publish_before_switch(settings: Settings) -> None:
    """Publish the epoch records with the signatures of both keys, if one TLSA record is about to replace the other.

    The switch then waits until no cache has the records with only one signature.

    Args:
        settings: From the environment.

    Raises:
        IdlibError: The records were not published.
    """
    state = state_file(settings).read()
    if state is None or state.way is not Way.SINGLE or state.stage is not Stage.LOWERED:
        return
    if settings.dns_publish is None or not Bootstrap.from_settings(settings).is_marked():
        return
    publication = publish_spool(settings)
    if publication is None or publication.change.is_empty:
        return
    with alone(settings):
        state = state_file(settings).read()
        if state is None or state.stage is not Stage.LOWERED:
            return
        with locked(settings.crypto_path):
            ttl = max(state.ttl, publication.change.before.ttl)
            state_file(settings).write(state.at(Stage.LOWERED, Instant.now(), ttl=ttl))


def publish_after_switch(state: RotationState | None, settings: Settings, report: Callable[[str], None]) -> None:
    """Publish the epoch record of the new identity key, if the device is marked and that key signs now.

    Args:
        state: How far the rotation has come.
        settings: From the environment.
        report: Called with a sentence for the user.

    Raises:
        IdlibError: The record was not published.
    """
    signs = state is None or state.stage in {Stage.SWITCHED, Stage.WITHDRAWN}
    if not signs or not Bootstrap.from_settings(settings).is_marked():
        return
    if settings.dns_publish is None:
        report(
            "Epoch records that the old key has signed are of no use once its TLSA record is gone: publish those that"
            f" {command('identity epoch records')} prints now."
        )
        return
    deadline = time.monotonic() + _RECEIVER_SECONDS
    while not _is_signed_by_the_new_key(settings):
        if time.monotonic() >= deadline:
            report(
                "The receiver has left no epoch record that the new key has signed: check that it is running. Until one"
                f" is published, messages to this device wait; then run {command('identity epoch publish')}, or leave"
                " it to the maintenance service."
            )
            return
        time.sleep(_PAUSE_SECONDS)
    publish_spool(settings)
    report("The epoch record that the new key has signed is published.")


def _is_signed_by_the_new_key(settings: Settings) -> bool:
    name = settings.identity_name
    try:
        records = read_spool(settings.epoch_spool, name)
    except StoreError:
        # The receiver writes it again.
        return False
    present = read_private_key(key_path(settings.crypto_path, name)).public
    return bool(records) and all(record.is_signed_by([present], name) for record in records or ())
