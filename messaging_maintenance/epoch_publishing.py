"""Publishes the epoch records that the receiver leaves in EPOCH_SPOOL.

The spool is written by another user, so its content is input: a record is published only if a key in the device's TLSA
records has signed it, because other devices would skip it otherwise.
"""

import sys
import time
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from idlib.algorithms import PublicKey
from idlib.commands import command
from idlib.epochs.record import MAX_RECORDS, SignedEpochRecord
from idlib.epochs.spool import read_spool, spool_path
from idlib.errors import KeyFileError, StoreError, UnsuitableKeyError, quoted
from idlib.keys import next_key_path, read_private_key
from idlib.output import rfc3339
from idlib.publishing import epoch_place
from idlib.publishing.epoch_publication import EpochPublishing
from idlib.publishing.publication import WAIT_SECONDS, Publication
from idlib.publishing.zone import HostResolver
from idlib.records import key_of
from idlib.settings import Settings
from messaging_maintenance.publishing import open_publisher, open_publishing
from messaging_maintenance.rotation.state import Stage, Way, state_file

# Of a rotation with a single record: the old one may still be in DNS.
_BEFORE_ONE_RECORD: Final = frozenset({Stage.LOWERED, Stage.REPLACING})
_WAIT_FOR_THE_NEXT: Final = "look at the log of the receiver, which creates the next one"


def epoch_publishing_from(settings: Settings, wait_seconds: float | None = None) -> EpochPublishing:
    """Return what changes the epoch records of IDENTITY_NAME, at `_epoch.NAME` or the target of that alias.

    Args:
        settings: From the environment; without DNS_PUBLISH, the user is asked to make each change.
        wait_seconds: How long to wait until every name server serves a change; None for the usual time.

    Raises:
        ConfigurationError: A setting that the method needs is not set.
        CredentialError: The credential's file cannot be used.
        MalformedNameError: The name is too long for `_epoch` before it.
        PublishingError: The zone or its servers cannot be found.
    """
    place, zone = HostResolver.from_settings(settings).follow(epoch_place(settings.identity_name))
    publisher = open_publisher(settings, place, zone)
    return EpochPublishing(publisher, zone, place, settings.epoch_length, wait_seconds or WAIT_SECONDS, _report)


def publish_spool(settings: Settings) -> Publication | None:
    """Publish the records in the spool; nothing changes if DNS has them. Return None if there is no spool.

    Args:
        settings: From the environment.

    Raises:
        KeyFileError: DNS has no TLSA record of a key that the records may be signed by.
        StoreError: The spool cannot be read, or has a record that other devices would not use; nothing is published.
        IdlibError: The records were not published, or not every name server serves them.
    """
    records = read_spool(settings.epoch_spool, settings.identity_name)
    if records is None:
        return None
    _require_usable(records, _keys_in_dns(settings), settings)
    return epoch_publishing_from(settings).publish([*records, *_signed_by_the_next_key(records, settings)])


def _signed_by_the_next_key(records: Sequence[SignedEpochRecord], settings: Settings) -> tuple[SignedEpochRecord, ...]:
    """Return the records as the next identity key signs them, if one TLSA record is about to replace the other.

    A cache keeps epoch records for longer than the new TLSA record waits. Without these, senders would have no epoch
    record that the new key has signed.
    """
    state = state_file(settings).read()
    if state is None or state.way is not Way.SINGLE or state.stage not in _BEFORE_ONE_RECORD:
        return ()
    try:
        key = read_private_key(next_key_path(settings.crypto_path, settings.identity_name))
    except KeyFileError:
        # The rotation reports it.
        return ()
    return tuple(
        SignedEpochRecord.create(one.record, settings.identity_name, key)
        for one in records[: MAX_RECORDS - len(records)]
    )


def _keys_in_dns(settings: Settings) -> list[PublicKey]:
    """Return the keys in the device's TLSA records, without one that is being replaced because it may be stolen."""
    publishing, _ = open_publishing(settings)
    state = state_file(settings).read()
    stolen = state.old_key if state is not None and state.way is Way.COMPROMISED else None
    keys = {key for rdata in publishing.read().rdatas if (key := key_of(rdata)) is not None and key != stolen}
    usable = [public_key for octets in sorted(keys) if (public_key := _public_key(octets)) is not None]
    if not usable:
        raise KeyFileError(
            f"the epoch records are not published, because DNS has no record of {settings.identity_name} with a key"
            " that they may be signed by",
            f"publish it with {command('identity publish')}; if the device was stolen, leave it out",
        )
    return usable


def _public_key(octets: bytes) -> PublicKey | None:
    try:
        return PublicKey(load_der_public_key(octets))  # type: ignore[arg-type]  # PublicKey checks the type
    except (UnsuitableKeyError, UnsupportedAlgorithm, ValueError):
        return None


def _require_usable(records: Sequence[SignedEpochRecord], keys: Sequence[PublicKey], settings: Settings) -> None:
    name = settings.identity_name
    where = quoted(spool_path(settings.epoch_spool, name))
    if not all(record.is_signed_by(keys, name) for record in records):
        raise StoreError(
            f"{where} has a record that is not signed by a key in the TLSA records of {name}, so nothing is published",
            "check that the receiver uses the key that is in DNS, and that only the receiver can write to EPOCH_SPOOL",
        )
    ended = [record.record.until for record in records if record.record.until <= time.time()]
    if ended:
        raise StoreError(
            f"{where} has a record whose key was destroyed at {rfc3339(min(ended))}, so nothing is published",
            _WAIT_FOR_THE_NEXT,
        )


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
