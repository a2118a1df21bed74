"""The device's TLSA records in the forms that people, name servers and tools take."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from idlib.printed_records import PrintedRecords

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


def _printed(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> PrintedRecords:
    return PrintedRecords(name, ttl, "TLSA", tuple(map(str, records)))


def _text(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    shown = "".join(f"TLSA record for {name}: {record}\n" for record in records)
    return f"{shown}{_zone(name, ttl, records)}"


def _zone(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    return _printed(name, ttl, records).zone()


def _nsupdate(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    return _printed(name, ttl, records).nsupdate()


def _octodns(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    return _printed(name, ttl, records).octodns(
        [
            (
                f"certificate_association_data: '{record.association.hex()}'",
                f"certificate_usage: {record.usage}",
                f"matching_type: {record.matching_type}",
                f"selector: {record.selector}",
            )
            for record in records
        ]
    )


def _json(name: "IdentityName", ttl: int, records: "Sequence[TlsaRecord]") -> str:
    return _printed(name, ttl, records).json()


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
