"""A network that answers every query to port 53 itself, with another device's key and the AD bit."""

from collections.abc import Iterator

import pytest

from testbed.network.liar import Liar
from testbed.network.router import ROUTER
from testbed.network.world import DOH_RESOLVER, DOT_RESOLVER, LIAR, RESOLVER_NAME, NetworkWorld, open_network
from testbed.programs import Device, Program


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkWorld]:
    """Yield a world whose router leads DNS to a liar, with the record of a device of the attacker."""
    directory = tmp_path_factory.mktemp("network")
    with open_network(tmp_path_factory.mktemp("world")) as world:
        record = world.lab.device_with_key("mallory").tlsa_record()
        with Liar(directory, LIAR, world.lab.unbound.port, record, world.outside):
            world.router.lead_dns_to(LIAR)
            yield world


@pytest.fixture(scope="module")
def bob(network: NetworkWorld) -> Device:
    """Return a device beyond the router."""
    return network.lab.published_device("bob")


@pytest.fixture(scope="module")
def alice(network: NetworkWorld) -> Device:
    """Return a device behind the router."""
    return network.move_inside(network.lab.published_device("alice"))


@pytest.fixture(scope="module")
def bob_receiver(bob: Device) -> Iterator[Program]:
    with bob.receiver() as receiver:
        yield receiver


def test_a_resolver_in_clear_text_is_replaced_by_the_network(
    network: NetworkWorld, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    """The message is encrypted to the attacker's key, and nothing tells the sender: so this path must be trusted."""
    assert alice.with_settings(DNS_RESOLVER=ROUTER).send(bob, "read by the attacker").status == 0
    bob_receiver.wait_for_refusal("decryption")
    assert network.router.dns_queries() > 0


@pytest.mark.parametrize(
    "resolver", [f"tls://{DOT_RESOLVER}:443#{RESOLVER_NAME}", f"https://{DOH_RESOLVER}/dns-query"], ids=["tls", "https"]
)
def test_an_encrypted_resolver_delivers_both_ways_and_never_queries_port_53(
    resolver: str, network: NetworkWorld, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    network.router.lead_dns_to(LIAR)
    protected = alice.with_settings(DNS_RESOLVER=resolver, DNS_CA_FILE=str(network.authority.file))
    text = f"not read over {resolver.partition(':')[0]}"
    assert protected.send(bob, text).status == 0
    bob_receiver.wait_for_message(text)
    with protected.receiver() as receiver:
        assert bob.send(protected, text).status == 0
        receiver.wait_for_message(text)
    assert network.router.dns_queries() == 0
