"""The receiver's metrics, read from its counters when they are asked for. Nothing here waits for DNS or the broker."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idlib import keys
from idlib.errors import KeyFileError, Reason
from idlib.metrics import Reading, reading
from idlib.metrics.catalogue import (
    CERTIFICATE_EXPIRY,
    DEFERRED,
    EPOCH_KEY_EXPIRY,
    EPOCH_KEYS,
    HEALTHY,
    LEASE_VALID,
    LOCAL_BROKER_CONNECTED,
    LOCAL_BROKER_PUBLISHED,
    LOCAL_BROKER_TAKEN,
    OWN_RECORD_PRESENT,
    PRINTED,
    QUEUED,
    RECEIVED,
    RECEIVERS,
    REFUSED,
    SET_ASIDE,
    SUBSCRIBED,
    WORKER_PROCESSES,
    WORKER_REPLACEMENTS,
)
from idlib.metrics.looking_up import look_ups
from messaging_receiver.authentication_stage import AuthenticationStage
from messaging_receiver.context import Context
from messaging_receiver.counters import Counts
from messaging_receiver.own_epochs import OwnEpochs
from messaging_receiver.own_record import OwnRecord
from messaging_receiver.supervision import Supervision
from messaging_receiver.workers.pool import WorkerPool

if TYPE_CHECKING:
    from messaging_receiver.group.membership import Membership
    from messaging_receiver.local_broker.bridge import LocalBridge


class CertificateExpiry:
    """When a certificate expires; its file is parsed again only when it has changed.

    Args:
        path: The certificate.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, ...] | None = None
        self._expiry: float | None = None

    def read(self) -> float | None:
        """Return the time in seconds since the epoch; None if there is no certificate that can be read."""
        try:
            status = self._path.stat()
        except OSError:
            self._state = None
            return None
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        if state != self._state:
            self._expiry, self._state = self._parse(), state
        return self._expiry

    def _parse(self) -> float | None:
        try:
            return keys.read_certificate(self._path).not_valid_after_utc.timestamp()
        except KeyFileError:
            return None


class Starting:
    """The readings of a receiver that waits for its own record, and those that it always has.

    Args:
        context: What the stages share.
        own_record: The last look-up of the device's own record.
        epochs: The device's epoch keys.
    """

    def __init__(self, context: Context, own_record: OwnRecord, epochs: OwnEpochs) -> None:
        settings = context.settings
        self._context = context
        self._own_record = own_record
        self._epochs = epochs
        self._certificate = CertificateExpiry(keys.certificate_path(settings.crypto_path, settings.identity_name))

    def readings(self) -> Iterator[Reading]:
        """Yield the readings of a receiver that has not started to receive."""
        yield from reading(HEALTHY, 0.0)
        yield from reading(SUBSCRIBED, 0.0)
        yield from self.lasting()

    def lasting(self) -> Iterator[Reading]:
        """Yield the readings that do not depend on whether the receiver has started to receive."""
        yield from reading(OWN_RECORD_PRESENT, self._own_record.is_present)
        yield from reading(CERTIFICATE_EXPIRY, self._certificate.read())
        yield from reading(EPOCH_KEYS, float(len(self._epochs.ids)))
        yield from reading(EPOCH_KEY_EXPIRY, self._epochs.until)
        yield look_ups(self._context.discovery.durations)
        yield from _counts(self._context.counters.read())


@dataclass(frozen=True, slots=True)
class Receiving:
    """The readings of a receiver that receives.

    Args:
        starting: Those that it had before.
        authentication: Knows how many messages are deferred.
        supervision: Knows whether the receiver is healthy.
        queue_sizes: Returns how many messages each queue holds.
        workers: The worker processes; None if there are none.
        bridge: The local broker; None if there is none.
        membership: The lease of this receiver; None if it shares its stores with no other.
    """

    starting: Starting
    authentication: AuthenticationStage
    supervision: Supervision
    queue_sizes: Callable[[], Mapping[str, int]]
    workers: WorkerPool | None
    bridge: "LocalBridge | None" = None
    membership: "Membership | None" = None

    def readings(self) -> Iterator[Reading]:
        """Yield all readings."""
        yield from reading(HEALTHY, float(self.supervision.last_problem() is None))
        yield from reading(SUBSCRIBED, float(self.supervision.is_subscribed))
        yield from self.starting.lasting()
        yield from self._lease()
        yield from reading(DEFERRED, float(self.authentication.number_waiting))
        yield Reading(QUEUED, {(name,): float(size) for name, size in self.queue_sizes().items()})
        workers = {} if self.workers is None else self.workers.members()
        yield from reading(WORKER_PROCESSES, float(workers.get("workers", 0)))
        yield from reading(WORKER_REPLACEMENTS, float(workers.get("workers_replaced", 0)))
        if self.bridge is not None:
            yield from reading(LOCAL_BROKER_CONNECTED, float(self.bridge.connection.is_active))
            yield from reading(LOCAL_BROKER_PUBLISHED, float(self.bridge.number_published))
            yield from reading(LOCAL_BROKER_TAKEN, float(self.bridge.outgoing.number))

    def _lease(self) -> Iterator[Reading]:
        if self.membership is not None:
            yield from reading(LEASE_VALID, float(self.membership.leases.is_valid))
            yield from reading(RECEIVERS, float(self.membership.leases.receivers))


def _counts(counts: Counts) -> Iterator[Reading]:
    yield from reading(RECEIVED, float(counts.received))
    yield Reading(PRINTED, {(str(kind),): float(number) for kind, number in counts.printed.items()})
    # Also those that have not occurred: Prometheus does not see the first increase of a series that appears with it.
    yield Reading(REFUSED, {(str(reason),): float(counts.refused.get(reason, 0)) for reason in Reason})
    yield from reading(SET_ASIDE, float(counts.set_aside))
