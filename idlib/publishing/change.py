"""The records of one name and type, and a change to them: frozen values in wire form and presentation form."""

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from idlib.errors import MalformedRecordError
from idlib.names import IdentityName
from idlib.records import TlsaRecord, key_of

_SHOWN_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """The records of one type that a name has.

    Args:
        ttl: Seconds for which they may be cached; 0 if there are none.
        rdatas: The data of each record, without duplicates and sorted.
    """

    ttl: int
    rdatas: tuple[bytes, ...]

    @classmethod
    def of(cls, ttl: int, rdatas: Iterable[bytes]) -> "PublishedSet":
        """Return the set of these records, in any order and with duplicates.

        Args:
            ttl: Seconds; ignored if there are no records.
            rdatas: The data of each record.
        """
        unique = tuple(sorted(set(rdatas)))
        return cls(ttl if unique else 0, unique)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to change at a name.

    Args:
        name: The owner of the records.
        before: The records that the change starts from.
        after: The records that the name has afterwards.
    """

    name: IdentityName
    before: PublishedSet
    after: PublishedSet

    @property
    def add(self) -> tuple[bytes, ...]:
        """The data of the records that are new."""
        return tuple(rdata for rdata in self.after.rdatas if rdata not in self.before.rdatas)

    @property
    def remove(self) -> tuple[bytes, ...]:
        """The data of the records that are no longer there."""
        return tuple(rdata for rdata in self.before.rdatas if rdata not in self.after.rdatas)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes, the TTL included."""
        return self.before == self.after


@functools.lru_cache(maxsize=64)
def present(rdata: bytes) -> str:
    """Return a TLSA record's data in presentation form: `3 0 0 HEX`, or the generic form if it is malformed.

    Args:
        rdata: The data in wire form.
    """
    try:
        return str(TlsaRecord.from_rdata(rdata))
    except MalformedRecordError:
        return present_generic(rdata)


def present_generic(rdata: bytes) -> str:
    r"""Return a record's data in the form for unknown types: `\# LENGTH HEX` (RFC 3597, section 5).

    Args:
        rdata: The data in wire form.
    """
    return rf"\# {len(rdata)} {rdata.hex()}"


def shorten(rdata: bytes) -> str:
    """Return a TLSA record's data for people: its parameters, the first digits, and what tells its key from others.

    Records of different keys begin alike. The digits of the key are the first of the SHA-256 of its
    SubjectPublicKeyInfo, so they are the same for the certificate and the public key alone.

    Args:
        rdata: The data in wire form.
    """
    parameters, _, digits = present(rdata).rpartition(" ")
    shown = f"{parameters} {digits[:_SHOWN_DIGITS]}…" if len(digits) > _SHOWN_DIGITS else f"{parameters} {digits}"
    key = key_of(rdata)
    return shown if key is None else f"{shown}, key {hashlib.sha256(key).hexdigest()[:_SHOWN_DIGITS]}"
