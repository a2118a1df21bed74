"""The device's TLSA records in the forms that people, name servers and tools take."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from idlib.names import IdentityName
    from idlib.records import TlsaRecord


class RecordFormat(StrEnum):
    """The form in which a record is printed."""

    TEXT = "text"
    ZONE = "zone"
    NSUPDATE = "nsupdate"
    OCTODNS = "octodns"
    JSON = "json"
    GENERIC = "generic"


def render(form: RecordFormat, name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    """Return all records of a name in a form, as lines that end with a line feed.

    Args:
        form: The form.
        name: The owner of the records.
        ttl: Seconds for which they may be cached.
        records: At least one.
    """
    return _RENDERERS[form](name, ttl, records)


def _text(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    shown = "".join(f"TLSA record for {name}: {record}\n" for record in records)
    return f"{shown}{_zone(name, ttl, records)}"


def _zone(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    """Return lines of a zone file (RFC 1035, section 5.1)."""
    return "".join(f"{name}. {ttl} IN TLSA {record}\n" for record in records)


def _nsupdate(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    """Return commands for nsupdate, which make the records the only ones of the name."""
    added = "".join(f"update add {name}. {ttl} TLSA {record}\n" for record in records)
    return f"update delete {name}. TLSA\n{added}send\n"


def _octodns(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    """Return an entry for octoDNS's file of the zone; octoDNS wants its keys in this order."""
    # Imported late, because --help needs none of it.
    from idlib.zones import registrable_domain

    zone = registrable_domain(name)
    # The zone itself has an empty name there.
    label = name.text.removesuffix(zone).removesuffix(".") or "''"
    key, bullet = ("value", "  ") if len(records) == 1 else ("values", "- ")
    values = "".join(
        f"  {bullet}certificate_association_data: '{record.association.hex()}'\n"
        f"    certificate_usage: {record.usage}\n"
        f"    matching_type: {record.matching_type}\n"
        f"    selector: {record.selector}\n"
        for record in records
    )
    return f"# For {zone}.yaml\n{label}:\n  ttl: {ttl}\n  type: TLSA\n  {key}:\n{values}"


def _json(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    return json.dumps({"name": name.text, "type": "TLSA", "ttl": ttl, "records": list(map(str, records))}) + "\n"


def _generic(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    """Return lines of a zone file for servers that do not know the type (RFC 3597, section 5)."""
    # Imported late, because --help needs none of it.
    from idlib.publishing.change import present_generic

    return "".join(f"{name}. {ttl} IN TYPE52 {present_generic(record.to_rdata())}\n" for record in records)


_RENDERERS: "Final[dict[RecordFormat, Callable[[IdentityName, int, Sequence[TlsaRecord]], str]]]" = {
    RecordFormat.TEXT: _text,
    RecordFormat.ZONE: _zone,
    RecordFormat.NSUPDATE: _nsupdate,
    RecordFormat.OCTODNS: _octodns,
    RecordFormat.JSON: _json,
    RecordFormat.GENERIC: _generic,
}
