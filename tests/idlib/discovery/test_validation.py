import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest
from dns.rdtypes.ANY.RRSIG import RRSIG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.discovery.anchors import read_anchors
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import EpochLookUp, TlsaLookUp
from idlib.discovery.messages import Question, UnusableAnswerError, read_answer
from idlib.discovery.resolver import Reply, Server
from idlib.discovery.validation import PinnedAnchors
from idlib.errors import BogusError, DiscoveryError, NotSecureError, TemporaryDiscoveryError, UnprovenAbsenceError
from idlib.names import IdentityName
from idlib.settings import ServerAddress
from testbed.name_server import NOW, Answering, Zone

ALICE = IdentityName("alice._device.example.test")
LINK = IdentityName("link._device.example.test")
SERVER = Server(ServerAddress("192.0.2.53"), trusted=False)
TLSA = dns.rdatatype.TLSA


class PinnedZone:
    """A signed and pinned zone, and a path to it on which answers can be changed."""

    def __init__(self, directory: Path, zone: Zone, anchors: str | None = None) -> None:
        self.zone = zone
        self.change: Callable[[dns.message.Message], None] = lambda _: None
        self.resolver = Answering(self._respond)
        path = directory / "anchors"
        path.write_text(zone.ds() if anchors is None else anchors)
        self.seconds = 0.0
        self.anchors = read_anchors(path)
        self.pinned = PinnedAnchors(self.resolver, self.anchors, lambda: self.seconds, NOW.timestamp)

    def _respond(self, query: dns.message.Message) -> dns.message.Message:
        response = self.zone.answer(query)
        self.change(response)
        return response

    def find(self, name: IdentityName = ALICE) -> AuthenticRecords:
        return self.pinned.look_up(TlsaLookUp(name))

    def why_not(self, kind: type[DiscoveryError], name: IdentityName = ALICE) -> str:
        with pytest.raises(kind) as caught:
            self.find(name)
        assert caught.value.hint
        return caught.value.fact

    def signature(self, owner: str = "alice._device", record_type: int = TLSA) -> RRSIG:
        rdata = self.zone.signatures[self.zone.name(owner), record_type][0]
        assert isinstance(rdata, RRSIG)
        return rdata

    def set_signatures(self, *signatures: RRSIG, owner: str = "alice._device", record_type: int = TLSA) -> None:
        name = self.zone.name(owner)
        self.zone.signatures[name, record_type] = dns.rrset.from_rdata(name, 300, *signatures)


def published(zone: Zone) -> Zone:
    zone.add_text("alice._device", "TLSA", "3 0 0 AB", "3 1 0 CD")
    zone.add_text("link._device", "CNAME", "Alice._device.example.test.", ttl=200)
    return zone


@pytest.fixture
def pinned_zone(tmp_path: Path, zone: Zone) -> PinnedZone:
    return PinnedZone(tmp_path, published(zone))


@pytest.mark.parametrize("algorithm", [8, 13, 14, 15])
@pytest.mark.parametrize("anchor", [Zone.ds, Zone.dnskey])
def test_a_signed_answer_is_accepted(tmp_path: Path, algorithm: int, anchor: Callable[[Zone], str]) -> None:
    zone = published(Zone(dns.name.from_text("example.test."), algorithm))
    records = PinnedZone(tmp_path, zone, anchor(zone)).find()
    assert set(records.rdatas) == {b"\3\0\0\xab", b"\3\1\0\xcd"}
    assert records.lifetime == 300
    assert records.authentication == "DNSSEC, validated with the pinned key of example.test"
    assert records.zone == "example.test"


def test_queries_disable_checking_and_keys_are_cached_for_their_ttl(pinned_zone: PinnedZone) -> None:
    for _ in range(3):
        pinned_zone.find()
        pinned_zone.find(LINK)
    assert all(question.checking_disabled for question in pinned_zone.resolver.questions)
    types = [question.record_type for question in pinned_zone.resolver.questions]
    assert types.count(dns.rdatatype.DNSKEY) == 1
    pinned_zone.seconds += 300
    pinned_zone.find()
    assert pinned_zone.resolver.questions[-1].record_type == dns.rdatatype.DNSKEY


def test_the_ad_bit_is_ignored(pinned_zone: PinnedZone) -> None:
    def vouch(message: dns.message.Message) -> None:
        message.flags |= dns.flags.AD
        message.answer = [rrset for rrset in message.answer if rrset.rdtype != dns.rdatatype.RRSIG]

    pinned_zone.change = vouch
    assert "not signed by" in pinned_zone.why_not(BogusError)


def test_aliases_are_validated_too(pinned_zone: PinnedZone) -> None:
    assert pinned_zone.find(LINK).lifetime == 200
    name = pinned_zone.zone.name("link._device")
    del pinned_zone.zone.signatures[name, dns.rdatatype.CNAME]
    assert "CNAME records of link._device.example.test: they are not signed by" in pinned_zone.why_not(BogusError, LINK)


def test_an_alias_to_a_name_outside_the_pinned_zones_is_not_secure(pinned_zone: PinnedZone) -> None:
    pinned_zone.zone.add_text("away._device", "CNAME", "alice.example.com.")
    assert "alice.example.com is in none" in pinned_zone.why_not(
        NotSecureError, IdentityName("away._device.example.test")
    )


def test_a_name_outside_the_pinned_zones_is_not_secure_and_not_looked_up(pinned_zone: PinnedZone) -> None:
    assert "in none of the zones" in pinned_zone.why_not(NotSecureError, IdentityName("alice.example.com"))
    assert "in none of the zones" in pinned_zone.why_not(NotSecureError, IdentityName("alice.notexample.test"))
    assert pinned_zone.resolver.questions == []


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_an_absent_record_is_a_temporary_error(pinned_zone: PinnedZone, rcode: dns.rcode.Rcode) -> None:
    pinned_zone.change = lambda message: message.set_rcode(rcode)
    assert "absence cannot be proven" in pinned_zone.why_not(UnprovenAbsenceError, IdentityName("nobody.example.test"))


def test_a_signed_dname_authenticates_the_alias_derived_from_it(pinned_zone: PinnedZone) -> None:
    pinned_zone.zone.add_text("old", "DNAME", "_device.example.test.")
    follows = dns.rrset.from_text("alice.old.example.test.", 300, "IN", "CNAME", "alice._device.example.test.")
    differs = dns.rrset.from_text("bob.old.example.test.", 300, "IN", "CNAME", "alice._device.example.test.")
    for alias in (follows, differs):
        pinned_zone.zone.records[alias.name, dns.rdatatype.CNAME] = alias
    dname = (pinned_zone.zone.name("old"), dns.rdatatype.DNAME)

    def add_dname(message: dns.message.Message) -> None:
        if message.question[0].rdtype == TLSA:
            message.answer += [pinned_zone.zone.records[dname], pinned_zone.zone.signatures[dname]]

    pinned_zone.change = add_dname
    assert len(pinned_zone.find(IdentityName("alice.old.example.test")).rdatas) == 2
    assert "not signed by" in pinned_zone.why_not(BogusError, IdentityName("bob.old.example.test"))
    pinned_zone.set_signatures(pinned_zone.signature(), owner="old", record_type=dns.rdatatype.DNAME)
    assert "not signed by" in pinned_zone.why_not(BogusError, IdentityName("alice.old.example.test"))


def test_changed_records_are_bogus(pinned_zone: PinnedZone) -> None:
    owner = pinned_zone.zone.name("alice._device")
    pinned_zone.zone.records[owner, TLSA] = dns.rrset.from_text(owner, 300, "IN", "TLSA", "3 0 0 AC", "3 1 0 CD")
    assert "does not verify" in pinned_zone.why_not(BogusError)
    pinned_zone.zone.records[owner, TLSA] = dns.rrset.from_text(owner, 300, "IN", "TLSA", "3 0 0 AB")
    assert "does not verify" in pinned_zone.why_not(BogusError)


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [
        (NOW - timedelta(days=9), NOW - timedelta(seconds=1), "expired at 2026-06-01 11:59 UTC"),
        (NOW + timedelta(seconds=1), NOW + timedelta(days=9), "not valid before 2026-06-01 12:00 UTC"),
    ],
)
@pytest.mark.parametrize("record_type", [TLSA, dns.rdatatype.DNSKEY])
def test_signatures_outside_their_validity_are_bogus(
    pinned_zone: PinnedZone, since: object, until: object, reason: str, record_type: int
) -> None:
    owner = pinned_zone.zone.origin if record_type == dns.rdatatype.DNSKEY else pinned_zone.zone.name("alice._device")
    pinned_zone.zone.sign(pinned_zone.zone.records[owner, record_type], since, until)  # type: ignore[arg-type]
    assert reason in pinned_zone.why_not(BogusError)


def test_a_lifetime_ends_with_the_signature_and_the_original_ttl(pinned_zone: PinnedZone) -> None:
    records = pinned_zone.zone.records[pinned_zone.zone.name("alice._device"), TLSA]
    pinned_zone.zone.sign(records, until=NOW + timedelta(seconds=70))
    assert pinned_zone.find().lifetime == 70
    pinned_zone.zone.sign(records)
    records.ttl = 100_000
    assert pinned_zone.find().lifetime == 300


def test_records_expanded_from_a_wildcard_are_bogus(pinned_zone: PinnedZone) -> None:
    wildcard = pinned_zone.zone.add_text("*._device", "TLSA", "3 0 0 AB")
    owner = pinned_zone.zone.name("carol._device")
    pinned_zone.zone.records[owner, TLSA] = dns.rrset.from_rdata(owner, 300, *wildcard)
    (signature,) = pinned_zone.zone.signatures[wildcard.name, TLSA]
    pinned_zone.zone.signatures[owner, TLSA] = dns.rrset.from_rdata(owner, 300, signature)
    assert "wildcard" in pinned_zone.why_not(BogusError, IdentityName("carol._device.example.test"))


@pytest.mark.parametrize("field", ["labels", "key_tag", "algorithm", "original_ttl", "signature"])
def test_a_changed_signature_is_bogus(pinned_zone: PinnedZone, field: str) -> None:
    signature = pinned_zone.signature()
    value = getattr(signature, field)
    changed = signature.replace(**{field: value[::-1] if isinstance(value, bytes) else value + 1})
    assert isinstance(changed, RRSIG)
    pinned_zone.set_signatures(changed)
    pinned_zone.why_not(BogusError)
    pinned_zone.set_signatures(changed, signature)
    pinned_zone.find()


def test_a_malformed_signature_does_not_affect_the_others(pinned_zone: PinnedZone) -> None:
    def add_malformed(message: dns.message.Message) -> None:
        owner = pinned_zone.zone.name("alice._device")
        for rdata in (b"", b"\0" * 17, struct.pack("!HBBIIIH", TLSA, 13, 4, 1, 2**32 - 1, 0, 1) + b"\xc0\x0c"):
            generic = dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.RRSIG, rdata)
            message.answer.insert(0, dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.RRSIG, TLSA))
            message.answer[0].items[generic] = None

    pinned_zone.change = add_malformed
    pinned_zone.find()


def test_a_key_that_is_not_the_pinned_one_is_bogus(pinned_zone: PinnedZone, tmp_path: Path) -> None:
    forged = PinnedZone(tmp_path, published(Zone(pinned_zone.zone.origin)), pinned_zone.zone.ds())
    assert "no key of the zone example.test matches the pinned one" in forged.why_not(BogusError)


def test_a_pinned_key_that_has_not_signed_the_keys_is_bogus(pinned_zone: PinnedZone) -> None:
    forger = Zone(pinned_zone.zone.origin)
    both = dns.rrset.from_rdata(pinned_zone.zone.origin, 300, pinned_zone.zone.key, forger.key)
    pinned_zone.zone.records[pinned_zone.zone.origin, dns.rdatatype.DNSKEY] = both
    forger.sign(both)
    pinned_zone.zone.signatures[pinned_zone.zone.origin, dns.rdatatype.DNSKEY] = forger.signatures[
        pinned_zone.zone.origin, dns.rdatatype.DNSKEY
    ]
    assert "no key with the tag" in pinned_zone.why_not(BogusError)


def test_keys_signed_by_the_pinned_key_may_sign(pinned_zone: PinnedZone) -> None:
    zone_key = Zone(pinned_zone.zone.origin)
    zone_key.key = dns.dnssec.make_dnskey(zone_key.private_key.public_key(), 13, flags=256)
    pinned_zone.zone.add(dns.rrset.from_rdata(pinned_zone.zone.origin, 300, pinned_zone.zone.key, zone_key.key))
    zone_key.sign(pinned_zone.zone.records[pinned_zone.zone.name("alice._device"), TLSA])
    pinned_zone.zone.signatures.update((key, value) for key, value in zone_key.signatures.items() if key[1] == TLSA)
    pinned_zone.find()


@pytest.mark.parametrize("flags", [0, 1, 256 | 128, 257 | 128])
def test_keys_that_may_not_sign_are_ignored(pinned_zone: PinnedZone, flags: int) -> None:
    zone_key = Zone(pinned_zone.zone.origin)
    zone_key.key = dns.dnssec.make_dnskey(zone_key.private_key.public_key(), 13, flags=flags)
    pinned_zone.zone.add(dns.rrset.from_rdata(pinned_zone.zone.origin, 300, pinned_zone.zone.key, zone_key.key))
    signature = dns.dnssec.sign(
        pinned_zone.zone.records[pinned_zone.zone.name("alice._device"), TLSA],
        zone_key.private_key,
        pinned_zone.zone.origin,
        zone_key.key,
        inception=NOW - timedelta(days=1),
        expiration=NOW + timedelta(days=1),
        verify=False,
    )
    assert isinstance(signature, RRSIG)
    pinned_zone.set_signatures(signature)
    assert "no key with the tag" in pinned_zone.why_not(BogusError)


def test_missing_keys_are_a_temporary_error_and_not_looked_up_again_at_once(pinned_zone: PinnedZone) -> None:
    del pinned_zone.zone.records[pinned_zone.zone.origin, dns.rdatatype.DNSKEY]
    for _ in range(3):
        assert "no DNSKEY records" in pinned_zone.why_not(TemporaryDiscoveryError)
    assert len(pinned_zone.resolver.questions) == 4


def test_the_number_of_signature_checks_is_limited(pinned_zone: PinnedZone, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned_zone.find()
    checks: list[bytes] = []

    def note(_key: object, value: bytes, _signed: bytes) -> bool:
        checks.append(value)
        return False

    monkeypatch.setattr("idlib.discovery.checking._verifies", note)
    signature = pinned_zone.signature()
    forged = [signature.replace(signature=number.to_bytes(64)) for number in range(500)]
    pinned_zone.set_signatures(*[signature for signature in forged if isinstance(signature, RRSIG)])
    assert "too many signature checks" in pinned_zone.why_not(BogusError)
    assert len(checks) == 16


def test_a_signature_of_no_key_of_the_zone_is_not_checked(
    pinned_zone: PinnedZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned_zone.find()
    monkeypatch.setattr(
        "idlib.discovery.checking._signed_bytes", lambda *_: pytest.fail("the records were put in order")
    )
    signature = pinned_zone.signature()
    forged = signature.replace(key_tag=signature.key_tag ^ 1)
    assert isinstance(forged, RRSIG)
    pinned_zone.set_signatures(forged)
    assert "no key with the tag" in pinned_zone.why_not(BogusError)


def test_the_deepest_pinned_zone_must_sign(tmp_path: Path, zone: Zone) -> None:
    child = Zone(zone.name("_device"))
    pinned_zone = PinnedZone(tmp_path, published(zone), zone.ds() + child.ds())
    assert "not signed by" in pinned_zone.why_not(BogusError)
    child.add_text("alice", "TLSA", "3 0 0 EF")
    zone.records.update(child.records)
    zone.signatures.update(child.signatures)
    assert pinned_zone.find().authentication.endswith("the pinned key of _device.example.test")


def below_a_cut(zone: Zone) -> Zone:
    """Publish Alice in a separate zone below the pinned one."""
    child = Zone(zone.name("_device"))
    child.add_text("alice", "TLSA", "3 0 0 EF")
    zone.records.update(child.records)
    zone.signatures.update(child.signatures)
    return child


def test_a_signed_delegation_proves_another_zone(pinned_zone: PinnedZone) -> None:
    child = below_a_cut(pinned_zone.zone)
    pinned_zone.zone.add_text("_device", "DS", str(dns.dnssec.make_ds(child.origin, child.key, "SHA256")))
    assert "alice._device.example.test is in the zone _device.example.test" in pinned_zone.why_not(NotSecureError)


def test_another_signers_name_alone_does_not_prove_another_zone(pinned_zone: PinnedZone) -> None:
    child = below_a_cut(pinned_zone.zone)
    assert "they are not signed by" in pinned_zone.why_not(BogusError)
    forged = dns.rrset.from_rdata(child.origin, 300, dns.dnssec.make_ds(child.origin, child.key, "SHA256"))
    child.sign(forged)
    pinned_zone.zone.records[forged.name, forged.rdtype] = forged
    pinned_zone.zone.signatures[forged.name, forged.rdtype] = child.signatures[forged.name, forged.rdtype]
    assert "they are not signed by" in pinned_zone.why_not(BogusError)


NSEC3_OWNER = dns.dnssec.nsec3_hash("_device.example.test.", "AB", 3, 1)


@pytest.mark.parametrize(
    ("owner", "record_type", "text", "proves"),
    [
        ("_device", "NSEC", "z.example.test. NS RRSIG NSEC", True),
        ("_device", "NSEC", "z.example.test. NS SOA RRSIG NSEC", False),
        ("_device", "NSEC", "z.example.test. A RRSIG NSEC", False),
        ("other", "NSEC", "z.example.test. NS RRSIG NSEC", False),
        (NSEC3_OWNER, "NSEC3", "1 1 3 AB CPNMU NS", True),
        (NSEC3_OWNER, "NSEC3", "1 1 3 AB CPNMU A RRSIG", False),
        (NSEC3_OWNER, "NSEC3", "1 1 4 AB CPNMU NS", False),
        (NSEC3_OWNER, "NSEC3", "1 1 2000 AB CPNMU NS", False),
    ],
)
def test_a_signed_denial_of_a_ds_record_proves_another_zone(
    pinned_zone: PinnedZone,
    owner: str,
    record_type: str,
    text: str,
    proves: bool,  # noqa: FBT001
) -> None:
    below_a_cut(pinned_zone.zone)
    denial = pinned_zone.zone.add_text(owner, record_type, text)
    signature = pinned_zone.zone.signatures[denial.name, denial.rdtype]

    def add_denial(message: dns.message.Message) -> None:
        if message.question[0].rdtype == dns.rdatatype.DS:
            message.authority += [denial, signature]

    pinned_zone.change = add_denial
    if proves:
        assert "whose key is not pinned" in pinned_zone.why_not(NotSecureError)
        pinned_zone.change = lambda message: message.authority.append(denial)
    assert "they are not signed by" in pinned_zone.why_not(BogusError)


def test_an_unsigned_answer_below_a_pinned_zone_is_bogus(pinned_zone: PinnedZone) -> None:
    pinned_zone.zone.signatures.pop((pinned_zone.zone.name("alice._device"), TLSA))
    assert "they are not signed by" in pinned_zone.why_not(BogusError)


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_answer_with_changed_bytes_is_unchanged_or_rejected(pinned_zone: PinnedZone, data: st.DataObject) -> None:
    def ask(question: Question) -> Reply:
        response = pinned_zone.zone.answer(dns.message.from_wire(question.to_wire(1)))
        wire = bytearray(response.to_wire(max_size=65535))
        for position in data.draw(st.lists(st.integers(12, len(wire) - 1), max_size=3)):
            wire[position] = data.draw(st.integers(0, 255))
        try:
            return Reply(read_answer(bytes(wire), question, 1), SERVER)
        except UnusableAnswerError as error:
            raise TemporaryDiscoveryError(str(error)) from error

    resolver = Answering(pinned_zone.zone.answer)
    resolver.ask = ask  # type: ignore[method-assign]
    pinned = PinnedAnchors(resolver, pinned_zone.anchors, lambda: 0.0, NOW.timestamp)
    try:
        records = pinned.look_up(TlsaLookUp(LINK))
    except DiscoveryError as error:
        assert error.fact
    else:
        assert set(records.rdatas) == {b"\3\0\0\xab", b"\3\1\0\xcd"}
        assert records.lifetime <= 300


def with_epochs(pinned_zone: PinnedZone) -> PinnedZone:
    pinned_zone.zone.add_text("_epoch.alice._device", "TXT", '"ab" "c"')
    pinned_zone.zone.add_text("_epoch.link._device", "CNAME", "_epoch.alice._device.example.test.", ttl=200)
    return pinned_zone


def why_no_epochs(pinned_zone: PinnedZone, kind: type[DiscoveryError], name: IdentityName = ALICE) -> str:
    with pytest.raises(kind) as caught:
        pinned_zone.pinned.look_up(EpochLookUp(name))
    assert caught.value.hint
    return caught.value.fact


@pytest.mark.parametrize(("name", "lifetime"), [(ALICE, 300), (LINK, 200)])
def test_signed_epoch_records_are_accepted(pinned_zone: PinnedZone, name: IdentityName, lifetime: int) -> None:
    records = with_epochs(pinned_zone).pinned.look_up(EpochLookUp(name))
    assert (records.rdatas, records.lifetime, records.zone) == ((b"\2ab\1c",), lifetime, "example.test")
    assert records.authentication == "DNSSEC, validated with the pinned key of example.test"
    first = pinned_zone.resolver.questions[0]
    assert (str(first), first.over_tcp, first.checking_disabled) == (f"_epoch.{name} TXT", True, True)


def test_changed_or_unsigned_epoch_records_are_bogus(pinned_zone: PinnedZone) -> None:
    owner = with_epochs(pinned_zone).zone.name("_epoch.alice._device")
    txt = dns.rdatatype.TXT
    pinned_zone.zone.records[owner, txt] = dns.rrset.from_text(owner, 300, "IN", "TXT", '"a" "bc"')
    fact = "the TXT records of _epoch.alice._device.example.test: a signature does not verify"
    assert fact in why_no_epochs(pinned_zone, BogusError)
    del pinned_zone.zone.signatures[owner, txt]
    assert "not signed by" in why_no_epochs(pinned_zone, BogusError)


def test_an_unsigned_alias_of_epoch_records_is_bogus(pinned_zone: PinnedZone) -> None:
    name = with_epochs(pinned_zone).zone.name("_epoch.link._device")
    del pinned_zone.zone.signatures[name, dns.rdatatype.CNAME]
    assert "CNAME records of _epoch.link._device" in why_no_epochs(pinned_zone, BogusError, LINK)


def test_the_signature_of_a_names_tlsa_records_does_not_prove_its_epoch_records(pinned_zone: PinnedZone) -> None:
    owner = with_epochs(pinned_zone).zone.name("_epoch.alice._device")
    tlsa = pinned_zone.zone.add(dns.rrset.from_text(owner, 300, "IN", "TLSA", "3 0 0 AB"))
    pinned_zone.zone.signatures[owner, dns.rdatatype.TXT] = pinned_zone.zone.signatures[tlsa.name, TLSA]
    assert "not signed by" in why_no_epochs(pinned_zone, BogusError)


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_absent_epoch_records_are_a_temporary_error(pinned_zone: PinnedZone, rcode: dns.rcode.Rcode) -> None:
    pinned_zone.change = lambda message: message.set_rcode(rcode)
    fact = why_no_epochs(pinned_zone, UnprovenAbsenceError)
    assert fact.startswith(f"{ALICE} is marked as having epoch keys, and the DNS server 192.0.2.53:53 returned no TXT")
    assert "absence cannot be proven" in fact


def test_epoch_records_outside_the_pinned_zones_are_not_secure(pinned_zone: PinnedZone) -> None:
    name = IdentityName("alice.example.com")
    assert "_epoch.alice.example.com is in none of the zones" in why_no_epochs(pinned_zone, NotSecureError, name)
    pinned_zone.zone.add_text("_epoch.alice._device", "CNAME", "alice.example.com.")
    assert "alice.example.com is in none of the zones" in why_no_epochs(pinned_zone, NotSecureError)
