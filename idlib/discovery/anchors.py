"""The keys of zones that the operator pins (DNSSEC_TRUST_ANCHORS): a file of DS or DNSKEY records."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import dns.dnssec
import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tokenizer
import dns.zonefile
from dns.dnssectypes import DSDigest
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS

from idlib.discovery.checking import may_sign, supports
from idlib.discovery.messages import shown
from idlib.errors import ConfigurationError, quoted
from idlib.files import read_regular
from idlib.output import harmless

Anchors = Mapping[dns.name.Name, tuple[DS | DNSKEY, ...]]

_MAX_BYTES: Final = 1024 * 1024
_DIGESTS: Final = frozenset({DSDigest.SHA256, DSDigest.SHA384})
# The parser's prefix of a reason: its own line number, or the class of an exception.
_BEFORE_A_REASON: Final = re.compile(r"<input>:\d+: |caught exception <class '[^']*'>: ")
# The parser's texts for anything that it cannot describe.
_UNNAMED: Final = frozenset({"", "Text input is malformed", "Text input ended prematurely"})


def read_anchors(path: Path) -> Anchors:
    """Return the anchors in a file by zone; there is at least one, and each is usable.

    Args:
        path: A file of DS or DNSKEY records as in a zone file, with absolute names; TTL and class may be left out. A
            record with an unsupported digest or algorithm is ignored if the zone has a supported one, else an error.

    Raises:
        ConfigurationError: The file cannot be read, or contains something else.
    """
    try:
        data = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from error
    record_sets = _parse(_decode(data, path), path)
    if not record_sets:
        raise _bad(path, "holds no record" if data else "is empty")
    anchors: dict[dns.name.Name, tuple[DS | DNSKEY, ...]] = {}
    for records in record_sets:
        if records.rdtype not in (RdataType.DS, RdataType.DNSKEY):
            raise _bad(path, f"holds {dns.rdatatype.to_text(records.rdtype)} records")
        usable = tuple(anchor for anchor in records if isinstance(anchor, DS | DNSKEY) and _is_usable(anchor))
        anchors[records.name] = anchors.get(records.name, ()) + usable
    useless = [shown(zone) for zone, zone_anchors in anchors.items() if not zone_anchors]
    if useless:
        raise _bad(path, f"holds no usable record for {useless[0][:200]!a}")
    return MappingProxyType(anchors)


def vouched_for(zone: dns.name.Name, keys: Iterable[DNSKEY], anchors: Iterable[DS | DNSKEY]) -> list[DNSKEY]:
    """Return the keys of a zone that its anchors match (RFC 4034, section 5.1.4)."""
    anchors = tuple(anchors)
    return [key for key in keys if any(_names(anchor, zone, key) for anchor in anchors)]


class _FaultyLineError(Exception):
    """A line is not a record.

    Args:
        number: The line number, from 1.
        reason: What is wrong with it.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number
        self.reason = reason


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _bad(path, f"line {line}: it is not UTF-8") from error


def _parse(text: str, path: Path) -> list[dns.rrset.RRset]:
    try:
        return _read(text)
    except _FaultyLineError as fault:
        number = _line_of(fault, text)
        raise _bad(path, f"line {number}: {harmless(fault.reason[:200])}") from fault


def _line_of(fault: _FaultyLineError, text: str) -> int:
    """Return the line of a fault: the parser may have read the next line before it reported the fault."""
    before = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)[: fault.number - 1]
    try:
        _read("".join(before))
    except _FaultyLineError as same:
        if same.reason == fault.reason:
            return max(1, fault.number - 1)
    return fault.number


def _read(text: str) -> list[dns.rrset.RRset]:
    manager = dns.zonefile.RRSetsReaderManager()
    tokens = dns.tokenizer.Tokenizer(text, "<input>")
    try:
        with manager.writer(replacement=True) as transaction:  # type: ignore[no-untyped-call]  # dnspython leaves it untyped
            dns.zonefile.Reader(tokens, dns.rdataclass.IN, transaction, allow_directives=False, default_ttl=0).read()
    except (dns.exception.DNSException, ValueError) as error:
        reason = _BEFORE_A_REASON.sub("", str(error)).removesuffix(".")
        raise _FaultyLineError(tokens.where()[1], "this is not a record" if reason in _UNNAMED else reason) from error
    return manager.rrsets


def _names(anchor: DS | DNSKEY, zone: dns.name.Name, key: DNSKEY) -> bool:
    if isinstance(anchor, DNSKEY):
        return anchor.to_wire() == key.to_wire()
    if (anchor.algorithm, anchor.key_tag) != (key.algorithm, key.key_id()):
        return False
    return bool(dns.dnssec.make_ds(zone, key, DSDigest.make(anchor.digest_type)).digest == anchor.digest)


def _is_usable(anchor: DS | DNSKEY) -> bool:
    if isinstance(anchor, DNSKEY):
        return may_sign(anchor)
    return supports(anchor.algorithm) and anchor.digest_type in _DIGESTS


def _bad(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Bad value of env var DNSSEC_TRUST_ANCHORS: {quoted(path)} {what}; set it to a file of DS records"
        " (digest 2 or 4) or DNSKEY records of your zone (algorithm 8, 13, 14 or 15)"
    )
