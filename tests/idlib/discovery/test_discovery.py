import logging
import threading
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.verification import Store
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from idlib import algorithms, marks
from idlib.algorithms import PublicKey
from idlib.discovery import Discovery, EpochTexts, Found, _size_of, find_key
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.discovery.texts import MAX_BYTES_OF_TEXTS
from idlib.errors import (
    BogusError,
    ConfigurationError,
    DiscoveryError,
    NoEpochRecordError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    TemporaryDiscoveryError,
)
from idlib.marks import Mark
from idlib.names import IdentityName
from idlib.records import TlsaRecord, UsableRecord, judge, render
from idlib.settings import Settings, load
from testbed.certificate_maker import NAME, Authority, der, rsa_key
from testbed.certificate_maker import NOW as CERTIFICATE_NOW
from testbed.name_server import Server, Zone, over_udp_or_tcp

ALICE = IdentityName(NAME)
AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.issue()
OTHER = AUTHORITY.issue(key=rsa_key())


class Dns:
    """Answers from a table."""

    def __init__(self, *answers: DiscoveryError | list[bytes]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.zone: str | None = None

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, DiscoveryError):
            raise answer
        return AuthenticRecords(tuple(answer), 60, "made in a test", self.zone)


def discovery(dns_table: Dns, authorities: Store | None = None) -> Discovery:
    return Discovery(dns_table, lambda: authorities, lambda: 0.0, lambda: CERTIFICATE_NOW)


def rdata(selector: int = 0) -> bytes:
    return render(CERTIFICATE, selector).to_rdata()


def test_usable_records_are_found_in_order_of_preference_beside_unusable_ones() -> None:
    answers = [b"", b"\3\0", b"\3\1\1" + b"x" * 32, rdata(0), b"\3\0\0junk", rdata(1), render(OTHER, 1).to_rdata()]
    found = discovery(Dns(answers)).find(ALICE)
    assert found.name == ALICE
    assert [usable.parameters for usable in found.records] == ["3 1 0", "3 1 0", "3 0 0"]
    assert found.authentication == "made in a test"
    assert [line.partition(":")[0] for line in found.skipped] == ["3 0 0", "a record", "a record", "3 1 1"]


def test_the_authorities_are_read_only_for_a_record_that_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr("idlib.discovery.authorities.read_system_authorities", lambda: read.append(True))
    subject = Discovery.from_settings(load({"IDENTITY_NAME": ALICE.text}))
    answers = Dns([rdata(0)], [rdata(1), b"\1\0\0" + rdata(0)[3:], b"\1\0\0" + render(OTHER, 0).to_rdata()[3:]])
    monkeypatch.setattr(subject, "_authentication", answers)
    subject.find(ALICE)
    assert read == []
    assert len(subject.find(IdentityName("bob.example.com")).skipped) == 2
    assert read == [True]


def test_the_error_for_unusable_records_has_the_reasons() -> None:
    with pytest.raises(NoUsableRecordError) as caught:
        discovery(Dns([b"\3\1\1" + b"x" * 32, b"\2\0\0x"])).find(ALICE)
    assert "none of the 2 TLSA records" in caught.value.fact
    assert "3 1 1: it is a digest" in caught.value.fact
    assert "2 0 0: it names a certification authority" in caught.value.fact


def test_only_a_few_of_many_unusable_records_are_reported() -> None:
    junk = [b"\3\0\1" + number.to_bytes(2) for number in range(1000)]
    found = discovery(Dns([*junk, rdata()])).find(ALICE)
    assert len(found.skipped) == 9
    assert found.skipped[-1] == "and 992 more"


def bare_keys(number: int) -> list[bytes]:
    """Return records of this many different keys."""
    keys = (rsa.RSAPublicNumbers(65537, 2**4095 + 2 * index + 1).public_key() for index in range(number))
    return [b"\3\1\0" + PublicKey(key).der for key in keys]


def count_judged(monkeypatch: pytest.MonkeyPatch) -> list[TlsaRecord]:
    """Return a list to which each record is added when it is checked."""
    judged: list[TlsaRecord] = []

    def judge_and_count(
        record: TlsaRecord, name: IdentityName, now: datetime, authorities: Store | None
    ) -> UsableRecord:
        judged.append(record)
        return judge(record, name, now, authorities)

    monkeypatch.setattr("idlib.discovery.judge", judge_and_count)
    return judged


def test_eight_of_many_usable_records_are_used_and_three_keys_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    rdatas = bare_keys(64)
    judged = count_judged(monkeypatch)
    found = discovery(Dns(rdatas[::-1])).find(ALICE)
    assert [key.der for key in found.published] == [rdata[3:] for rdata in sorted(rdatas)[:8]]
    assert [key.der for key in found.public_keys] == [rdata[3:] for rdata in sorted(rdatas)[:3]]
    assert [usable.public_key.der for usable in found.records] == [key.der for key in found.published]
    assert len(judged) == 8
    assert found.skipped == ("and 56 more",)


def test_only_sixteen_of_many_records_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = count_judged(monkeypatch)
    junk = [b"\3\1\0junk" + number.to_bytes(2) for number in range(1000)]
    with pytest.raises(NoUsableRecordError, match=r"none of the first 16 of 1001 TLSA records .* and 993 more"):
        discovery(Dns([rdata(), *junk])).find(ALICE)
    assert len(judged) == 16


def test_a_key_in_several_records_counts_once() -> None:
    found = discovery(Dns([rdata(0), rdata(1), b"\4\0\0" + der(CERTIFICATE), *bare_keys(2)])).find(ALICE)
    assert len(found.records) == 5
    assert [key.der for key in found.public_keys] == list(dict.fromkeys(key.der for key in found.published))
    assert found.accepted == tuple(key.der for key in found.public_keys)
    assert len(found.public_keys) == 3


def test_ten_thousand_senders_are_cached_at_once() -> None:
    table = Dns([b"\3\1\0" + PublicKey(rsa_key().public_key()).der])
    subject = discovery(table)
    names = [IdentityName(f"sensor-{number}._device.customer.example.test") for number in range(10_000)]
    for _ in range(2):
        for name in names:
            subject.find(name)
    assert table.asked == len(names)


@pytest.mark.parametrize("keys", [1, 3, 8])
def test_the_use_of_memory_is_not_underestimated(keys: int) -> None:
    subject = discovery(Dns(bare_keys(keys)))
    names = [IdentityName(f"sensor-{number}._device.customer.example.test") for number in range(100)]
    subject.find(ALICE)
    tracemalloc.start()
    try:
        for name in names:
            subject.find(IdentityName(name.text))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    estimated = sum(600 + _size_of(found) for name in names if isinstance(found := subject.peek(name), Found))
    assert 0.4 * estimated < taken < estimated


def test_the_zone_is_that_of_the_signature_or_else_the_registrable_domain() -> None:
    table = Dns([rdata()], TemporaryDiscoveryError("away"), NoRecordError("gone", zone="of.the.denial"))
    table.zone = "device.example.test"
    seconds = [0.0]
    subject = Discovery(table, clock=lambda: seconds[0], now=lambda: CERTIFICATE_NOW)
    assert subject.zone_of(ALICE) == "example.test"
    assert subject.find(ALICE).zone == "device.example.test"
    seconds[0] += 100_000
    assert subject.zone_of(ALICE) == "device.example.test"
    for zone in ("device.example.test", "of.the.denial"):
        with pytest.raises(DiscoveryError):
            subject.find(ALICE)
        assert subject.zone_of(ALICE) == zone
        seconds[0] += 100_000
    assert subject.zone_of(ALICE) == "of.the.denial"
    assert discovery(Dns([rdata()])).find(ALICE).zone == "example.test"
    assert table.asked == 3


def test_the_error_for_unusable_records_has_their_zone() -> None:
    table = Dns([b"\3\1\1x"])
    table.zone = "device.example.test"
    subject = discovery(table)
    with pytest.raises(NoUsableRecordError) as caught:
        subject.find(ALICE)
    assert caught.value.zone == "device.example.test"
    known = subject.peek(ALICE)
    assert isinstance(known, NoUsableRecordError)
    assert known.zone == "device.example.test"


def test_expired_keys_are_known_until_a_verdict_of_dns() -> None:
    table = Dns([rdata()], TemporaryDiscoveryError("away"), NoRecordError("gone"))
    seconds = [0.0]
    subject = Discovery(table, clock=lambda: seconds[0], now=lambda: CERTIFICATE_NOW)
    assert subject.last_known_keys(ALICE) == ()
    subject.find(ALICE)
    seconds[0] += 3601
    assert subject.peek(ALICE) is None
    assert [key.native for key in subject.last_known_keys(ALICE)] == [CERTIFICATE.public_key()]
    with pytest.raises(TemporaryDiscoveryError):
        subject.find(ALICE)
    assert len(subject.last_known_keys(ALICE)) == 1
    with pytest.raises(NoRecordError):
        subject.find_again(ALICE)
    assert subject.last_known_keys(ALICE) == ()


def test_a_repeated_look_up_counts_for_a_minute() -> None:
    seconds = [0.0]
    subject = Discovery(Dns([rdata()]), clock=lambda: seconds[0], now=lambda: CERTIFICATE_NOW)
    subject.find(ALICE)
    assert not subject.was_renewed(ALICE)
    subject.find_again(ALICE)
    assert subject.was_renewed(ALICE)
    seconds[0] += 60
    assert not subject.was_renewed(ALICE)


def test_authorities_make_pkix_records_usable() -> None:
    answer = [b"\1\0\0" + der(CERTIFICATE)]
    with pytest.raises(NoUsableRecordError, match="no certification authority is configured"):
        discovery(Dns(answer)).find(ALICE)
    assert discovery(Dns(answer), Store([AUTHORITY.certificate])).find(ALICE).records[0].parameters == "1 0 0"


def test_a_thousand_look_ups_cause_one_query_and_prepare_a_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Dns([rdata()])
    subject = discovery(table)
    assert subject.peek(ALICE) is None
    first = subject.find(ALICE).public_keys[0]
    monkeypatch.setattr(algorithms.PublicKey, "__post_init__", lambda _: pytest.fail("a key was prepared again"))
    for _ in range(1000):
        assert subject.find(ALICE).records[0].public_key is first
        assert subject.find(ALICE).public_keys == (first,)
        assert subject.last_known_keys(ALICE) == (first,)
    assert table.asked == 1


def test_a_repeated_look_up_finds_a_new_record_and_then_waits_a_minute() -> None:
    table = Dns([rdata(0)], [rdata(0), rdata(1)])
    subject = discovery(table)
    assert len(subject.find(ALICE).records) == 1
    for _ in range(10):
        assert len(subject.find_again(ALICE).records) == 2
        assert len(subject.find(ALICE).records) == 2
    assert table.asked == 2


def test_a_key_is_looked_up_again_only_if_it_is_not_among_the_known_ones() -> None:
    table = Dns([rdata(0)], [rdata(0), rdata(1)])
    subject = discovery(table)
    first = subject.find(ALICE).accepted[0]
    assert find_key(subject, ALICE, first).accepted == (first,)
    assert table.asked == 1
    assert len(find_key(subject, ALICE, b"another").published) == 2
    assert table.asked == 2


@pytest.mark.parametrize("kind", [NoRecordError, NotSecureError, BogusError, TemporaryDiscoveryError])
def test_each_error_keeps_its_type_and_text(kind: type[DiscoveryError]) -> None:
    subject = discovery(Dns(kind("the fact", "the hint")))
    for ask in (subject.find, subject.find, subject.find_again):
        with pytest.raises(kind, match="the fact; the hint"):
            ask(ALICE)
    known = subject.peek(ALICE)
    assert isinstance(known, kind)


def settings_of(server: Server | None, **environment: str) -> Settings:
    if server is not None:
        environment["DNS_RESOLVER"] = str(server.address)
    return load({"IDENTITY_NAME": NAME, **environment})


@pytest.fixture
def server(serve: Callable[..., Server], zone: Zone) -> Server:
    zone.add_text("alice._device", "TLSA", str(render(CERTIFICATE, 0)))
    return serve(lambda query, over_tcp: over_udp_or_tcp(zone.answer(query), over_tcp))


def test_the_configured_resolver_must_authenticate_by_default(server: Server, zone: Zone) -> None:
    with pytest.raises(NotSecureError, match="no AD bit"):
        Discovery.from_settings(settings_of(server)).find(ALICE)

    def vouch(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = zone.answer(query)
        response.flags |= dns.flags.AD
        return over_udp_or_tcp(response, over_tcp)

    server.respond = vouch
    found = Discovery.from_settings(settings_of(server)).find(ALICE)
    assert found.authentication == f"DNSSEC, validated by the resolver {server.address}"


def test_pinned_anchors_are_read_and_used(server: Server, zone: Zone, tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    with pytest.raises(ConfigurationError, match="DNSSEC_TRUST_ANCHORS"):
        Discovery.from_settings(settings_of(server, DNSSEC_TRUST_ANCHORS=str(path)))
    path.write_text(zone.ds())
    with pytest.raises(
        BogusError, match=r"expired|not valid before"
    ):  # its signatures are only valid in the tests' time
        Discovery.from_settings(settings_of(server, DNSSEC_TRUST_ANCHORS=str(path))).find(ALICE)


def test_dnssec_off_is_mentioned_in_every_log_line(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "idlib.discovery")
    subject = Discovery.from_settings(settings_of(server, DNSSEC="off"))
    found = subject.find(ALICE)
    with pytest.raises(NoRecordError, match="DNSSEC=off"):
        subject.find(IdentityName("nobody.example.test"))
    assert "DNSSEC=off" in found.authentication
    assert len(caplog.records) >= 3
    assert all("DNSSEC=off" in record.getMessage() for record in caplog.records)


def test_dnssec_off_and_trust_anchors_are_rejected_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        Discovery.from_settings(settings_of(None, DNSSEC="off", DNSSEC_TRUST_ANCHORS=str(tmp_path)))


@given(octets=st.binary(max_size=200))
@hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_records_cause_no_unexpected_error(octets: bytes) -> None:
    with pytest.raises(DiscoveryError):
        discovery(Dns([octets])).find(ALICE)


def test_threads_share_one_query() -> None:
    may_answer = threading.Event()

    class Slow(Dns):
        def look_up(self, wanted: LookUp) -> AuthenticRecords:
            assert may_answer.wait(10)
            return super().look_up(wanted)

    table = Slow([rdata()])
    subject = discovery(table)
    answers: list[Found] = []
    threads = [threading.Thread(target=lambda: answers.append(subject.find(ALICE))) for _ in range(5)]
    for thread in threads:
        thread.start()
    may_answer.set()
    for thread in threads:
        thread.join()
    assert len(answers) == 5
    assert table.asked == 1


def texts(*strings: bytes) -> list[bytes]:
    return [bytes([len(string)]) + string for string in strings]


def test_epoch_records_are_found_and_cached_apart_from_tlsa_records() -> None:
    table = Dns(texts(b"second", b"first"), [rdata()])
    subject = discovery(table)
    for _ in range(3):
        assert subject.find_epochs(ALICE) == EpochTexts(ALICE, (b"first", b"second"), "made in a test")
        assert len(subject.find(ALICE).published) == 1
    assert table.asked == 2


def test_epoch_records_are_cached_for_their_lifetime() -> None:
    table = Dns(texts(b"a"), texts(b"b"))
    seconds = [0.0]
    subject = Discovery(table, clock=lambda: seconds[0])
    for until, text in ((0.0, b"a"), (59.9, b"a"), (60.0, b"b")):
        seconds[0] = until
        assert subject.find_epochs(ALICE).texts == (text,)


def test_epoch_records_are_asked_for_again_at_most_once_a_minute() -> None:
    table = Dns(texts(b"a"), texts(b"b"), texts(b"c"))
    seconds = [0.0]
    subject = Discovery(table, clock=lambda: seconds[0])
    subject.find_epochs(ALICE)
    for _ in range(10):
        assert subject.find_epochs_again(ALICE).texts == (b"b",)
        assert subject.find_epochs(ALICE).texts == (b"b",)
    assert table.asked == 2
    seconds[0] += 60
    assert subject.find_epochs_again(ALICE).texts == (b"c",)


def test_a_failure_to_find_epoch_records_is_cached_for_seconds() -> None:
    table = Dns(NoEpochRecordError("the fact", "the hint"), texts(b"a"))
    seconds = [0.0]
    subject = Discovery(table, clock=lambda: seconds[0])
    for _ in range(3):
        with pytest.raises(NoEpochRecordError, match="the fact; the hint"):
            subject.find_epochs(ALICE)
    assert table.asked == 1
    seconds[0] += 5
    assert subject.find_epochs(ALICE).texts == (b"a",)


@pytest.mark.parametrize(
    ("kind", "remains"), [(NoEpochRecordError, False), (BogusError, True), (TemporaryDiscoveryError, True)]
)
def test_only_a_verdict_replaces_known_epoch_records(kind: type[DiscoveryError], *, remains: bool) -> None:
    subject = discovery(Dns(texts(b"a"), kind("the fact")))
    subject.find_epochs(ALICE)
    with pytest.raises(kind):
        subject.find_epochs_again(ALICE)
    if remains:
        assert subject.find_epochs(ALICE).texts == (b"a",)
    else:
        with pytest.raises(kind):
            subject.find_epochs(ALICE)


def test_many_large_epoch_records_evict_each_other_and_no_keys() -> None:
    large = [bytes([255]) + bytes([number]) * 255 for number in range(120)]
    table = Dns([rdata()], large)
    subject = discovery(table)
    subject.find(ALICE)
    names = [IdentityName(f"sensor-{number}.example.test") for number in range(200)]
    for name in names:
        subject.find_epochs(name)
    kept = sum(subject.find_epochs(name).size for name in names[-100:])
    assert table.asked == 1 + len(names)
    assert 3_000_000 < kept < MAX_BYTES_OF_TEXTS
    subject.find_epochs(names[0])
    assert table.asked == 2 + len(names)
    subject.find(ALICE)
    assert table.asked == 2 + len(names)


MARKED = AUTHORITY.issue(extensions=[marks.EXTENSION])


@pytest.mark.parametrize("parameters", [b"\3\0\0", b"\4\0\0", b"\1\0\0"])
def test_a_certificate_of_any_usage_marks_its_name(parameters: bytes) -> None:
    bare_key = b"\3\1\0" + PublicKey(rsa_key().public_key()).der
    for records, mark in (([parameters + der(MARKED), bare_key], Mark.MARKED), ([bare_key], Mark.UNMARKED)):
        found = discovery(Dns(records), Store([AUTHORITY.certificate])).find(ALICE)
        assert found.mark is mark
        assert [usable.mark for usable in found.records] == [Mark.UNMARKED, mark][: len(records)]


def test_a_mark_of_another_value_needs_newer_software() -> None:
    newer = AUTHORITY.issue(extensions=[x509.UnrecognizedExtension(marks.OID, b"\2\1\2")])
    assert discovery(Dns([b"\3\0\0" + der(newer)])).find(ALICE).mark is Mark.UNSUPPORTED


@pytest.mark.parametrize("unusable", [b"\2\0\0", b"\3\0\1", b"\1\0\0"])
def test_a_record_that_is_not_usable_does_not_mark_its_name(unusable: bytes) -> None:
    assert discovery(Dns([rdata(), unusable + der(MARKED)])).find(ALICE).mark is Mark.UNMARKED


def test_a_marked_certificate_that_is_renewed_without_the_mark_is_noticed() -> None:
    subject = discovery(Dns([b"\3\0\0" + der(MARKED)], [rdata()]))
    assert subject.find(ALICE).mark is Mark.MARKED
    assert subject.find_again(ALICE).mark is Mark.UNMARKED
