import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from idlib.discovery import Found, resolver
from idlib.discovery.resolver import Server as ResolvingServer
from idlib.errors import DiscoveryError, NotSecureError, TemporaryDiscoveryError
from idlib.settings import ServerAddress, Settings, load
from messaging_maintenance.checks.observation import Observation, ancestors_of, observe
from testbed.daemons.process import free_port
from testbed.name_server import Respond, Server, Zone, over_udp_or_tcp
from tests.applications.maintenance.checks.observations import NAME, observed, signed_zone
from tests.applications.maintenance.checks.test_records import record

START = dns.name.from_text(str(NAME))


@contextlib.contextmanager
def serving(respond: Respond) -> Iterator[Settings]:
    """Yield settings with a resolver that answers in this way."""
    server = Server(respond)
    try:
        yield load({"IDENTITY_NAME": str(NAME), "DNS_RESOLVER": str(server.address)})
    finally:
        server.close()


def answering(zone: Zone, *, validates: bool = True) -> Respond:
    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = zone.answer(query)
        response.flags |= dns.flags.RA | (dns.flags.AD if validates else 0)
        return over_udp_or_tcp(response, over_tcp)

    return respond


def seen_at(respond: Respond) -> Observation:
    with serving(respond) as settings:
        return observe(NAME, settings)


def test_the_verdict_and_what_explains_it_are_observed() -> None:
    seen = seen_at(answering(signed_zone(record())))
    assert isinstance(seen.verdict, Found)
    assert len(seen.rdatas) == 1
    assert seen.owners == seen.trail == (START,)
    assert seen.zone_of(START) == dns.name.from_text("example.test")
    assert seen.silence == ""
    assert seen.has_authenticated_answer()
    assert not seen.has_endless_aliases


def test_a_resolver_that_does_not_validate_authenticates_nothing() -> None:
    seen = seen_at(answering(signed_zone(record()), validates=False))
    assert isinstance(seen.verdict, NotSecureError)
    assert not seen.has_authenticated_answer()
    assert len(seen.rdatas) == 1


def test_a_resolver_that_does_not_run_is_asked_nothing_more() -> None:
    settings = load({"IDENTITY_NAME": str(NAME), "DNS_RESOLVER": f"127.0.0.1:{free_port()}"})
    seen = observe(NAME, settings)
    assert seen.silence == "cannot be reached: Connection refused"
    assert isinstance(seen.verdict, TemporaryDiscoveryError)
    assert (seen.facts, seen.chain, seen.records, seen.rdatas) == ({}, None, (), ())


def test_a_second_resolver_that_answers_does_not_hide_that_the_first_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(answering(signed_zone(record())))
    first, second = ServerAddress("127.0.0.1", free_port()), server.address
    monkeypatch.setattr(
        resolver, "system_servers", lambda: [ResolvingServer(one, trusted=True) for one in (first, second)]
    )
    try:
        seen = observe(NAME, load({"IDENTITY_NAME": str(NAME)}))
    finally:
        server.close()
    assert seen.silence == "cannot be reached: Connection refused"
    assert len(seen.rdatas) == 1
    assert seen.zone_of(START) == dns.name.from_text("example.test")


def test_an_answer_that_fails_validation_is_seen_without_it() -> None:
    zone = signed_zone(record())

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        if query.question[0].rdtype == RdataType.TLSA and not query.flags & dns.flags.CD:
            failure = dns.message.make_response(query)
            failure.set_rcode(dns.rcode.SERVFAIL)
            return [failure.to_wire()]
        return over_udp_or_tcp(zone.answer(query), over_tcp)

    seen = seen_at(respond)
    assert isinstance(seen.verdict, DiscoveryError)
    assert len(seen.rdatas) == 1


def test_the_zones_of_an_alias_are_observed_too() -> None:
    zone = signed_zone()
    zone.add_text(f"{NAME}.", "CNAME", "target.other.test.")
    zone.add_text("target.other.test.", "TLSA", record())
    zone.add_text("other.test.", "NS", "ns.other.test.")
    seen = seen_at(answering(zone))
    target = dns.name.from_text("target.other.test")
    assert seen.owners == (START, target)
    assert seen.zone_of(target) == dns.name.from_text("other.test")


@pytest.mark.parametrize(
    ("following", "length"),
    [(lambda number: number + 1, 10), (lambda number: (number + 1) % 3, 4), (lambda number: number, 2)],
    ids=["without an end", "round in a circle", "of itself"],
)
def test_aliases_are_followed_until_one_comes_again_and_not_for_long(
    following: Callable[[int], int], length: int
) -> None:
    def owner(number: int) -> dns.name.Name:
        return dns.name.from_text(f"a{number}.example.test") if number else START

    numbers = {owner(number): number for number in range(100)}

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = dns.message.make_response(query)
        question = query.question[0]
        if question.rdtype == RdataType.TLSA:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif question.rdtype == RdataType.CNAME:
            target = owner(following(numbers[question.name]))
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "CNAME", str(target)))
        return over_udp_or_tcp(response, over_tcp)

    seen = seen_at(respond)
    assert seen.chain is None
    assert seen.has_endless_aliases
    assert len(seen.trail) == length


def test_a_chain_of_8_aliases_has_an_end() -> None:
    seen = observed(signed_zone())
    names = tuple(dns.name.from_text(f"a{number}.test") for number in range(10))
    assert not dataclasses.replace(seen, trail=names[:9]).has_endless_aliases
    assert dataclasses.replace(seen, trail=names).has_endless_aliases


def test_nonsense_from_a_resolver_is_no_answer() -> None:
    octets = b"\x1b[2J" * 13000

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        return [query.id.to_bytes(2) + (octets if over_tcp else octets[:1400])]

    started = time.monotonic()
    seen = seen_at(respond)
    assert time.monotonic() - started < 20
    assert isinstance(seen.verdict, TemporaryDiscoveryError)
    assert seen.chain is None


def test_all_threads_have_ended_afterwards() -> None:
    before = threading.active_count()
    seen_at(answering(signed_zone(record())))
    assert threading.active_count() == before


@given(st.lists(st.sampled_from([b"a", b"bc", b"_device", b"\x1b", b"\x00", b"x" * 20]), max_size=12))
def test_of_a_name_with_many_labels_the_lowest_and_the_highest_are_asked_about(labels: list[bytes]) -> None:
    name = dns.name.Name([*labels, b""])
    found = ancestors_of(name)
    assert found[0] == name
    assert found[-1] == dns.name.root
    assert len(found) == min(len(labels) + 1, 11)
    assert all(name.is_subdomain(ancestor) for ancestor in found)
    assert [len(one) for one in found] == sorted({len(one) for one in found}, reverse=True)
