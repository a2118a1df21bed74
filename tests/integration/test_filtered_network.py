"""A network that drops every packet that does not go to TCP port 443."""

import subprocess
from collections.abc import Iterator

import pytest

from testbed.daemons.process import find
from testbed.network.world import (
    DOH_RESOLVER,
    DOT_RESOLVER,
    MQTTS_BROKER,
    RESOLVER_NAME,
    WSS_BROKER,
    NetworkWorld,
    open_network,
)
from testbed.programs import CHECK_IDENTITY, RECEIVER, Device, Program

DOT = f"tls://{DOT_RESOLVER}:443#{RESOLVER_NAME}"
DOH = f"https://{DOH_RESOLVER}/dns-query"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkWorld]:
    with open_network(tmp_path_factory.mktemp("world")) as world:
        world.router.let_only_https_leave()
        yield world


@pytest.fixture(scope="module")
def bob(network: NetworkWorld) -> Device:
    """Return a device beyond the router."""
    return network.lab.published_device("bob")


@pytest.fixture(scope="module")
def bob_receiver(bob: Device) -> Iterator[Program]:
    with bob.receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def alice(network: NetworkWorld) -> Device:
    """Return a device behind the router, as a new user has it: without a setting for the broker and the resolver."""
    return network.move_inside(network.lab.published_device("alice"))


@pytest.fixture(scope="module")
def resolving(network: NetworkWorld, alice: Device) -> Device:
    """Return the device with a resolver that it can reach."""
    return alice.with_settings(DNS_RESOLVER=DOH, DNS_CA_FILE=str(network.authority.file))


def test_plain_tools_reach_port_443_and_nothing_else(network: NetworkWorld) -> None:
    """Check the network itself, with programs that are not ours."""

    def status(*command: str) -> int:
        limited = ["timeout", "2", find(command[0]), *command[1:]]
        return subprocess.run([*network.inside.entrance, *limited], capture_output=True, check=False).returncode

    publish = ("mosquitto_pub", "--topic", "t", "--message", "m", "--host")
    secure = (*publish, MQTTS_BROKER, "--port", "443", "--cafile", str(network.authority.file))
    assert status(*secure, "--tls-alpn", "mqtt") == 0
    assert status(*secure) not in {0, 124}
    stopped = network.router.stopped_packets()
    assert status(*publish, WSS_BROKER) == 124
    assert network.router.stopped_packets() > stopped
    tls = ("kdig", "+short", f"+tls-ca={network.authority.file}", f"+tls-host={RESOLVER_NAME}")
    assert status(*tls, f"@{DOT_RESOLVER}", "-p", "443", "example.test", "SOA") == 0
    assert status(*tls, "+https", f"@{DOH_RESOLVER}", "example.test", "SOA") == 0
    assert network.router.dns_queries() == 0
    assert status("kdig", "+time=1", "+retry=0", f"@{DOT_RESOLVER}", "example.test", "SOA") != 0
    assert network.router.dns_queries() > 0


def test_a_new_user_learns_of_the_ways_out(alice: Device, resolving: Device, bob: Device) -> None:
    result = alice.send(bob, "never sent")
    assert result.status == 2
    assert "did not answer in time" in result.stderr
    assert "in a network that blocks port 53, set DNS_RESOLVER to a resolver that answers over HTTPS" in result.stderr
    result = resolving.send(bob, "never sent", "--timeout", "5")
    assert result.status == 3
    assert "broker.hivemq.com:1883 cannot be reached: timed out" in result.stderr
    assert "in a network that blocks port 1883, set MQTT_URL=wss://HOST, which uses port 443" in result.stderr
    with resolving.start(RECEIVER) as receiver:
        receiver.wait_for_log("set MQTT_URL=wss://HOST")


def test_the_check_blames_the_broker_and_not_port_53_if_the_resolver_is_encrypted(resolving: Device) -> None:
    result = resolving.run(CHECK_IDENTITY)
    assert result.status == 8
    failures = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("fail")]
    assert failures == ["broker.reachable"]
    assert "warn  network.port53" in result.stdout
    assert "only publishing and key rotation need it" in result.stdout
