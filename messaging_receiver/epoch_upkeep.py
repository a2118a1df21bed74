"""The device's own epoch keys: creates them, leaves their records for the maintenance service, and destroys them.

A key is durable on the disk before its record is in the spool, from which the maintenance service publishes it. What
senders see is checked against the spool, because a device whose keys are not published becomes unreachable.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from idlib.algorithms import PrivateKey, PublicKey
from idlib.discovery import Discovery
from idlib.discovery.lookup import epoch_owner
from idlib.envelope import NO_EPOCH_KEYS
from idlib.epochs import EpochPrivateKey
from idlib.epochs.halves import Halves, KeptHalf, Stock, identity_fingerprint
from idlib.epochs.record import SignedEpochRecord, read_epoch_records
from idlib.epochs.schedule import MAX_LIVING_KEYS, Half, Lifetimes, Now, current, overdue, period
from idlib.epochs.spool import read_spool, remove_spool, write_spool
from idlib.errors import (
    ConfigurationError,
    DiscoveryError,
    IdlibError,
    MalformedNameError,
    NoEpochRecordError,
    StoreError,
)
from idlib.names import IdentityName
from idlib.output import rfc3339
from idlib.settings import Settings, Switch
from idlib.system.failure_log import FailureLog
from messaging_receiver.epoch_copies import ForeignKeys, Sighting
from messaging_receiver.epoch_group import EpochGroup, SingleReceiver, Turn

_LOG = logging.getLogger(__name__)

# A resolver keeps the records from before for up to an hour, and the maintenance service publishes within minutes.
MAX_PUBLISHING_SECONDS: Final = 75 * 60


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
    directory, crypto_path = settings.epoch_directory, settings.crypto_path
    if directory == crypto_path or crypto_path in directory.parents:
        raise ConfigurationError(
            f"EPOCH_PATH is {directory}, which is in CRYPTO_PATH: a backup would keep epoch keys after they are"
            " destroyed; set it to a directory elsewhere"
        )
    if settings.receiver_group is Switch.ON and settings.epoch_path is None:
        raise ConfigurationError(
            "RECEIVER_GROUP=on with epoch keys needs EPOCH_PATH: a directory that all receivers share, because each of"
            " them must be able to open every message"
        )
    return Lifetimes(settings.epoch_length, settings.epoch_retention)


class EpochUpkeep:
    """The device's living epoch keys. `keep` and `destroy_overdue` are for one thread, the rest for any number.

    Args:
        settings: The settings from the environment. If EPOCH_KEYS is off, no key is created, and those that exist are
            used and destroyed as before.
        clock: Knows the time.
        group: The receivers of the name; None if this is the only one.

    Raises:
        ConfigurationError: The settings contradict each other.
    """

    def __init__(self, settings: Settings, clock: Clock, group: EpochGroup | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._group: EpochGroup = SingleReceiver(clock.elapsed) if group is None else group
        self._lifetimes = lifetimes_of(settings)
        self._creates = settings.epoch_keys is Switch.ON
        if self._creates:
            _require_place(settings.identity_name)
        self._halves = Halves(settings.epoch_directory, settings.identity_name)
        self._kept: tuple[KeptHalf, ...] = ()
        # Files of other devices, which need not be read again, and what was logged about files that cannot be read.
        self._others: frozenset[str] = frozenset()
        self._unreadable: frozenset[str] = frozenset()
        self._keys: Mapping[str, EpochPrivateKey] = NO_EPOCH_KEYS
        self._is_loaded = False
        self._are_read = False
        self._published: Half | None = None
        self._signer: PublicKey | None = None
        self._foreign = ForeignKeys(MAX_PUBLISHING_SECONDS)
        self._second_device = FailureLog(_LOG)
        self._is_foreign_record_to_be_replaced = False
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
    def are_read(self) -> bool:
        """Whether all keys that messages may be encrypted to have been read; before that, they would be refused."""
        return self._are_read and self._group.is_ready

    @property
    def until(self) -> float | None:
        """When the newest key will be destroyed, in seconds since the epoch; None if there is none."""
        return max((float(kept.half.until) for kept in self._kept), default=None)

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""
        return (
            self._upkeep_outage.cause
            or self._second_device.cause
            or self._group.problem
            or self._publishing_outage.cause
        )

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

    def may_appear(self, key_id: str) -> bool:
        """Return whether a key that is not known may be one of the device's that another receiver has just created.

        Args:
            key_id: The key's id, as a message states it.
        """
        return self._group.may_appear(self._halves, key_id) and key_id not in self._halves.destroyed.ids()

    def destroy_overdue(self) -> None:
        """Destroy what is overdue; a failure is logged, and repeated at the next call."""
        self._attempt(lambda: None)

    def keep(self, identity_key: PrivateKey) -> None:
        """Destroy what is overdue, create a key if one is due, and leave its record in the spool.

        Keys that another program has added to the directory are used as well. If the device has several receivers, one
        of them creates the keys. A failure is logged, and repeated at the next call.

        Args:
            identity_key: The device's present private key.
        """
        self._attempt(functools.partial(self._take_turn, identity_key))

    def look(self, discovery: Discovery) -> None:
        """Check that the record in the spool is in DNS; log if it is not.

        If another device publishes keys for this name, nothing more is published until the receiver is restarted: the
        two would replace each other's records, and each would lose the other's messages.

        Args:
            discovery: Looks names up in DNS.
        """
        half, now = self._published, self._clock.trusted_time()
        if half is None or now is None or self._second_device.cause is not None:
            return
        why = self._missing(half, now, discovery)
        if why is None:
            if self._publishing_outage.end():
                _LOG.info("Own epoch record found: DNS has the key %s", half.key_id)
        elif now >= half.created_at + min(MAX_PUBLISHING_SECONDS, self._lifetimes.length / 2):
            self._publishing_outage.begin(
                f"own epoch record: {why}",
                "; look at the log of the maintenance service: without a new record, others can send nothing to this"
                " device once its keys are destroyed",
            )

    def _missing(self, half: Half, now: float, discovery: Discovery) -> str | None:
        """Return why a key that should be in DNS is not there; None if it is."""
        try:
            name = self._settings.identity_name
            texts = discovery.find_epochs_again(name).texts
        except NoEpochRecordError:
            return "it is not in DNS"
        except DiscoveryError as error:
            return error.fact
        records = read_epoch_records(name, texts, self._signers(discovery))
        published = {epoch.key_id: epoch.record.until for epoch in records.usable}
        own = {*self.ids, *self._halves.destroyed.ids()}
        foreign = {key_id: until for key_id, until in published.items() if key_id not in own and until > now}
        self._note_foreign(foreign, now, half)
        if half.key_id in published:
            return None
        if foreign:
            return (
                "DNS has one whose private half is not here: is a copy of this device in use, or was DATA_PATH"
                " restored?"
            )
        if published:
            return "DNS has an older one"
        if records.skipped:
            return "DNS has only records that are damaged or not signed by this device, which others skip"
        return "it is not in DNS"

    def _signers(self, discovery: Discovery) -> tuple[PublicKey, ...]:
        """Return the keys whose signatures others accept: without them, anyone who can change DNS could deceive us."""
        own = () if self._signer is None else (self._signer,)
        try:
            found = discovery.find(self._settings.identity_name)
        except DiscoveryError:
            return own
        return (*own, *(PublicKey.from_der(key.der) for key in found.published))

    def _note_foreign(self, foreign: Mapping[str, int], now: float, half: Half) -> None:
        match self._foreign.note(foreign, now):
            case Sighting.FIRST:
                self._is_foreign_record_to_be_replaced = True
                _LOG.warning(
                    "DNS has the epoch key %s, whose private half is not here: messages to it cannot be opened; its"
                    " record is to be replaced with that of %s",
                    ", ".join(sorted(foreign)),
                    half.key_id,
                )
            case Sighting.SECOND_DEVICE:
                self._second_device.begin(
                    "epoch keys: another device publishes epoch keys for this name, so this one publishes no more",
                    "; turn one of the two off, and restart the receiver of the other",
                )

    def _attempt(self, renew: Callable[[], None]) -> None:
        try:
            self._destroy()
            self._group.confirm(self.ids, self._halves.destroyed.ids())
            renew()
        except IdlibError as error:
            self._upkeep_outage.begin(f"epoch keys: {error}")
        else:
            self._upkeep_outage.end()

    def _now(self) -> Now:
        shown = self._clock.trusted_time()
        return Now(None if shown is None else int(shown), self._group.elapsed())

    def _destroy(self) -> None:
        if not self._is_loaded:
            self._load()
        now = self._now()
        for half in overdue([kept.half for kept in self._kept], now):
            # Dropped first: a key that cannot be destroyed opens nothing.
            self._use(tuple(kept for kept in self._kept if kept.half != half))
            self._is_loaded = False
            self._group.destroy(self._halves, half)
            self._is_loaded = True
            _LOG.info("The epoch key %s is destroyed", half.key_id)
        # Last, so that a directory that cannot be read keeps no key alive.
        self._notice()

    def _forget_destroyed(self) -> None:
        now = self._now()
        if now.clock is not None:
            self._halves.destroyed.forget(now.clock)

    def _load(self) -> None:
        self._group.finish(self._halves)
        stock = self._halves.stock()
        self._note_files(stock)
        self._use(stock.halves)
        self._is_loaded = self._are_read = True

    def _notice(self) -> None:
        """Use the halves that another program has added to the directory."""
        stock = self._halves.stock({*self.ids, *self._others})
        self._note_files(stock)
        if stock.halves:
            self._use((*self._kept, *stock.halves))

    def _note_files(self, stock: Stock) -> None:
        for fact in stock.unreadable:
            if fact not in self._unreadable:
                _LOG.warning("Epoch key skipped: %s", fact)
        self._unreadable = frozenset(stock.unreadable)
        self._others |= stock.others

    def _use(self, kept: tuple[KeptHalf, ...]) -> None:
        self._kept = kept
        self._keys = MappingProxyType({one.half.key_id: one.key for one in kept})

    def _take_turn(self, identity_key: PrivateKey) -> None:
        with self._group.turn() as turn:
            if turn is None:
                # Another receiver publishes, and looks whether that succeeds.
                self._published = None
                self._publishing_outage.end()
                return
            turn.tidy(self._halves)
            if self._creates:
                self._renew(identity_key, turn)
            self._forget_destroyed()

    def _renew(self, identity_key: PrivateKey, turn: Turn) -> None:
        if self._second_device.cause is not None:
            self._published = None
            remove_spool(self._settings.epoch_spool, self._settings.identity_name)
            return
        now = self._now()
        if now.clock is None:
            return
        signer = identity_fingerprint(identity_key.public)
        half = current([kept.half for kept in self._kept], now, self._lifetimes, signer)
        if half is None:
            half = self._create(now, now.clock, signer).half
        if not turn.is_agreed(half.key_id):
            return
        kept = next(one for one in self._kept if one.half == half)
        self._published = half
        self._signer = identity_key.public
        # The maintenance service publishes a spool that is written again, although its content is the same.
        if self._is_foreign_record_to_be_replaced or not self._is_spooled(kept, identity_key):
            name = self._settings.identity_name
            write_spool(self._settings.epoch_spool, name, [SignedEpochRecord.create(kept.record, name, identity_key)])
            self._is_foreign_record_to_be_replaced = False

    def _create(self, now: Now, clock: int, signer: bytes) -> KeptHalf:
        # Without those that were created ahead of their time.
        number = sum(kept.half.start <= clock for kept in self._kept)
        if number >= MAX_LIVING_KEYS:
            raise StoreError(
                f"{number} epoch keys exist, so no new one is created",
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


def _require_place(name: IdentityName) -> None:
    try:
        epoch_owner(name)
    except MalformedNameError as error:
        raise ConfigurationError(f"{error}, or set EPOCH_KEYS=off") from error
