"""The rules for one field of a write: subname, type, TTL and records."""

import re
from collections.abc import Sequence
from typing import Final

import dns.exception
import dns.rdata
import dns.rdatatype

from testbed.desec.limits import MAX_RDATA_BYTES, MAXIMUM_TTL
from testbed.desec.record_sets import MANAGED_BY_THE_SERVER

_SUBNAME: Final = re.compile(r"([*]|(([*][.])?([a-z0-9_-]{1,63}[.])*[a-z0-9_-]{1,63}))?")
_SUBNAME_RULE: Final = (
    "Subname can only use (lowercase) a-z, 0-9, ., -, and _, may start with a '*.', or just be '*'. Components may not"
    " exceed 63 characters."
)
_TYPE: Final = re.compile("[A-Z][A-Z0-9]*")


class PartError(Exception):
    """A part of a write has errors."""

    def __init__(self, errors: dict[str, object]) -> None:
        super().__init__(errors)
        self.errors = errors


def errors_of_subname(subname: str) -> dict[str, object]:
    """Return what is wrong with a subname, by field; empty if nothing is."""
    return {} if _SUBNAME.fullmatch(subname) else {"subname": [_SUBNAME_RULE]}


def errors_of_type(kind: str) -> dict[str, object]:
    """Return what is wrong with a type, by field; empty if nothing is."""
    if not _TYPE.fullmatch(kind):
        return {"type": ["Type must be uppercase alphanumeric and start with a letter."]}
    if kind in MANAGED_BY_THE_SERVER:
        return {"type": [f"You cannot tinker with the {kind} RR set. It is managed automatically."]}
    if kind.startswith("TYPE"):
        return {"type": ["Generic type format is not supported."]}
    try:
        dns.rdatatype.from_text(kind)
    except (dns.exception.DNSException, ValueError):
        return {"type": [f"The {kind} RR set type is currently unsupported."]}
    return {}


def errors_of_ttl(ttl: object, minimum: int) -> dict[str, object]:
    """Return what is wrong with a TTL, by field; empty if nothing is."""
    if not isinstance(ttl, int):
        return {"ttl": ["A valid integer is required."]}
    if ttl < minimum:
        return {"ttl": [f"Ensure this value is greater than or equal to {minimum}."]}
    if ttl > MAXIMUM_TTL:
        return {"ttl": [f"Ensure this value is less than or equal to {MAXIMUM_TTL}."]}
    return {}


def errors_of_records(records: object) -> dict[str, object]:
    """Return what is wrong with the form of a list of records, by field; empty if nothing is."""
    if not isinstance(records, list):
        return {"records": [f'Expected a list of items but got type "{type(records).__name__}".']}
    if not all(isinstance(record, str) for record in records):
        return {"records": [{} if isinstance(record, str) else ["Must be a string."] for record in records]}
    return {}


def canonical_records(kind: str, records: Sequence[str]) -> list[str]:
    """Return records as they are stored.

    Raises:
        PartError: One is not valid, too long, or there twice.
    """
    canonical = []
    for record in records:
        try:
            rdata = dns.rdata.from_text("IN", kind, record, relativize=False)
        except (dns.exception.DNSException, ValueError) as error:
            raise PartError({"non_field_errors": [str(error)]}) from error
        if len(rdata.to_wire() or b"") > MAX_RDATA_BYTES:
            raise PartError({"non_field_errors": ["Ensure this value has no more than 64000 byte in wire format."]})
        canonical.append(rdata.to_text(chunksize=0))
    if len(set(canonical)) != len(canonical):
        raise PartError({"non_field_errors": ["Duplicate: records must be semantically unique"]})
    return canonical
