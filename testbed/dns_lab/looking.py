"""Looks up names of the lab as a device does, and compares the result with what is expected."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from idlib.discovery import Discovery, PublishedKey
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
)
from idlib.names import IdentityName
from idlib.records import PUBLIC_KEY_INFO
from idlib.settings import load
from testbed.daemons.process import LOOPBACK
from testbed.dns_lab import material
from testbed.dns_lab.conditions import Outcome, Verdict
from testbed.dns_lab.lab import DnsLab

_VERDICTS = {
    NoRecordError: Verdict.NONE,
    NoUsableRecordError: Verdict.UNUSABLE,
    NotSecureError: Verdict.NOT_SECURE,
    BogusError: Verdict.BOGUS,
    TemporaryDiscoveryError: Verdict.TEMPORARY,
    UnprovenAbsenceError: Verdict.TEMPORARY,
}


@dataclass(frozen=True)
class Seen:
    """The result of a look-up.

    Args:
        outcome: The records' parameters and keys in order, or the verdict.
        words: The text for the user.
    """

    outcome: tuple[PublishedKey, ...] | Verdict
    words: str


def discovery(lab: DnsLab, port: int, *, pinned: bool) -> Discovery:
    """Return the discovery of a device that asks the server at a port, and trusts it or pins the lab's keys."""
    environment = {
        "IDENTITY_NAME": "tester._device.good.test",
        "DNS_RESOLVER": f"{LOOPBACK}:{port}",
        "PKIX_CA_FILE": str(lab.authorities),
    }
    if pinned:
        environment["DNSSEC_TRUST_ANCHORS"] = str(lab.anchors)
    return Discovery.from_settings(load(environment))


def look_up(asking: Discovery, name: str) -> Seen:
    """Look a name up."""
    try:
        found = asking.find(IdentityName(name))
    except DiscoveryError as error:
        return Seen(_VERDICTS[type(error)], str(error))
    return Seen(found.published, found.authentication)


def assert_seen(seen: Seen, name: str, expected: Outcome) -> None:
    """Fail unless a look-up of the name came to what is expected, and in words."""
    assert seen.words
    if isinstance(expected, Verdict):
        assert seen.outcome is expected, seen.words
        return
    assert not isinstance(seen.outcome, Verdict), seen.words
    assert list(seen.outcome) == [_published(record, name) for record in expected]


def _published(record: str, name: str) -> PublishedKey:
    octets = material.rdata(record, name)
    if octets[1] == PUBLIC_KEY_INFO:
        return PublishedKey(record[:5], octets[3:])
    key = x509.load_der_x509_certificate(octets[3:]).public_key()
    return PublishedKey(record[:5], key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
