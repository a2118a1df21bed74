"""Records of any type in the forms that people, name servers and tools take."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from idlib.names import IdentityName


@dataclass(frozen=True, slots=True)
class PrintedRecords:
    """The records of one name and type.

    Args:
        owner: Their name.
        ttl: Seconds for which they may be cached.
        type: Their type, as in TLSA.
        values: Each record in presentation form, at least one.
    """

    owner: IdentityName
    ttl: int
    type: str
    values: Sequence[str]

    def zone(self) -> str:
        """Return lines of a zone file (RFC 1035, section 5.1)."""
        return "".join(f"{self.owner}. {self.ttl} IN {self.type} {value}\n" for value in self.values)

    def nsupdate(self) -> str:
        """Return commands for nsupdate, which make the records the only ones of their name and type."""
        added = "".join(f"update add {self.owner}. {self.ttl} {self.type} {value}\n" for value in self.values)
        return f"update delete {self.owner}. {self.type}\n{added}send\n"

    def octodns(self, values: Sequence[Sequence[str]]) -> str:
        """Return an entry for octoDNS's file of the zone; octoDNS wants its keys in this order.

        Args:
            values: Each record as octoDNS writes it, in lines.
        """
        # Imported late, because --help needs none of it.
        from idlib.zones import registrable_domain

        zone = registrable_domain(self.owner)
        # The zone itself has an empty name there.
        label = self.owner.text.removesuffix(zone).removesuffix(".") or "''"
        key, bullet = ("value", "  ") if len(values) == 1 else ("values", "- ")
        lines = "".join(
            f"  {'  ' if number else bullet}{line}\n" for value in values for number, line in enumerate(value)
        )
        return f"# For {zone}.yaml\n{label}:\n  ttl: {self.ttl}\n  type: {self.type}\n  {key}:\n{lines}"

    def json(self) -> str:
        """Return a line with a JSON object."""
        fields = {"name": self.owner.text, "type": self.type, "ttl": self.ttl, "records": list(self.values)}
        return json.dumps(fields) + "\n"
