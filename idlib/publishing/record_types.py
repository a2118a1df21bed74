"""The types of records that are published, and everything about them that depends on the type.

A device publishes TLSA records at its name, and TXT records with its epoch keys at `_epoch.NAME`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.rdata
import dns.rdataclass
from dns.rdatatype import RdataType

from idlib.discovery.lookup import epoch_owner
from idlib.discovery.texts import joined
from idlib.epochs.record import PREFIX
from idlib.errors import MalformedRecordError
from idlib.names import IdentityName
from idlib.publishing.change import present, present_generic

_OCTET: Final = "(0*[0-9]{1,3})"
# White space before the digits is never given back, because a long text would be matched in quadratic time.
# Not as strict as dnspython, which does not read a digest of the wrong length, because such a record must be removable.
_TLSA: Final = re.compile(rf"{_OCTET}\s+{_OCTET}\s+{_OCTET}\s++([0-9A-Fa-f\s]+)")
_GENERIC: Final = re.compile(r"\\#\s+([0-9]{1,5})\s++([0-9A-Fa-f\s]*)")
_PLAIN: Final = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\')


@dataclass(frozen=True, slots=True)
class RecordType:
    """A type of records.

    Args:
        rdatatype: Its number.
        present: Returns the presentation form of a record's data.
        parse: Returns a record's data from its presentation form; raises ValueError if it is not one.
        content: Returns what a record's data means, which a provider must not change.
        never_published: The data of a record that is never published. Deleting it changes nothing, and needs the
            permission to change the records.
    """

    rdatatype: RdataType
    present: Callable[[bytes], str]
    parse: Callable[[str], bytes]
    content: Callable[[bytes], bytes]
    never_published: bytes

    def __str__(self) -> str:
        return self.rdatatype.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where records are published.

    Args:
        owner: Their name.
        type: Their type.
    """

    owner: IdentityName
    type: RecordType

    def __str__(self) -> str:
        return f"{self.type} records at {self.owner}"


def tlsa_place(name: IdentityName) -> Place:
    """Return where a device's TLSA records are.

    Args:
        name: The device.
    """
    return Place(name, TLSA)


def epoch_place(name: IdentityName) -> Place:
    """Return where a device's epoch records are, unless that is an alias.

    Args:
        name: The device, without `_epoch`.

    Raises:
        MalformedNameError: The name is so long that `_epoch.NAME` is not a name in DNS.
    """
    return Place(epoch_owner(name), TXT)


def text_of(rdata: bytes) -> bytes:
    """Return the text of a TXT record, however it is cut into character-strings.

    Args:
        rdata: The data in wire form; what is not the data of a TXT record is returned as it is.
    """
    try:
        return joined(rdata)
    except MalformedRecordError:
        return rdata


def _parse_tlsa(text: str) -> bytes:
    if text.isascii():
        if found := _TLSA.fullmatch(text):
            return bytes(map(int, found.group(1, 2, 3))) + bytes.fromhex(found[4])
        if found := _GENERIC.fullmatch(text):
            rdata = bytes.fromhex(found[2])
            if len(rdata) == int(found[1]):
                return rdata
    raise ValueError("not a TLSA record")


def _present_txt(rdata: bytes) -> str:
    try:
        joined(rdata)
    except MalformedRecordError:
        return present_generic(rdata)
    strings = []
    rest = rdata
    while rest:
        end = 1 + rest[0]
        strings.append(f'"{"".join(map(_escaped, rest[1:end]))}"')
        rest = rest[end:]
    return " ".join(strings)


def _escaped(byte: int) -> str:
    return chr(byte) if byte in _PLAIN else f"\\{byte:03}"


def _parse_txt(text: str) -> bytes:
    if not text.isascii():
        raise ValueError("not a TXT record")
    try:
        return dns.rdata.from_text(dns.rdataclass.IN, RdataType.TXT, text).to_wire() or b""
    except dns.exception.DNSException as error:
        raise ValueError("not a TXT record") from error


TLSA: Final = RecordType(RdataType.TLSA, present, _parse_tlsa, bytes, bytes((3, 1, 1)) + bytes(32))
TXT: Final = RecordType(RdataType.TXT, _present_txt, _parse_txt, text_of, bytes((len(PREFIX),)) + PREFIX)
