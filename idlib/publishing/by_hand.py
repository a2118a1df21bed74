"""Leaves changes of records to the user, who enters them at a DNS provider."""

from idlib.errors import PublishingError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.name_servers import read_most_authoritative
from idlib.publishing.record_types import Place
from idlib.publishing.zone import Zone


class ManualChangeError(PublishingError):
    """Records must be changed by hand before the program can go on.

    Args:
        change: What is to be changed.
    """

    def __init__(self, change: Change) -> None:
        super().__init__(
            f"the records of {change.name} must be changed by hand, because DNS_PUBLISH is not set",
            "make the changes above at your DNS provider, then run the command again",
        )
        self.change = change


class ByHand:
    """Reads the records at one place, and asks the user for every change.

    Args:
        place: Where the records are.
        zone: The zone of that place.
    """

    def __init__(self, place: Place, zone: Zone) -> None:
        self._place = place
        self._zone = zone

    def read(self) -> PublishedSet:
        """Return the records that the zone's name servers have; see `Publisher`."""
        return read_most_authoritative(self._zone, self._place)

    def lowest_ttl(self) -> int:
        """Return the TTL of the present records, so that no change is needed only for it; see `Publisher`."""
        return self.read().ttl

    def apply(self, change: Change) -> None:
        """Raise an error that shows the change; see `Publisher`.

        Raises:
            ManualChangeError: Always, unless only the TTL differs.
        """
        if change.add or change.remove:
            raise ManualChangeError(change)

    def check(self) -> None:
        """Do nothing, because there is no credential; see `Publisher`."""

    def renew(self) -> None:
        """Do nothing, because only the user can write; see `Publisher`."""
