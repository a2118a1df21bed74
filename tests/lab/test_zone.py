import dns.dnssec
import dns.exception
import dns.name
import dns.rdatatype
import dns.rrset
import dns.zonefile
import pytest
from dns.dnssectypes import Algorithm, DSDigest

from lab.zone import SignedZone

ORIGIN = dns.name.from_text("example.test")
ALICE = "alice._device.example.test."


@pytest.fixture
def zone() -> SignedZone:
    return SignedZone("example.test")


def _validate(zone: SignedZone, name: str, rdtype: str) -> dns.rrset.RRset:
    """Return a set of the zone whose signature leads to the trust anchor, as a resolver would see it."""
    signed = zone.snapshot
    keys = signed.find_rrset(ORIGIN, dns.rdatatype.DNSKEY)
    (anchor,) = dns.zonefile.read_rrsets(zone.trust_anchors, rdclass=None)
    trusted = [key for key in keys if dns.dnssec.make_ds(ORIGIN, key, DSDigest.SHA256) == anchor[0]]
    assert len(trusted) == 1
    dns.dnssec.validate(
        keys,
        signed.find_rrset(ORIGIN, dns.rdatatype.RRSIG, dns.rdatatype.DNSKEY),
        {ORIGIN: dns.rrset.from_rdata_list(ORIGIN, keys.ttl, trusted)},
    )
    owner = dns.name.from_text(name)
    rrset = signed.find_rrset(owner, rdtype)
    signatures = signed.find_rrset(owner, dns.rdatatype.RRSIG, dns.rdatatype.from_text(rdtype))
    dns.dnssec.validate(rrset, signatures, {ORIGIN: keys})
    return rrset


def test_every_set_is_signed_up_to_the_trust_anchor(zone: SignedZone) -> None:
    zone.publish(f"{ALICE} 300 IN TLSA 3 0 0 3082abcd")
    assert _validate(zone, ALICE, "TLSA")[0].to_text() == "3 0 0 3082abcd"
    for rdtype in ("SOA", "NS", "DNSKEY", "NSEC"):
        _validate(zone, "example.test", rdtype)


def test_the_keys_are_of_algorithm_13(zone: SignedZone) -> None:
    keys = zone.snapshot.find_rdataset(ORIGIN, dns.rdatatype.DNSKEY)
    assert {(key.flags, key.algorithm) for key in keys} == {
        (257, Algorithm.ECDSAP256SHA256),
        (256, Algorithm.ECDSAP256SHA256),
    }


def test_the_trust_anchor_matches_the_key_record(zone: SignedZone) -> None:
    (key_records,) = dns.zonefile.read_rrsets(zone.key_records, rdclass=None)
    (anchor,) = dns.zonefile.read_rrsets(zone.trust_anchors, rdclass=None)
    assert key_records.name == anchor.name == ORIGIN
    assert dns.dnssec.make_ds(ORIGIN, key_records[0], DSDigest.SHA256) == anchor[0]


def test_publishing_replaces_and_signs_the_set_and_increases_the_serial(zone: SignedZone) -> None:
    zone.publish(f"{ALICE} IN TLSA 3 0 0 00")
    before = _validate(zone, "example.test", "SOA")[0].serial
    zone.publish(f"{ALICE} IN TLSA 3 0 0 01\n{ALICE} IN TLSA 3 1 0 02\nbob._device.example.test. TLSA 3 0 0 03")
    assert {record.to_text() for record in _validate(zone, ALICE, "TLSA")} == {"3 0 0 01", "3 1 0 02"}
    assert _validate(zone, "bob._device.example.test", "TLSA")[0].to_text() == "3 0 0 03"
    assert _validate(zone, "example.test", "SOA")[0].serial > before


def test_a_snapshot_does_not_change(zone: SignedZone) -> None:
    before = zone.snapshot
    zone.publish(f"{ALICE} IN TLSA 3 0 0 00")
    assert before.get_node(ALICE) is None
    assert zone.snapshot.get_node(ALICE) is not None


def test_a_withdrawn_set_is_removed(zone: SignedZone) -> None:
    zone.publish(f"{ALICE} IN TLSA 3 0 0 00")
    zone.withdraw(ALICE, "TLSA")
    assert zone.snapshot.get_node(ALICE) is None


@pytest.mark.parametrize("records", ["alice.example.org. IN TLSA 3 0 0 00", "alice IN TLSA 3 0 0 00"])
def test_names_outside_the_zone_are_rejected(zone: SignedZone, records: str) -> None:
    with pytest.raises(ValueError, match="outside the zone"):
        zone.publish(records)


def test_a_line_that_cannot_be_read_changes_nothing(zone: SignedZone) -> None:
    before = zone.snapshot
    with pytest.raises(dns.exception.DNSException):
        zone.publish(f"{ALICE} IN TLSA three 0 0 00")
    assert zone.snapshot is before
