"""Makes changes, and reads them back from every name server; decides what changes at the device's name."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from idlib.errors import ConcurrentChangeError
from idlib.names import IdentityName
from idlib.publishing import Publisher
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.name_servers import Served, wait_until_served
from idlib.publishing.record_types import Place, tlsa_place
from idlib.publishing.zone import Zone
from idlib.records import TlsaRecord, key_of

WAIT_SECONDS: Final = 120.0
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Publication:
    """What a change has come to.

    Args:
        change: What was changed.
        foreign: The data of records that are not this device's and were kept.
        served: What each name server answers now.
    """

    change: Change
    foreign: tuple[bytes, ...]
    served: tuple[Served, ...]


class SetChanger:
    """Changes the records at one place, and reads them back.

    Args:
        publisher: Writes them.
        zone: The zone of the place.
        place: Where the records are.
        wait_seconds: How long to wait until every name server serves a change.
        report: Called with a sentence for the user when waiting begins.
    """

    def __init__(
        self,
        publisher: Publisher,
        zone: Zone,
        place: Place,
        wait_seconds: float = WAIT_SECONDS,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._publisher = publisher
        self._zone = zone
        self._place = place
        self._wait_seconds = wait_seconds
        self._report = report

    def change(
        self,
        after: Callable[[PublishedSet], PublishedSet],
        foreign: Callable[[PublishedSet], tuple[bytes, ...]] = lambda _: (),
    ) -> Publication:
        """Make a change, and wait until every name server serves it.

        Args:
            after: Returns the records that are to be there, given those that are there now.
            foreign: Returns those of the records that are not this device's.

        Raises:
            PublishingError: The change was not made, or not every name server serves it.
        """
        change = self._change(after)
        served = wait_until_served(self._zone, self._place, change.after, self._wait_seconds, self._report)
        return Publication(change, foreign(change.after), served)

    def _change(self, after: Callable[[PublishedSet], PublishedSet]) -> Change:
        """Make a change, again if someone else changed the records meanwhile."""
        attempts = _ATTEMPTS
        while True:
            before = self._publisher.read()
            change = Change(self._place.owner, before, after(before))
            if change.is_empty:
                return change
            try:
                self._publisher.apply(change)
            except ConcurrentChangeError:
                attempts -= 1
                if not attempts:
                    raise
            else:
                return change


class Publishing:
    """Changes the TLSA records of one device.

    Args:
        publisher: Writes them.
        zone: The zone of the name.
        name: The device.
        ttl: The wanted TTL in seconds; raised to what the zone requires.
        wait_seconds: How long to wait until every name server serves a change.
        report: Called with a sentence for the user when waiting begins.
    """

    def __init__(
        self,
        publisher: Publisher,
        zone: Zone,
        name: IdentityName,
        ttl: int,
        wait_seconds: float = WAIT_SECONDS,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._publisher = publisher
        self._zone = zone
        self._name = name
        self._ttl = ttl
        self._wait_seconds = wait_seconds
        self._report = report
        self._changer = SetChanger(publisher, zone, tlsa_place(name), wait_seconds, report)

    @property
    def negative_ttl(self) -> int:
        """For how many seconds resolvers may remember that a record is missing."""
        return self._zone.negative_ttl

    def with_ttl(self, ttl: int) -> "Publishing":
        """Return the same with another TTL.

        Args:
            ttl: Seconds; raised to what the zone requires.
        """
        return Publishing(self._publisher, self._zone, self._name, ttl, self._wait_seconds, self._report)

    def resulting_ttl(self) -> int:
        """Return the TTL that published records get, in seconds: what is wanted, or more if the method needs it.

        Raises:
            PublishingError: The records or the zone cannot be read.
        """
        return max(self._ttl, self._publisher.lowest_ttl())

    def read(self) -> PublishedSet:
        """Return the records that the name has now.

        Raises:
            PublishingError: They cannot be read.
        """
        return self._publisher.read()

    def renew(self) -> bool:
        """Make a write that changes nothing, if the zone would be deleted without writes.

        Returns:
            Whether the name has records; without any, nothing is written.

        Raises:
            PublishingError: The records cannot be read, or the write was not made.
        """
        if not self._publisher.read().rdatas:
            return False
        self._publisher.renew()
        return True

    def check(self) -> None:
        """Check that a change would be accepted, as far as the method can, without changing anything.

        Raises:
            CredentialError: The credential is rejected.
            PublishingError: It cannot be checked.
        """
        self._publisher.check()

    def publish(self, wanted: Sequence[TlsaRecord], retired: Collection[bytes] = ()) -> Publication:
        """Put records in place; other records of the same keys are replaced.

        Args:
            wanted: The records that the device is to have.
            retired: Keys whose records are removed, each as a SubjectPublicKeyInfo.

        Raises:
            PublishingError: The change was not made, or not every name server serves it.
        """
        keep = {record.to_rdata() for record in wanted}
        own_keys = {key for rdata in keep if (key := key_of(rdata)) is not None} | set(retired)

        def others(records: PublishedSet) -> tuple[bytes, ...]:
            return tuple(rdata for rdata in records.rdatas if rdata not in keep and key_of(rdata) not in own_keys)

        return self._publish(keep, others)

    def publish_only(self, wanted: Sequence[TlsaRecord]) -> Publication:
        """Put records in place, and remove all others.

        Args:
            wanted: The records that the device is to have.

        Raises:
            PublishingError: The change was not made, or not every name server serves it.
        """
        return self._publish({record.to_rdata() for record in wanted}, lambda _: ())

    def withdraw(self) -> Publication:
        """Remove every record of the device.

        Raises:
            PublishingError: The change was not made, or not every name server serves it.
        """
        return self._changer.change(lambda _: PublishedSet.of(0, ()))

    def _publish(self, keep: Collection[bytes], others: Callable[[PublishedSet], tuple[bytes, ...]]) -> Publication:
        return self._changer.change(
            lambda before: PublishedSet.of(self.resulting_ttl(), (*keep, *others(before))), others
        )
