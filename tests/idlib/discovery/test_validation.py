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


class World:
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
        return self.pinned.look_up(name)

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
def world(tmp_path: Path, zone: Zone) -> World:
    return World(tmp_path, published(zone))


@pytest.mark.parametrize("algorithm", [8, 13, 14, 15])
@pytest.mark.parametrize("anchor", [Zone.ds, Zone.dnskey])
def test_a_signed_answer_is_accepted(tmp_path: Path, algorithm: int, anchor: Callable[[Zone], str]) -> None:
    zone = published(Zone(dns.name.from_text("example.test."), algorithm))
    records = World(tmp_path, zone, anchor(zone)).find()
    assert set(records.rdatas) == {b"\3\0\0\xab", b"\3\1\0\xcd"}
    assert records.lifetime == 300
    assert records.authentication == "DNSSEC, validated with the pinned key of example.test"
    assert records.zone == "example.test"


def test_queries_disable_checking_and_keys_are_cached_for_their_ttl(world: World) -> None:
    for _ in range(3):
        world.find()
        world.find(LINK)
    assert all(question.checking_disabled for question in world.resolver.questions)
    types = [question.record_type for question in world.resolver.questions]
    assert types.count(dns.rdatatype.DNSKEY) == 1
    world.seconds += 300
    world.find()
    assert world.resolver.questions[-1].record_type == dns.rdatatype.DNSKEY


def test_the_ad_bit_is_ignored(world: World) -> None:
    def vouch(message: dns.message.Message) -> None:
        message.flags |= dns.flags.AD
        message.answer = [rrset for rrset in message.answer if rrset.rdtype != dns.rdatatype.RRSIG]

    world.change = vouch
    assert "not signed by" in world.why_not(BogusError)


def test_aliases_are_validated_too(world: World) -> None:
    assert world.find(LINK).lifetime == 200
    name = world.zone.name("link._device")
    del world.zone.signatures[name, dns.rdatatype.CNAME]
    assert "CNAME records of link._device.example.test: they are not signed by" in world.why_not(BogusError, LINK)


def test_an_alias_to_a_name_outside_the_pinned_zones_is_not_secure(world: World) -> None:
    world.zone.add_text("away._device", "CNAME", "alice.example.com.")
    assert "alice.example.com is in none" in world.why_not(NotSecureError, IdentityName("away._device.example.test"))


def test_a_name_outside_the_pinned_zones_is_not_secure_and_not_looked_up(world: World) -> None:
    assert "in none of the zones" in world.why_not(NotSecureError, IdentityName("alice.example.com"))
    assert "in none of the zones" in world.why_not(NotSecureError, IdentityName("alice.notexample.test"))
    assert world.resolver.questions == []


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_an_absent_record_is_a_temporary_error(world: World, rcode: dns.rcode.Rcode) -> None:
    world.change = lambda message: message.set_rcode(rcode)
    assert "absence cannot be proven" in world.why_not(UnprovenAbsenceError, IdentityName("nobody.example.test"))


def test_a_signed_dname_authenticates_the_alias_derived_from_it(world: World) -> None:
    world.zone.add_text("old", "DNAME", "_device.example.test.")
    follows = dns.rrset.from_text("alice.old.example.test.", 300, "IN", "CNAME", "alice._device.example.test.")
    differs = dns.rrset.from_text("bob.old.example.test.", 300, "IN", "CNAME", "alice._device.example.test.")
    for alias in (follows, differs):
        world.zone.records[alias.name, dns.rdatatype.CNAME] = alias
    dname = (world.zone.name("old"), dns.rdatatype.DNAME)

    def add_dname(message: dns.message.Message) -> None:
        if message.question[0].rdtype == TLSA:
            message.answer += [world.zone.records[dname], world.zone.signatures[dname]]

    world.change = add_dname
    assert len(world.find(IdentityName("alice.old.example.test")).rdatas) == 2
    assert "not signed by" in world.why_not(BogusError, IdentityName("bob.old.example.test"))
    world.set_signatures(world.signature(), owner="old", record_type=dns.rdatatype.DNAME)
    assert "not signed by" in world.why_not(BogusError, IdentityName("alice.old.example.test"))


def test_changed_records_are_bogus(world: World) -> None:
    owner = world.zone.name("alice._device")
    world.zone.records[owner, TLSA] = dns.rrset.from_text(owner, 300, "IN", "TLSA", "3 0 0 AC", "3 1 0 CD")
    assert "does not verify" in world.why_not(BogusError)
    world.zone.records[owner, TLSA] = dns.rrset.from_text(owner, 300, "IN", "TLSA", "3 0 0 AB")
    assert "does not verify" in world.why_not(BogusError)


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [
        (NOW - timedelta(days=9), NOW - timedelta(seconds=1), "expired at 2026-06-01 11:59 UTC"),
        (NOW + timedelta(seconds=1), NOW + timedelta(days=9), "not valid before 2026-06-01 12:00 UTC"),
    ],
)
@pytest.mark.parametrize("record_type", [TLSA, dns.rdatatype.DNSKEY])
def test_signatures_outside_their_validity_are_bogus(
    world: World, since: object, until: object, reason: str, record_type: int
) -> None:
    owner = world.zone.origin if record_type == dns.rdatatype.DNSKEY else world.zone.name("alice._device")
    world.zone.sign(world.zone.records[owner, record_type], since, until)  # type: ignore[arg-type]
    assert reason in world.why_not(BogusError)


def test_a_lifetime_ends_with_the_signature_and_the_original_ttl(world: World) -> None:
    records = world.zone.records[world.zone.name("alice._device"), TLSA]
    world.zone.sign(records, until=NOW + timedelta(seconds=70))
    assert world.find().lifetime == 70
    world.zone.sign(records)
    records.ttl = 100_000
    assert world.find().lifetime == 300


def test_records_expanded_from_a_wildcard_are_bogus(world: World) -> None:
    wildcard = world.zone.add_text("*._device", "TLSA", "3 0 0 AB")
    owner = world.zone.name("carol._device")
    world.zone.records[owner, TLSA] = dns.rrset.from_rdata(owner, 300, *wildcard)
    (signature,) = world.zone.signatures[wildcard.name, TLSA]
    world.zone.signatures[owner, TLSA] = dns.rrset.from_rdata(owner, 300, signature)
    assert "wildcard" in world.why_not(BogusError, IdentityName("carol._device.example.test"))


@pytest.mark.parametrize("field", ["labels", "key_tag", "algorithm", "original_ttl", "signature"])
def test_a_changed_signature_is_bogus(world: World, field: str) -> None:
    signature = world.signature()
    value = getattr(signature, field)
    changed = signature.replace(**{field: value[::-1] if isinstance(value, bytes) else value + 1})
    assert isinstance(changed, RRSIG)
    world.set_signatures(changed)
    world.why_not(BogusError)
    world.set_signatures(changed, signature)
    world.find()


def test_a_malformed_signature_does_not_affect_the_others(world: World) -> None:
    def add_malformed(message: dns.message.Message) -> None:
        owner = world.zone.name("alice._device")
        for rdata in (b"", b"\0" * 17, struct.pack("!HBBIIIH", TLSA, 13, 4, 1, 2**32 - 1, 0, 1) + b"\xc0\x0c"):
            generic = dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.RRSIG, rdata)
            message.answer.insert(0, dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.RRSIG, TLSA))
            message.answer[0].items[generic] = None

    world.change = add_malformed
    world.find()


def test_a_key_that_is_not_the_pinned_one_is_bogus(world: World, tmp_path: Path) -> None:
    forged = World(tmp_path, published(Zone(world.zone.origin)), world.zone.ds())
    assert "no key of the zone example.test matches the pinned one" in forged.why_not(BogusError)


def test_a_pinned_key_that_has_not_signed_the_keys_is_bogus(world: World) -> None:
    forger = Zone(world.zone.origin)
    both = dns.rrset.from_rdata(world.zone.origin, 300, world.zone.key, forger.key)
    world.zone.records[world.zone.origin, dns.rdatatype.DNSKEY] = both
    forger.sign(both)
    world.zone.signatures[world.zone.origin, dns.rdatatype.DNSKEY] = forger.signatures[
        world.zone.origin, dns.rdatatype.DNSKEY
    ]
    assert "no key with the tag" in world.why_not(BogusError)


def test_keys_signed_by_the_pinned_key_may_sign(world: World) -> None:
    zone_key = Zone(world.zone.origin)
    zone_key.key = dns.dnssec.make_dnskey(zone_key.private_key.public_key(), 13, flags=256)
    world.zone.add(dns.rrset.from_rdata(world.zone.origin, 300, world.zone.key, zone_key.key))
    zone_key.sign(world.zone.records[world.zone.name("alice._device"), TLSA])
    world.zone.signatures.update((key, value) for key, value in zone_key.signatures.items() if key[1] == TLSA)
    world.find()


@pytest.mark.parametrize("flags", [0, 1, 256 | 128, 257 | 128])
def test_keys_that_may_not_sign_are_ignored(world: World, flags: int) -> None:
    zone_key = Zone(world.zone.origin)
    zone_key.key = dns.dnssec.make_dnskey(zone_key.private_key.public_key(), 13, flags=flags)
    world.zone.add(dns.rrset.from_rdata(world.zone.origin, 300, world.zone.key, zone_key.key))
    signature = dns.dnssec.sign(
        world.zone.records[world.zone.name("alice._device"), TLSA],
        zone_key.private_key,
        world.zone.origin,
        zone_key.key,
        inception=NOW - timedelta(days=1),
        expiration=NOW + timedelta(days=1),
        verify=False,
    )
    assert isinstance(signature, RRSIG)
    world.set_signatures(signature)
    assert "no key with the tag" in world.why_not(BogusError)


def test_missing_keys_are_a_temporary_error_and_not_looked_up_again_at_once(world: World) -> None:
    del world.zone.records[world.zone.origin, dns.rdatatype.DNSKEY]
    for _ in range(3):
        assert "no DNSKEY records" in world.why_not(TemporaryDiscoveryError)
    assert len(world.resolver.questions) == 4


def test_the_number_of_signature_checks_is_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.find()
    checks: list[bytes] = []

    def note(_key: object, value: bytes, _signed: bytes) -> bool:
        checks.append(value)
        return False

    monkeypatch.setattr("idlib.discovery.checking._verifies", note)
    signature = world.signature()
    forged = [signature.replace(signature=number.to_bytes(64)) for number in range(500)]
    world.set_signatures(*[signature for signature in forged if isinstance(signature, RRSIG)])
    assert "too many signature checks" in world.why_not(BogusError)
    assert len(checks) == 16


def test_a_signature_of_no_key_of_the_zone_is_not_checked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.find()
    monkeypatch.setattr(
        "idlib.discovery.checking._signed_octets", lambda *_: pytest.fail("the records were put in order")
    )
    signature = world.signature()
    forged = signature.replace(key_tag=signature.key_tag ^ 1)
    assert isinstance(forged, RRSIG)
    world.set_signatures(forged)
    assert "no key with the tag" in world.why_not(BogusError)


def test_the_deepest_pinned_zone_must_sign(tmp_path: Path, zone: Zone) -> None:
    child = Zone(zone.name("_device"))
    world = World(tmp_path, published(zone), zone.ds() + child.ds())
    assert "not signed by" in world.why_not(BogusError)
    child.add_text("alice", "TLSA", "3 0 0 EF")
    zone.records.update(child.records)
    zone.signatures.update(child.signatures)
    assert world.find().authentication.endswith("the pinned key of _device.example.test")


def below_a_cut(zone: Zone) -> Zone:
    """Publish Alice in a separate zone below the pinned one."""
    child = Zone(zone.name("_device"))
    child.add_text("alice", "TLSA", "3 0 0 EF")
    zone.records.update(child.records)
    zone.signatures.update(child.signatures)
    return child


def test_a_signed_delegation_proves_another_zone(world: World) -> None:
    child = below_a_cut(world.zone)
    world.zone.add_text("_device", "DS", str(dns.dnssec.make_ds(child.origin, child.key, "SHA256")))
    assert "alice._device.example.test is in the zone _device.example.test" in world.why_not(NotSecureError)


def test_another_signers_name_alone_does_not_prove_another_zone(world: World) -> None:
    child = below_a_cut(world.zone)
    assert "they are not signed by" in world.why_not(BogusError)
    forged = dns.rrset.from_rdata(child.origin, 300, dns.dnssec.make_ds(child.origin, child.key, "SHA256"))
    child.sign(forged)
    world.zone.records[forged.name, forged.rdtype] = forged
    world.zone.signatures[forged.name, forged.rdtype] = child.signatures[forged.name, forged.rdtype]
    assert "they are not signed by" in world.why_not(BogusError)


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
    world: World,
    owner: str,
    record_type: str,
    text: str,
    proves: bool,  # noqa: FBT001
) -> None:
    below_a_cut(world.zone)
    denial = world.zone.add_text(owner, record_type, text)
    signature = world.zone.signatures[denial.name, denial.rdtype]

    def add_denial(message: dns.message.Message) -> None:
        if message.question[0].rdtype == dns.rdatatype.DS:
            message.authority += [denial, signature]

    world.change = add_denial
    if proves:
        assert "whose key is not pinned" in world.why_not(NotSecureError)
        world.change = lambda message: message.authority.append(denial)
    assert "they are not signed by" in world.why_not(BogusError)


def test_an_unsigned_answer_below_a_pinned_zone_is_bogus(world: World) -> None:
    world.zone.signatures.pop((world.zone.name("alice._device"), TLSA))
    assert "they are not signed by" in world.why_not(BogusError)


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_answer_with_changed_bytes_is_unchanged_or_rejected(world: World, data: st.DataObject) -> None:
    def ask(question: Question) -> Reply:
        response = world.zone.answer(dns.message.from_wire(question.to_wire(1)))
        wire = bytearray(response.to_wire(max_size=65535))
        for position in data.draw(st.lists(st.integers(12, len(wire) - 1), max_size=3)):
            wire[position] = data.draw(st.integers(0, 255))
        try:
            return Reply(read_answer(bytes(wire), question, 1), SERVER)
        except UnusableAnswerError as error:
            raise TemporaryDiscoveryError(str(error)) from error

    resolver = Answering(world.zone.answer)
    resolver.ask = ask  # type: ignore[method-assign]
    pinned = PinnedAnchors(resolver, world.anchors, lambda: 0.0, NOW.timestamp)
    try:
        records = pinned.look_up(LINK)
    except DiscoveryError as error:
        assert error.fact
    else:
        assert set(records.rdatas) == {b"\3\0\0\xab", b"\3\1\0\xcd"}
        assert records.lifetime <= 300
