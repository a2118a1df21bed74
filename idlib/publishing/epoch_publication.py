"""Puts the device's epoch records into DNS, beside the other TXT records of `_epoch.NAME`."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from idlib.epochs.record import MAX_RECORDS, PREFIX, SignedEpochRecord
from idlib.errors import PublishingError
from idlib.publishing import Publisher
from idlib.publishing.change import PublishedSet
from idlib.publishing.publication import WAIT_SECONDS, Publication, SetChanger
from idlib.publishing.record_types import Place, text_of
from idlib.publishing.zone import Zone

# Caches may keep a record for a part of the time for which its key is in use.
TTL_PARTS: Final = 4
MAX_TTL_SECONDS: Final = 3600


class EpochPublishing:
    """Changes the epoch records of one device.

    TXT records that do not start with `epoch1:` have another purpose and are kept.

    Args:
        publisher: Writes the records.
        zone: The zone of the place.
        place: Where the records are: `_epoch.NAME`, or the target of that alias.
        epoch_length: EPOCH_LENGTH: for how many seconds a key is in use.
        wait_seconds: How long to wait until every name server serves a change.
        report: Called with a sentence for the user when waiting begins.
    """

    def __init__(
        self,
        publisher: Publisher,
        zone: Zone,
        place: Place,
        epoch_length: int,
        wait_seconds: float = WAIT_SECONDS,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._publisher = publisher
        self._place = place
        self._epoch_length = epoch_length
        self._changer = SetChanger(publisher, zone, place, wait_seconds, report)

    @property
    def place(self) -> Place:
        """Where the records are."""
        return self._place

    def resulting_ttl(self) -> int:
        """Return the TTL that published records get, in seconds: a quarter of EPOCH_LENGTH, and at most an hour.

        Raises:
            PublishingError: The zone cannot be read, or does not allow such a TTL.
        """
        return self._ttl_with(self._publisher.lowest_ttl())

    def _ttl_with(self, lowest: int) -> int:
        longest = self._longest_ttl
        if lowest > longest:
            raise PublishingError(
                f"the {self._place} need a TTL of {longest} s or less, a quarter of EPOCH_LENGTH, and the lowest that"
                f" their zone allows is {lowest} s",
                f"set EPOCH_LENGTH to {lowest * TTL_PARTS}s or more, also for the receiver",
            )
        return max(min(longest, MAX_TTL_SECONDS), lowest)

    @property
    def _longest_ttl(self) -> int:
        return self._epoch_length // TTL_PARTS

    def _ttl_after(self, before: PublishedSet, wanted: Collection[bytes]) -> int:
        lowest = self._publisher.lowest_ttl()
        if before.ttl == lowest > self._longest_ttl and epoch_texts(before.rdatas) != tuple(sorted(wanted)):
            # It may be the TTL of longer epochs, or of other records, and not what the zone requires.
            return min(self._longest_ttl, MAX_TTL_SECONDS)
        return self._ttl_with(lowest)

    def read(self) -> PublishedSet:
        """Return the TXT records that are there now, including those with another purpose.

        Raises:
            PublishingError: They cannot be read.
        """
        return self._publisher.read()

    def check(self) -> None:
        """Check that a change would be accepted, as far as the method can, without changing anything.

        Raises:
            CredentialError: The credential is rejected.
            PublishingError: It cannot be checked.
        """
        self._publisher.check()

    def publish(self, records: Sequence[SignedEpochRecord]) -> Publication:
        """Put records in place of all epoch records that are there, in one change.

        Args:
            records: 1 to 8 records, of which no two are equal.

        Raises:
            PublishingError: The change was not made, or not every name server serves it.
            ValueError: There are no records, too many, or two equal ones.
        """
        wanted = {record.to_text(): _rdata_of(record) for record in records}
        if not 0 < len(wanted) == len(records) <= MAX_RECORDS:
            raise ValueError(f"{len(records)} epoch records to publish")

        def after(before: PublishedSet) -> PublishedSet:
            # Kept as it is, if the provider has cut it in another way.
            kept = {text: rdata for rdata in before.rdatas if (text := text_of(rdata)) in wanted}
            return PublishedSet.of(self._ttl_after(before, wanted), (*_foreign(before), *(wanted | kept).values()))

        return self._changer.change(after, _foreign)

    def withdraw(self) -> Publication:
        """Remove every epoch record.

        Raises:
            PublishingError: The change was not made, or not every name server serves it.
        """
        return self._changer.change(lambda before: PublishedSet.of(before.ttl, _foreign(before)), _foreign)


def epoch_texts(rdatas: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the texts of the epoch records among TXT records, in the order of their bytes.

    Args:
        rdatas: The data of TXT records.
    """
    return tuple(sorted(text for rdata in rdatas if (text := text_of(rdata)).startswith(PREFIX)))


def _foreign(records: PublishedSet) -> tuple[bytes, ...]:
    return tuple(rdata for rdata in records.rdatas if not text_of(rdata).startswith(PREFIX))


def _rdata_of(record: SignedEpochRecord) -> bytes:
    return b"".join(bytes((len(string),)) + string for string in record.to_strings())
