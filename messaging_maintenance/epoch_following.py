"""Publishes the epoch record that the receiver signs with a new identity key, as soon as a rotation lets that key sign.

The maintenance service would do it within minutes. Until then, senders that see only the new TLSA record skip the epoch
record that the old key has signed, so their messages wait.
"""

import time
from collections.abc import Callable
from typing import Final

from idlib.bootstrap import Bootstrap
from idlib.commands import command
from idlib.epochs.spool import read_spool
from idlib.errors import StoreError
from idlib.keys import key_path, read_private_key
from idlib.settings import Settings
from messaging_maintenance.epoch_publishing import publish_spool
from messaging_maintenance.rotation.state import RotationState, Stage

# The receiver looks for new key files every 3 s, and for what is due with epoch keys every 10 s.
_RECEIVER_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5


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
