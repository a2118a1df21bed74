"""The record sets that the account's domains have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from testbed.desec.exchange import RejectionError

MANAGED_BY_THE_SERVER: Final = frozenset({"KEY", "NSEC", "NSEC3", "OPT", "RRSIG", "NSEC3PARAM", "SOA"})

_SERVED: Final = frozenset({"TLSA", "TXT"})

# Domain, subname and type.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class RecordSet:
    ttl: int
    records: tuple[str, ...]


class RecordSets:
    """The record sets of all domains.

    Args:
        minimum_ttls: The names of the domains, and the lowest TTL of each.
        serve: Called with owner, type, records and TTL after each change of TLSA or TXT records, to put them into DNS.
        clock: Seconds.
    """

    def __init__(
        self,
        minimum_ttls: Mapping[str, int],
        serve: Callable[[str, str, Sequence[str], int], None],
        clock: Callable[[], float],
    ) -> None:
        self.minimum_ttls = dict(minimum_ttls)
        self.stored: dict[Key, RecordSet] = {}
        # When each set was written last, even if that changed nothing; a zone without writes is deleted.
        self.touched: dict[Key, float] = {}
        self._serve = serve
        self._clock = clock

    def split(self, name: str) -> tuple[str, str]:
        """Return the domain of a name, and its subname in that domain."""
        domain = next(domain for domain in self.minimum_ttls if f".{name}".endswith(f".{domain}"))
        return domain, name.removesuffix(domain).removesuffix(".")

    def require_domain(self, name: str) -> None:
        """Check that the account has a domain.

        Raises:
            RejectionError: It does not.
        """
        if name not in self.minimum_ttls:
            raise RejectionError(404, {"detail": "Not found."})

    def listed(self, domain: str, query: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
        """Return the sets of a domain, as the API shows them.

        Args:
            domain: The domain.
            query: The values of `subname` and of `type`, of which the last one counts; without them, all sets.

        Raises:
            RejectionError: The type is managed by the server.
        """
        wanted = {key: values[-1] for key, values in query.items()}
        if wanted.get("type") in MANAGED_BY_THE_SERVER:
            raise RejectionError(403, {"detail": f"You cannot tinker with the {wanted['type']} RRset."})
        return [
            self.shown(key)
            for key in self.stored
            if key[0] == domain and wanted.get("subname", key[1]) == key[1] and wanted.get("type", key[2]) == key[2]
        ]

    def shown(self, key: Key) -> dict[str, object]:
        """Return a set as the API shows it."""
        domain, subname, kind = key
        known = self.stored[key]
        name = f"{subname}.{domain}." if subname else f"{domain}."
        shown = {"domain": domain, "subname": subname, "name": name, "type": kind, "ttl": known.ttl}
        return {**shown, "records": list(known.records)}

    def write(self, key: Key, fields: Mapping[str, Any]) -> None:
        """Make one part of a write.

        Args:
            key: What is written.
            fields: The new `ttl` and `records`; a set that exists may keep one of them. No records remove the set.
        """
        if fields.get("records") == []:
            self.store(key, None)
        else:
            # Without one of the fields, the set was required to exist.
            before = self.stored.get(key) or RecordSet(0, ())
            self.store(key, RecordSet(fields.get("ttl", before.ttl), tuple(fields.get("records", before.records))))
            self.touched[key] = self._clock()

    def store(self, key: Key, record_set: RecordSet | None) -> None:
        """Set the records of a key, or remove them, and serve them in DNS if they changed."""
        domain, subname, kind = key
        if record_set == self.stored.get(key):
            return
        if record_set:
            self.stored[key] = record_set
        else:
            del self.stored[key]
        if kind in _SERVED:
            name = f"{subname}.{domain}" if subname else domain
            self._serve(name, kind, record_set.records if record_set else (), record_set.ttl if record_set else 0)
