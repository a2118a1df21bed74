import dns.message
import pytest

from idlib.discovery.resolver import Server as ResolvingServer
from idlib.errors import PublishingError
from idlib.publishing.zone import HostResolver
from idlib.settings import TlsResolver
from testbed.fake_channel import IDENTIFIER, FakeChannel
from testbed.name_server import Respond
from tests.idlib.publishing.authority import authoritative, recursive
from tests.idlib.publishing.test_zone import ALICE, EXAMPLE, Serve


def resolver(respond: Respond | None, port: int = 1) -> tuple[HostResolver, FakeChannel]:
    channel = FakeChannel(respond)
    server = ResolvingServer(TlsResolver("192.0.2.53"), trusted=True, channel=channel)
    return HostResolver([server], port), channel


def test_a_zone_is_found_over_the_encrypted_path(serve: Serve) -> None:
    found, channel = resolver(recursive(EXAMPLE), serve(authoritative(EXAMPLE)).address.port)
    assert found.find_zone(ALICE).name == "example.test"
    assert {dns.message.from_wire(query).id for query in channel.queries} == {IDENTIFIER}
    assert {len(query) % 128 for query in channel.queries} == {0}


def test_a_path_that_fails_is_explained() -> None:
    found, channel = resolver(None)
    with pytest.raises(PublishingError) as caught:
        found.find_zone(ALICE)
    assert (
        caught.value.fact
        == "cannot find the zone of example.test: the resolver shows a certificate that no trusted CA has issued"
    )
    assert caught.value.hint == "name its file in DNS_CA_FILE"
    assert len(channel.queries) == 1


def test_another_answer_is_not_used() -> None:
    def renumbered(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        return [b"\0\0" + recursive(EXAMPLE)(query, over_tcp)[0][2:]]

    with pytest.raises(PublishingError):
        resolver(renumbered)[0].find_zone(ALICE)
