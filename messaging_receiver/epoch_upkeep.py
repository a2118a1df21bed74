"""The device's own epoch keys: creates them, leaves their records for the maintenance service, and destroys them.

A key is durable on the disk before its record is in the spool, from which the maintenance service publishes it. What
senders see is checked against the spool, because a device whose keys are not published becomes unreachable.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.epochs import EpochPrivateKey
from idlib.epochs.halves import Halves, KeptHalf, identity_fingerprint
from idlib.epochs.record import PREFIX, SignedEpochRecord
from idlib.epochs.schedule import MAX_LIVING_KEYS, Half, Lifetimes, Now, current, overdue, period
from idlib.epochs.spool import read_spool, write_spool
from idlib.errors import (
    ConfigurationError,
    DiscoveryError,
    IdlibError,
    MalformedRecordError,
    NoEpochRecordError,
    StoreError,
)
from idlib.names import IdentityName
from idlib.output import rfc3339
from idlib.settings import Settings, Switch
from idlib.system.failure_log import FailureLog
from messaging_receiver.own_epochs import epoch_directory

_LOG = logging.getLogger(__name__)

# A resolver keeps the records from before for up to an hour, and the maintenance service publishes within minutes.
MAX_PUBLISHING_SECONDS: Final = 75 * 60
_NO_KEYS: Final[Mapping[str, EpochPrivateKey]] = MappingProxyType({})


class Clock(Protocol):
    """Knows how far the clock can be trusted."""

    def trusted_time(self) -> float | None:
        """Return what the clock shows, in seconds since the epoch, or None if no data may be deleted by it."""

    def elapsed(self) -> float:
        """Return for how many seconds the system has run, whatever the clock shows."""


def lifetimes_of(settings: Settings) -> Lifetimes:
    """Return how long epoch keys are used and kept.

    Args:
        settings: The settings from the environment.

    Raises:
        ConfigurationError: The settings contradict each other.
    """
    directory, crypto_path = epoch_directory(settings), settings.crypto_path
    if directory == crypto_path or crypto_path in directory.parents:
        raise ConfigurationError(
            f"EPOCH_PATH is {directory}, which is in CRYPTO_PATH: a backup would keep epoch keys after they are"
            " destroyed; set it to a directory elsewhere"
        )
    return Lifetimes(settings.epoch_length, settings.epoch_retention)


class EpochUpkeep:
    """The device's living epoch keys. `keep` and `destroy_overdue` are for one thread, the rest for any number.

    Args:
        settings: The settings from the environment. If EPOCH_KEYS is off, no key is created, and those that exist are
            used and destroyed as before.
        clock: Knows the time.

    Raises:
        ConfigurationError: The settings contradict each other.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lifetimes = lifetimes_of(settings)
        self._creates = settings.epoch_keys is Switch.ON
        self._halves = Halves(epoch_directory(settings), settings.identity_name)
        self._kept: tuple[KeptHalf, ...] = ()
        self._keys = _NO_KEYS
        self._is_loaded = False
        self._published: Half | None = None
        self._upkeep_outage = FailureLog(_LOG)
        self._publishing_outage = FailureLog(_LOG)

    @property
    def keys(self) -> Mapping[str, EpochPrivateKey]:
        """The living keys by their ids."""
        return self._keys

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the living keys."""
        return tuple(self._keys)

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""
        return self._upkeep_outage.cause or self._publishing_outage.cause

    def explain(self, key_id: str) -> str:
        """Return what is known about a key that messages cannot be opened with, as a sentence.

        Args:
            key_id: The key's id, as a message states it.
        """
        try:
            until = self._halves.destroyed.until(key_id)
        except StoreError:
            until = None
        if until is None:
            return f"the epoch key {key_id} is none of this device's, or it was destroyed long ago"
        now = self._clock.trusted_time()
        late = "" if now is None or now < until else f", {now - until:.0f} s ago"
        return f"the epoch key {key_id} was due to be destroyed at {rfc3339(until)}{late}"

    def destroy_overdue(self) -> None:
        """Destroy what is overdue; a failure is logged, and repeated at the next call."""
        self._attempt(lambda: None)

    def keep(self, identity_key: PrivateKey) -> None:
        """Destroy what is overdue, create a key if one is due, and leave its record in the spool.

        A failure is logged, and repeated at the next call.

        Args:
            identity_key: The device's present private key.
        """
        self._attempt(functools.partial(self._renew, identity_key) if self._creates else lambda: None)

    def look(self, discovery: Discovery) -> None:
        """Check that the record in the spool is in DNS; log if it is not.

        Args:
            discovery: Looks names up in DNS.
        """
        half, now = self._published, self._clock.trusted_time()
        if half is None or now is None:
            return
        why = self._missing(half, discovery)
        if why is None:
            if self._publishing_outage.end():
                _LOG.info("Own epoch record found: DNS has the key %s", half.key_id)
        elif now >= half.created_at + min(MAX_PUBLISHING_SECONDS, self._lifetimes.length / 2):
            self._publishing_outage.begin(
                f"own epoch record: {why}",
                "; look at the log of the maintenance service: without a new record, others can send nothing to this"
                " device once its keys are destroyed",
            )

    def _missing(self, half: Half, discovery: Discovery) -> str | None:
        """Return why a key that should be in DNS is not there; None if it is."""
        try:
            name = self._settings.identity_name
            published = _ids_in(discovery.find_epochs_again(name).texts, name)
        except NoEpochRecordError:
            return "it is not in DNS"
        except DiscoveryError as error:
            return error.fact
        if half.key_id in published:
            return None
        if published <= {*self.ids, *self._destroyed()}:
            return "DNS has an older one" if published else "it is not in DNS"
        return "DNS has one whose private half is not here: is a copy of this device in use, or was DATA_PATH restored?"

    def _destroyed(self) -> frozenset[str]:
        try:
            return self._halves.destroyed.ids()
        except StoreError:
            return frozenset()

    def _attempt(self, renew: Callable[[], None]) -> None:
        try:
            self._destroy()
            renew()
        except IdlibError as error:
            self._upkeep_outage.begin(f"epoch keys: {error}")
        else:
            self._upkeep_outage.end()

    def _now(self) -> Now:
        shown = self._clock.trusted_time()
        return Now(None if shown is None else int(shown), self._clock.elapsed())

    def _destroy(self) -> None:
        if not self._is_loaded:
            self._load()
        now = self._now()
        for half in overdue([kept.half for kept in self._kept], now):
            # Dropped first: a key that cannot be destroyed opens nothing.
            self._use(tuple(kept for kept in self._kept if kept.half != half))
            self._is_loaded = False
            self._halves.destroy(half)
            self._is_loaded = True
            _LOG.info("The epoch key %s is destroyed", half.key_id)
        if now.clock is not None:
            self._halves.destroyed.forget(now.clock)

    def _load(self) -> None:
        self._halves.finish()
        stock = self._halves.stock()
        for fact in stock.unreadable:
            _LOG.warning("Epoch key skipped: %s", fact)
        self._use(stock.halves)
        self._is_loaded = True

    def _use(self, kept: tuple[KeptHalf, ...]) -> None:
        self._kept = kept
        self._keys = MappingProxyType({one.half.key_id: one.key for one in kept})

    def _renew(self, identity_key: PrivateKey) -> None:
        now = self._now()
        if now.clock is None:
            return
        signer = identity_fingerprint(identity_key.public)
        half = current([kept.half for kept in self._kept], now, self._lifetimes.length, signer)
        if half is None:
            half = self._create(now, now.clock, signer).half
        kept = next(one for one in self._kept if one.half == half)
        self._published = half
        if not self._is_spooled(kept, identity_key):
            name = self._settings.identity_name
            write_spool(self._settings.epoch_spool, name, [SignedEpochRecord.create(kept.record, name, identity_key)])

    def _create(self, now: Now, clock: int, signer: bytes) -> KeptHalf:
        if len(self._kept) >= MAX_LIVING_KEYS:
            raise StoreError(
                f"{len(self._kept)} epoch keys exist, so no new one is created",
                "check why the clock or the identity changes so often",
            )
        created = self._halves.create(*period(clock, self._lifetimes), now.elapsed, signer)
        self._use((*self._kept, created))
        _LOG.info(
            "The epoch key %s is created; it will be destroyed at %s", created.half.key_id, rfc3339(created.half.until)
        )
        return created

    def _is_spooled(self, kept: KeptHalf, identity_key: PrivateKey) -> bool:
        name = self._settings.identity_name
        try:
            records = read_spool(self._settings.epoch_spool, name)
        except StoreError:
            return False
        return (
            records is not None
            and [one.record for one in records] == [kept.record]
            and records[0].is_signed_by([identity_key.public], name)
        )


def _ids_in(texts: tuple[bytes, ...], name: IdentityName) -> frozenset[str]:
    """Return the ids of the keys in epoch records, whoever signed them."""
    found = set()
    for text in texts:
        if text.startswith(PREFIX):
            try:
                found.add(SignedEpochRecord.from_text(text).record.key_id(name))
            except MalformedRecordError:
                continue
    return frozenset(found)
