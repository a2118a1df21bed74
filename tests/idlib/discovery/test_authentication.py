import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from idlib.discovery.authentication import Authentication, NoAuthentication, TrustedResolver
from idlib.discovery.lookup import EpochLookUp, TlsaLookUp
from idlib.errors import DiscoveryError, NoEpochRecordError, NoRecordError, NotSecureError, TemporaryDiscoveryError
from idlib.names import IdentityName
from testbed.name_server import NOW, Answering, Zone

ALICE = IdentityName("alice._device.example.test")
LINK = IdentityName("link._device.example.test")


@pytest.fixture
def resolver(zone: Zone) -> Answering:
    zone.add_text("alice._device", "TLSA", "3 0 0 AB", "3 1 0 CD")
    zone.add_text("link._device", "CNAME", "alice._device.example.test.", ttl=200)
    zone.add_text("dangling._device", "CNAME", "nobody._device.example.test.")
    return Answering(lambda query: authenticated(zone.answer(query)))


def authenticated(message: dns.message.Message) -> dns.message.Message:
    message.flags |= dns.flags.AD
    return message


def trusted(resolver: Answering) -> TrustedResolver:
    return TrustedResolver(resolver, NOW.timestamp)


def why_not(authentication: Authentication, name: IdentityName, kind: type[DiscoveryError]) -> DiscoveryError:
    with pytest.raises(kind) as caught:
        authentication.look_up(TlsaLookUp(name))
    assert caught.value.fact
    assert caught.value.hint
    return caught.value


def test_the_ad_bit_of_a_trusted_resolver_is_accepted(resolver: Answering) -> None:
    records = trusted(resolver).look_up(TlsaLookUp(ALICE))
    assert set(records.rdatas) == {b"\3\0\0\xab", b"\3\1\0\xcd"}
    assert (records.lifetime, records.authentication) == (300, "DNSSEC, validated by the resolver 192.0.2.53:53")
    assert not resolver.questions[0].checking_disabled


def test_aliases_are_followed_and_shorten_the_lifetime(resolver: Answering) -> None:
    assert trusted(resolver).look_up(TlsaLookUp(LINK)).lifetime == 200


def test_signatures_shorten_the_lifetime(resolver: Answering, zone: Zone) -> None:
    records = zone.records[zone.name("alice._device"), dns.rdatatype.TLSA]
    records.ttl = 7200
    assert trusted(resolver).look_up(TlsaLookUp(ALICE)).lifetime == 300
    zone.sign(records)
    assert trusted(resolver).look_up(TlsaLookUp(ALICE)).lifetime == 7200
    zone.sign(records, until=NOW.replace(hour=13))
    assert trusted(resolver).look_up(TlsaLookUp(ALICE)).lifetime == 3600


def rrsig_of(zone: Zone, owner: str, signer: str) -> dns.rrset.RRset:
    """Return the signature of a name's TLSA records with another zone's name; a resolver forwards such signatures."""
    rdata = zone.signatures[zone.name(owner), dns.rdatatype.TLSA][0]
    return dns.rrset.from_rdata(zone.name(owner), 300, rdata.replace(signer=dns.name.from_text(signer)))


@pytest.mark.parametrize("name", [ALICE, LINK])
def test_the_zone_is_the_one_that_signed_the_records(resolver: Answering, name: IdentityName) -> None:
    assert trusted(resolver).look_up(TlsaLookUp(name)).zone == "example.test"


def test_the_zone_has_one_spelling() -> None:
    zone = Zone(dns.name.from_text("EXAMPLE.Test."))
    zone.add_text("alice._device", "TLSA", "3 0 0 AB")
    resolver = Answering(lambda query: authenticated(zone.answer(query)))
    assert trusted(resolver).look_up(TlsaLookUp(ALICE)).zone == "example.test"


def test_without_signatures_or_without_dnssec_the_zone_is_not_known(resolver: Answering, zone: Zone) -> None:
    assert NoAuthentication(resolver, NOW.timestamp).look_up(TlsaLookUp(ALICE)).zone is None
    del zone.signatures[zone.name("alice._device"), dns.rdatatype.TLSA]
    assert trusted(resolver).look_up(TlsaLookUp(ALICE)).zone is None


@pytest.mark.parametrize("claim", ["alice._device.example.test.", "_device.example.test.", "other.test.", "."])
def test_a_signature_that_claims_another_zone_has_no_effect(resolver: Answering, zone: Zone, claim: str) -> None:
    def claiming(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(zone.answer(query))
        message.answer.insert(0, rrsig_of(zone, "alice._device", claim))
        return message

    resolver.respond = claiming
    assert trusted(resolver).look_up(TlsaLookUp(ALICE)).zone == "example.test"


def test_the_zone_of_an_alias_is_the_one_that_signed_the_alias(resolver: Answering, zone: Zone) -> None:
    stranger = Zone(dns.name.from_text("stranger.test."))
    alias = stranger.add_text("evil", "CNAME", "alice._device.example.test.")

    def answer(query: dns.message.Message) -> dns.message.Message:
        target = dns.message.make_query(zone.name("alice._device"), dns.rdatatype.TLSA)
        message = authenticated(dns.message.make_response(query))
        message.answer = [alias, stranger.signatures[alias.name, dns.rdatatype.CNAME], *zone.answer(target).answer]
        return message

    resolver.respond = answer
    assert trusted(resolver).look_up(TlsaLookUp(IdentityName("evil.stranger.test"))).zone == "stranger.test"


def test_the_zone_of_an_alias_from_a_dname_is_that_of_the_dname(resolver: Answering, zone: Zone) -> None:
    stranger = Zone(dns.name.from_text("stranger.test."))
    source = stranger.add_text("below", "DNAME", "_device.example.test.")
    alias = dns.rrset.from_text("alice.below.stranger.test.", 300, "IN", "CNAME", "alice._device.example.test.")

    def answer(query: dns.message.Message) -> dns.message.Message:
        target = dns.message.make_query(zone.name("alice._device"), dns.rdatatype.TLSA)
        message = authenticated(dns.message.make_response(query))
        signature = stranger.signatures[source.name, dns.rdatatype.DNAME]
        message.answer = [source, signature, alias, *zone.answer(target).answer]
        return message

    resolver.respond = answer
    assert trusted(resolver).look_up(TlsaLookUp(IdentityName("alice.below.stranger.test"))).zone == "stranger.test"


def test_the_error_for_a_proven_absence_has_its_zone(resolver: Answering, zone: Zone) -> None:
    name = IdentityName("nobody.example.test")
    assert why_not(trusted(resolver), name, NoRecordError).zone is None
    soa = zone.add_text("@", "SOA", ". . 1 1 1 1 1")

    def deny(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(zone.answer(query))
        message.authority = [soa, zone.signatures[soa.name, dns.rdatatype.SOA]]
        return message

    resolver.respond = deny
    assert why_not(trusted(resolver), name, NoRecordError).zone == "example.test"
    assert why_not(NoAuthentication(resolver), name, NoRecordError).zone is None
    dangling = IdentityName("dangling._device.example.test")
    assert why_not(trusted(resolver), dangling, NoRecordError).zone == "example.test"


@pytest.mark.parametrize(
    ("time_to_live", "minimum", "seconds"), [(3555, 3600, 3555), (86400, 3600, 3600), (0, 3600, 0), (5, 2**32 - 1, 5)]
)
@pytest.mark.parametrize("kind", [TrustedResolver, NoAuthentication])
def test_the_error_for_a_proven_absence_has_its_cache_time(
    resolver: Answering, zone: Zone, kind: type[TrustedResolver], time_to_live: int, minimum: int, seconds: int
) -> None:
    name = IdentityName("nobody.example.test")
    assert isinstance(error := why_not(kind(resolver), name, NoRecordError), NoRecordError)
    assert error.kept_seconds == 0
    soa = zone.add_text("@", "SOA", f"ns.example.test. . 1 1 1 1 {minimum}", ttl=time_to_live)

    def deny(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(zone.answer(query))
        message.authority = [soa, zone.signatures[soa.name, dns.rdatatype.SOA]]
        return message

    resolver.respond = deny
    assert isinstance(error := why_not(kind(resolver), name, NoRecordError), NoRecordError)
    assert error.kept_seconds == error.copy().kept_seconds == seconds


@pytest.mark.parametrize("name", [ALICE, LINK, IdentityName("nobody.example.test")])
def test_an_answer_without_the_ad_bit_is_not_secure(resolver: Answering, zone: Zone, name: IdentityName) -> None:
    resolver.respond = zone.answer
    error = why_not(trusted(resolver), name, NotSecureError)
    assert "192.0.2.53:53 did not authenticate" in error.fact
    assert "DNS_RESOLVER" in error.hint


@pytest.mark.parametrize("name", [ALICE, IdentityName("nobody.example.test")])
def test_the_ad_bit_is_ignored_over_an_untrusted_path(resolver: Answering, name: IdentityName) -> None:
    resolver.trusted = False
    error = why_not(trusted(resolver), name, NotSecureError)
    assert "over a path that is not trusted" in error.fact
    assert error.hint.startswith("if a validating resolver runs on this machine, set DNS_RESOLVER=127.0.0.1; else ")


def test_a_proven_absence_means_that_there_is_no_record(resolver: Answering, zone: Zone) -> None:
    assert (
        "nobody.example.test has no TLSA"
        in why_not(trusted(resolver), IdentityName("nobody.example.test"), NoRecordError).fact
    )
    dangling = IdentityName("dangling._device.example.test")
    assert "an alias of nobody._device.example.test) has no" in why_not(trusted(resolver), dangling, NoRecordError).fact

    def deny(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(zone.answer(query))
        message.set_rcode(dns.rcode.NXDOMAIN)
        return message

    resolver.respond = deny
    assert "does not exist" in why_not(trusted(resolver), IdentityName("nobody.example.test"), NoRecordError).fact
    assert "reported that the name does not exist" in why_not(trusted(resolver), ALICE, TemporaryDiscoveryError).fact


@pytest.mark.parametrize("kind", [TrustedResolver, NoAuthentication])
def test_records_of_another_name_are_a_temporary_error(resolver: Answering, kind: type[TrustedResolver]) -> None:
    def mislead(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(dns.message.make_response(query))
        message.answer.append(dns.rrset.from_text("bob._device.example.test.", 60, "IN", "TLSA", "3 0 0 AB"))
        return message

    resolver.respond = mislead
    assert "another name" in why_not(kind(resolver), ALICE, TemporaryDiscoveryError).fact


def test_dnssec_off_accepts_every_answer_and_is_mentioned_in_each_result(resolver: Answering, zone: Zone) -> None:
    resolver.respond = zone.answer
    resolver.trusted = False
    records = NoAuthentication(resolver, NOW.timestamp).look_up(TlsaLookUp(LINK))
    assert len(records.rdatas) == 2
    assert "DNSSEC=off" in records.authentication
    error = why_not(NoAuthentication(resolver), IdentityName("nobody.example.test"), NoRecordError)
    assert "DNSSEC=off" in error.fact


ABSENT = "alice._device.example.test is marked as having epoch keys, and _epoch.alice._device.example.test"


@pytest.fixture
def epochs(zone: Zone) -> Answering:
    zone.add_text("_epoch.alice._device", "TXT", '"ab" "c"', '"d"')
    zone.add_text("_epoch.link._device", "CNAME", "texts.example.test.", ttl=200)
    zone.add_text("texts", "TXT", '"e"')
    return Answering(lambda query: authenticated(zone.answer(query)))


def why_no_epochs(authentication: Authentication, kind: type[DiscoveryError], name: IdentityName = ALICE) -> str:
    with pytest.raises(kind) as caught:
        authentication.look_up(EpochLookUp(name))
    assert caught.value.hint
    return caught.value.fact


def test_epoch_records_are_txt_records_that_are_asked_for_over_tcp(epochs: Answering) -> None:
    records = trusted(epochs).look_up(EpochLookUp(ALICE))
    assert set(records.rdatas) == {b"\2ab\1c", b"\1d"}
    assert (records.lifetime, records.zone) == (300, "example.test")
    assert records.authentication == "DNSSEC, validated by the resolver 192.0.2.53:53"
    (question,) = epochs.questions
    assert (str(question), question.over_tcp) == ("_epoch.alice._device.example.test TXT", True)
    assert not question.checking_disabled


def test_tlsa_records_are_asked_for_over_udp_first(resolver: Answering) -> None:
    trusted(resolver).look_up(TlsaLookUp(ALICE))
    assert [question.over_tcp for question in resolver.questions] == [False]


def test_aliases_of_epoch_records_are_followed(epochs: Answering) -> None:
    records = trusted(epochs).look_up(EpochLookUp(LINK))
    assert (records.rdatas, records.lifetime, records.zone) == ((b"\1e",), 200, "example.test")


def test_the_error_for_absent_epoch_records_names_the_mark_and_their_place(epochs: Answering, zone: Zone) -> None:
    del zone.records[zone.name("_epoch.alice._device"), dns.rdatatype.TXT]
    assert why_no_epochs(trusted(epochs), NoEpochRecordError) == f"{ABSENT} has no TXT record"
    zone.add_text("_epoch.alice._device", "CNAME", "nowhere.example.test.")
    fact = f"{ABSENT} (an alias of nowhere.example.test) has no TXT record"
    assert why_no_epochs(trusted(epochs), NoEpochRecordError) == fact
    del zone.records[zone.name("_epoch.alice._device"), dns.rdatatype.CNAME]

    def deny(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(zone.answer(query))
        message.set_rcode(dns.rcode.NXDOMAIN)
        return message

    epochs.respond = deny
    assert why_no_epochs(trusted(epochs), NoEpochRecordError) == f"{ABSENT} does not exist in DNS"
    assert why_no_epochs(NoAuthentication(epochs), NoEpochRecordError) == f"{ABSENT} does not exist in DNS (DNSSEC=off)"


def test_epoch_records_without_authentication_are_not_secure(epochs: Answering, zone: Zone) -> None:
    epochs.respond = zone.answer
    assert "did not authenticate its answer for _epoch.alice." in why_no_epochs(trusted(epochs), NotSecureError)
    assert NoAuthentication(epochs, NOW.timestamp).look_up(EpochLookUp(ALICE)).authentication.startswith("DNSSEC=off")
    epochs.trusted = False
    assert "over a path that is not trusted" in why_no_epochs(trusted(epochs), NotSecureError)


def test_txt_records_of_another_name_are_a_temporary_error(epochs: Answering) -> None:
    def mislead(query: dns.message.Message) -> dns.message.Message:
        message = authenticated(dns.message.make_response(query))
        message.answer.append(dns.rrset.from_text("_epoch.bob._device.example.test.", 60, "IN", "TXT", "x"))
        return message

    epochs.respond = mislead
    assert "another name" in why_no_epochs(trusted(epochs), TemporaryDiscoveryError)


@pytest.mark.parametrize(("characters", "asks"), [(246, True), (247, False), (253, False)])
def test_a_name_that_is_too_long_has_no_epoch_records(epochs: Answering, characters: int, *, asks: bool) -> None:
    labels = ".".join(["b" * 63] * 3)
    name = IdentityName(f"{labels}.{'c' * (characters - len(labels) - 14)}.example.test")
    assert len(name.text) == characters
    fact = why_no_epochs(trusted(epochs), NoEpochRecordError, name)
    assert ("does not exist" in fact or "has no TXT record" in fact) == asks
    assert ("is too long" in fact) != asks
    assert len(epochs.questions) == asks
