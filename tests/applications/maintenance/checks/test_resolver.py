import dataclasses
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from dns.rdatatype import RdataType

from idlib.discovery import Found
from idlib.discovery.resolver import Resolver, named_server
from idlib.discovery.resolver import Server as ResolvingServer
from idlib.errors import DiscoveryError, NotSecureError, TemporaryDiscoveryError
from idlib.settings import EncryptedResolver, HttpsResolver, ServerAddress, TlsResolver
from messaging_maintenance.checks.exchange import why_silent_over_channel
from messaging_maintenance.checks.observation import Observation
from messaging_maintenance.checks.resolver import check_resolver
from messaging_maintenance.checks.result import Item, Status, skip
from testbed.fake_channel import FakeChannel
from testbed.name_server import Server, Zone
from tests.applications.maintenance.checks.observations import SECURE, observed, signed_zone

BOGUS_NAME = "bogus.example.test"
INSECURE = NotSecureError("no AD bit")


@dataclasses.dataclass
class FakeResolver:
    """A resolver that a test configures.

    Args:
        zone: What it knows.
    """

    zone: Zone
    validates: bool = True
    rejects: bool = True
    has_edns: bool = True
    has_tcp: bool = True
    payload: int = 1232

    def respond(self, query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        if over_tcp and not self.has_tcp:
            return []
        is_bogus = query.question[0].name == dns.name.from_text(BOGUS_NAME)
        response = self.zone.answer(query)
        response.use_edns(0, payload=self.payload)
        if not self.has_edns:
            response.use_edns(edns=False)
        if self.validates and not query.flags & dns.flags.CD:
            if is_bogus and self.rejects:
                response = dns.message.make_response(query)
                response.set_rcode(dns.rcode.SERVFAIL)
            else:
                response.flags |= dns.flags.AD
        return [response.to_wire()]


@pytest.fixture
def fake() -> FakeResolver:
    zone = signed_zone("3 1 0 ABCD")
    zone.add_text(f"{BOGUS_NAME}.", "A", "192.0.2.1")
    return FakeResolver(zone)


@pytest.fixture
def check(fake: FakeResolver) -> Iterator[Callable[..., dict[str, Item]]]:
    server = Server(fake.respond)

    def run(verdict: Found | DiscoveryError = SECURE, *, trusted: bool = True, **changed: object) -> dict[str, Item]:
        seen: Observation = observed(fake.zone, verdict)
        if not fake.validates:
            reply = dataclasses.replace(seen.reply, answer=dataclasses.replace(seen.reply.answer, authenticated=False))
            seen = dataclasses.replace(seen, reply=reply, facts={})
        seen = dataclasses.replace(seen, servers=[ResolvingServer(server.address, trusted)], **changed)  # type: ignore[arg-type]
        items = check_resolver(seen, Resolver(named_server(server.address), 2), BOGUS_NAME)
        return {item.id: item for item in items}

    yield run
    server.close()


def failed(items: dict[str, Item]) -> set[str]:
    return {identifier for identifier, item in items.items() if item.status is Status.FAIL}


def test_a_validating_resolver_passes(check: Callable[..., dict[str, Item]]) -> None:
    assert {item.status for item in check().values()} == {Status.OK}


def test_it_is_said_why_a_resolver_is_trusted(fake: FakeResolver) -> None:
    for address, why in (
        ("127.0.0.1", "127.0.0.1:1 is trusted: it is on this machine"),
        (
            "192.0.2.1",
            "192.0.2.1:1 is trusted, because DNS_RESOLVER names it; answers are as safe as the path to it",
        ),
    ):
        servers = [ResolvingServer(ServerAddress(address, 1), trusted=True)]
        seen = dataclasses.replace(observed(fake.zone, silence="does not answer"), servers=servers)
        first = check_resolver(seen, Resolver(lambda: (), 0.1), BOGUS_NAME)[0]
        assert (first.id, first.evidence) == ("resolver.trusted", why)


def test_a_resolver_that_does_not_validate_is_found_by_a_name_that_is_broken(
    fake: FakeResolver, check: Callable[..., dict[str, Item]]
) -> None:
    fake.validates = False
    items = check(INSECURE)
    assert failed(items) == {"resolver.validates"}
    assert items["resolver.bogus"].status is Status.WARN


def test_a_resolver_that_authenticates_answers_and_accepts_a_broken_name_is_a_failure(
    fake: FakeResolver, check: Callable[..., dict[str, Item]]
) -> None:
    fake.rejects = False
    assert failed(check()) == {"resolver.bogus"}


def test_a_resolver_on_an_untrusted_path_is_named(check: Callable[..., dict[str, Item]]) -> None:
    assert failed(check(INSECURE, trusted=False)) == {"resolver.trusted"}


def test_with_pinned_keys_the_resolver_need_not_be_trusted(check: Callable[..., dict[str, Item]]) -> None:
    items = check(trusted=False, has_anchors=True)
    assert failed(items) == set()
    assert "need not be trusted" in items["resolver.trusted"].evidence


def test_a_resolver_without_edns_is_a_failure(fake: FakeResolver, check: Callable[..., dict[str, Item]]) -> None:
    fake.has_edns = False
    assert failed(check()) == {"resolver.edns"}


def test_a_resolver_with_small_packets_is_a_warning(fake: FakeResolver, check: Callable[..., dict[str, Item]]) -> None:
    fake.payload = 1231
    item = check()["resolver.edns"]
    assert (item.status, item.evidence.endswith("accepts UDP packets of 1231 bytes only")) == (Status.WARN, True)


def test_a_broken_name_without_records_shows_nothing(fake: FakeResolver, check: Callable[..., dict[str, Item]]) -> None:
    fake.rejects = False
    del fake.zone.records[dns.name.from_text(BOGUS_NAME), RdataType.A]
    item = check()["resolver.bogus"]
    assert (item.status, item.evidence.endswith("cannot be looked up: it has no records")) == (Status.SKIP, True)


def test_a_resolver_without_tcp_is_a_failure(fake: FakeResolver, check: Callable[..., dict[str, Item]]) -> None:
    fake.has_tcp = False
    items = check()
    assert failed(items) == {"resolver.tcp"}
    assert items["answer.size"].status is Status.SKIP


@pytest.mark.parametrize("when_silent", [None, skip])
def test_a_silent_resolver_is_a_failure_of_this_device_only(
    when_silent: Callable[[str, str, str], Item] | None, fake: FakeResolver
) -> None:
    seen = observed(fake.zone, silence="does not answer in time")
    resolver = Resolver(lambda: seen.servers, 0.1)
    items = check_resolver(seen, resolver, BOGUS_NAME, *([when_silent] if when_silent else []))
    answers = next(item for item in items if item.id == "resolver.answers")
    assert answers.status is (Status.SKIP if when_silent else Status.FAIL)


@pytest.mark.parametrize(
    ("address", "kind"),
    [(TlsResolver("192.0.2.1"), "TLS"), (HttpsResolver("dns.example.test"), "HTTPS")],
    ids=["TLS", "HTTPS"],
)
def test_an_encrypted_path_is_named_and_is_the_only_one_that_is_asked(
    fake: FakeResolver, address: EncryptedResolver, kind: str
) -> None:
    channel = FakeChannel(fake.respond)
    servers = [ResolvingServer(address, trusted=True, channel=channel)]
    seen = dataclasses.replace(observed(fake.zone), servers=servers)
    items = {item.id: item for item in check_resolver(seen, Resolver(lambda: servers, 2), BOGUS_NAME)}
    assert {item.status for item in items.values()} == {Status.OK}
    assert items["resolver.trusted"].evidence == (
        f"{address} is trusted, because DNS_RESOLVER names it; the path to it is encrypted and authenticated"
        f" (DNS over {kind})"
    )
    assert items["resolver.tcp"].evidence.startswith("not needed: ")
    assert channel.queries
    assert {len(query) % 128 for query in channel.queries} == {0}


def test_the_hint_of_an_encrypted_path_that_fails_is_that_of_its_cause(fake: FakeResolver) -> None:
    channel = FakeChannel(None)
    servers = [ResolvingServer(TlsResolver("192.0.2.1"), trusted=True, channel=channel)]
    verdict = TemporaryDiscoveryError("it fails", "name its file in DNS_CA_FILE")
    silence = why_silent_over_channel(channel)
    assert silence == "shows a certificate that no trusted CA has issued"
    seen = dataclasses.replace(observed(fake.zone, verdict, silence), servers=servers)
    items = {item.id: item for item in check_resolver(seen, Resolver(lambda: servers, 2), BOGUS_NAME)}
    assert items["resolver.answers"].status is Status.FAIL
    assert items["resolver.answers"].evidence == f"the resolver tls://192.0.2.1 {silence}"
    assert items["resolver.answers"].hint == "name its file in DNS_CA_FILE"
