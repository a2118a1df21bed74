"""IANA's list of the root's trust anchors (RFC 9718), of which a copy is kept beside the resolver."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dns.dnssec
import dns.name
import dns.rdata
from dns.rdtypes.ANY.DNSKEY import DNSKEY

LIST: Final = Path(__file__).parents[2] / "resolver/root-anchors.xml"


@dataclass(frozen=True)
class Anchor:
    """A KeyDigest element.

    Args:
        ds: The DS record in presentation form: key tag, algorithm, digest type and digest.
        dnskey: The DNSKEY record in presentation form; empty if the list has only the digest.
        valid_until: When it ends; None if that is not known yet.
    """

    ds: str
    dnskey: str
    valid_until: datetime | None


def anchors() -> tuple[Anchor, ...]:
    """Return the anchors in the list, past ones included."""
    return tuple(_read(element) for element in ET.parse(LIST).getroot().iter("KeyDigest"))


def valid_anchors() -> tuple[Anchor, ...]:
    """Return the anchors that are valid now."""
    now = datetime.now(UTC)
    return tuple(anchor for anchor in anchors() if anchor.valid_until is None or anchor.valid_until > now)


def ds_of(line: str) -> str:
    """Return the DS record, SHA-256, of a DNSKEY record in a line of a zone file."""
    record = dns.rdata.from_text("IN", "DNSKEY", line.partition("DNSKEY ")[2].partition(";")[0])
    assert isinstance(record, DNSKEY)
    return str(dns.dnssec.make_ds(dns.name.root, record, "SHA256")).upper()


def _read(element: ET.Element) -> Anchor:
    words = {child.tag: (child.text or "").strip() for child in element}
    ds = " ".join(words[name] for name in ("KeyTag", "Algorithm", "DigestType", "Digest"))
    key = words.get("PublicKey")
    until = element.get("validUntil")
    return Anchor(
        ds,
        f"{words['Flags']} 3 {words['Algorithm']} {key}" if key else "",
        datetime.fromisoformat(until) if until else None,
    )
