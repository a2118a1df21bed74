"""The device's TLSA record in the forms that people, name servers and tools take."""

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from idlib.names import IdentityName
from idlib.publishing.change import present_generic
from idlib.records import TlsaRecord
from idlib.zones import registrable_domain


class RecordFormat(StrEnum):
    """The form in which a record is printed."""

    TEXT = "text"
    ZONE = "zone"
    NSUPDATE = "nsupdate"
    OCTODNS = "octodns"
    JSON = "json"
    GENERIC = "generic"


def render(form: RecordFormat, name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    """Return a record in a form, as lines that end with a line feed.

    Args:
        form: The form.
        name: The owner of the record.
        ttl: Seconds for which it may be cached.
        record: The record.
    """
    return _RENDERERS[form](name, ttl, record)


def _text(name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    return f"TLSA record for {name}: {record}\n{_zone(name, ttl, record)}"


def _zone(name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    """Return a line of a zone file (RFC 1035, section 5.1)."""
    return f"{name}. {ttl} IN TLSA {record}\n"


def _nsupdate(name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    """Return commands for nsupdate, which make the record the only one of the name."""
    return f"update delete {name}. TLSA\nupdate add {name}. {ttl} TLSA {record}\nsend\n"


def _octodns(name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    """Return an entry for octoDNS's file of the zone; octoDNS wants its keys in this order."""
    zone = registrable_domain(name)
    # The zone itself has an empty name there.
    label = name.text.removesuffix(zone).removesuffix(".") or "''"
    return (
        f"# For {zone}.yaml\n"
        f"{label}:\n"
        f"  ttl: {ttl}\n"
        "  type: TLSA\n"
        "  value:\n"
        f"    certificate_association_data: '{record.association.hex()}'\n"
        f"    certificate_usage: {record.usage}\n"
        f"    matching_type: {record.matching_type}\n"
        f"    selector: {record.selector}\n"
    )


def _json(name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    return json.dumps({"name": name.text, "type": "TLSA", "ttl": ttl, "records": [str(record)]}) + "\n"


def _generic(name: IdentityName, ttl: int, record: TlsaRecord) -> str:
    """Return a line of a zone file for servers that do not know the type (RFC 3597, section 5)."""
    return f"{name}. {ttl} IN TYPE52 {present_generic(record.to_rdata())}\n"


_RENDERERS: Final[dict[RecordFormat, Callable[[IdentityName, int, TlsaRecord], str]]] = {
    RecordFormat.TEXT: _text,
    RecordFormat.ZONE: _zone,
    RecordFormat.NSUPDATE: _nsupdate,
    RecordFormat.OCTODNS: _octodns,
    RecordFormat.JSON: _json,
    RecordFormat.GENERIC: _generic,
}
