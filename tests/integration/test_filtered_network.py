"""A network that drops every packet that does not go to TCP port 443."""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.daemons.process import Daemon, find
from testbed.network.canned import BAD_GATEWAY, PORTAL_PAGE, UPGRADE_WITHOUT_KEY, Answer, Canned
from testbed.network.world import (
    DOH_RESOLVER,
    DOT_RESOLVER,
    MQTTS_BROKER,
    PORTAL,
    RESOLVER_NAME,
    SPARE,
    WSS_BROKER,
    NetworkWorld,
    certificate_with_key,
    open_network,
)
from testbed.programs import CHECK_IDENTITY, RECEIVER, SEND_MESSAGE, SENDER, SUBSCRIBED, Device, Program, Result
from testbed.server_certificates import ServerAuthority

DOT = f"tls://{DOT_RESOLVER}:443#{RESOLVER_NAME}"
_ADDRESS = re.compile(r"198[.0-9]+")
WAYS = ["wss", "alpn", "socks5", "http"]
DOH = f"https://{DOH_RESOLVER}/dns-query"


@dataclass(frozen=True)
class Traveller:
    """A device that reaches the broker on one of the ways.

    Args:
        device: The device.
        receiver: Its receiver.
        server: What stands at port 443 on its way.
    """

    device: Device
    receiver: Program
    server: Daemon


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


@pytest.fixture(scope="module")
def travellers(network: NetworkWorld) -> Iterator[dict[str, Traveller]]:
    """Yield a device behind the router for each way to the broker; all their receivers run."""
    with ExitStack() as stack:
        found = {}
        for way in network.ways():
            settings = {"DNS_RESOLVER": DOT, "DNS_CA_FILE": str(network.authority.file), **way.settings}
            device = network.move_inside(network.lab.published_device(way.name)).with_settings(**settings)
            found[way.name] = Traveller(device, stack.enter_context(device.start(RECEIVER)), way.server)
        for traveller in found.values():
            traveller.receiver.wait_for_log(SUBSCRIBED)
        yield found


@contextmanager
def led_to_portal(network: NetworkWorld) -> Iterator[None]:
    """Lead every connection to the portal, as long as the context is open."""
    network.router.lead_https_to(PORTAL)
    try:
        yield
    finally:
        network.router.let_only_https_leave()


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
    with alice.start(SEND_MESSAGE, bob.name, "never sent") as sender, resolving.start(RECEIVER) as receiver:
        receiver.wait_for_log("broker.hivemq.com:1883 cannot be reached: timed out")
        receiver.wait_for_log("in a network that blocks port 1883, set MQTT_URL=wss://HOST, which uses port 443")
        sender.wait_for_log("did not answer in time")
        sender.wait_for_log("in a network that blocks port 53, set DNS_RESOLVER to a resolver that answers over HTTPS")
        assert sender.wait_for_end() == 2


def test_the_check_blames_the_broker_and_not_port_53_if_the_resolver_is_encrypted(resolving: Device) -> None:
    result = resolving.run(CHECK_IDENTITY, "--json")
    assert result.status == 8
    items = {item["id"]: item for item in json.loads(result.stdout)["items"]}
    assert [identifier for identifier, item in items.items() if item["status"] == "fail"] == ["broker.reachable"]
    assert "MQTT_URL=wss://HOST" in items["broker.reachable"]["hint"]
    assert items["network.port53"]["status"] == "warn"
    assert "only publishing and key rotation need it" in items["network.port53"]["hint"]


@pytest.mark.parametrize("resolver", [DOT, DOH], ids=["tls", "https"])
def test_a_captive_portal_is_never_trusted_and_look_ups_work_again_after_it(
    resolver: str, network: NetworkWorld, alice: Device, bob: Device, tmp_path: Path
) -> None:
    """At first the portal has a certificate of its own; then it is what a name server's operator has put there."""
    device = alice.with_settings(DNS_RESOLVER=resolver, DNS_CA_FILE=str(network.authority.file))
    own = certificate_with_key(ServerAuthority(tmp_path), "portal.example")
    right = certificate_with_key(network.authority, DOT_RESOLVER, DOH_RESOLVER, RESOLVER_NAME)
    for pem, fact in ((own, "shows a certificate that no trusted CA has issued"), (right, "the DNS server")):
        with Canned(tmp_path, Answer(PORTAL, PORTAL_PAGE, pem), namespace=network.outside), led_to_portal(network):
            result = device.send(bob, "never sent")
            assert network.router.dns_queries() == 0
        assert result.status == 2
        (line,) = [line for line in result.stderr.splitlines() if line]
        assert fact in line
    # Only the broker is missing now.
    assert device.send(bob, "never sent", "--timeout", "1").status == 3


@pytest.mark.parametrize("way", WAYS)
def test_messages_arrive_both_ways(
    way: str, travellers: dict[str, Traveller], bob: Device, bob_receiver: Program
) -> None:
    traveller = travellers[way]
    assert traveller.device.send(bob, f"out over {way}").status == 0
    bob_receiver.wait_for_message(f"{traveller.device.name} says: out over {way}")
    assert bob.send(traveller.device, f"in over {way}").status == 0
    traveller.receiver.wait_for_message(f"in over {way}")


@pytest.mark.parametrize("way", WAYS)
def test_what_was_sent_while_the_server_at_port_443_was_down_arrives(
    way: str, travellers: dict[str, Traveller], bob: Device
) -> None:
    traveller = travellers[way]
    known = len(traveller.receiver.stderr)

    def has_lost_the_connection() -> bool:
        return any(" is lost: " in line for line in traveller.receiver.stderr[known:])

    traveller.server.kill()
    try:
        traveller.receiver.wait_for("lost connection", has_lost_the_connection)
        assert bob.send(traveller.device, f"meanwhile over {way}").status == 0
    finally:
        traveller.server.start()
    traveller.receiver.wait_for_message(f"meanwhile over {way}")


def test_what_was_sent_while_the_link_was_down_arrives(
    network: NetworkWorld, travellers: dict[str, Traveller], bob: Device, bob_receiver: Program
) -> None:
    with ExitStack() as stack:
        network.router.cut()
        try:
            queuing = [
                stack.enter_context(one.device.start(SEND_MESSAGE, bob.name, f"left over {way}", "--queue"))
                for way, one in travellers.items()
            ]
            for way, one in travellers.items():
                assert bob.send(one.device, f"kept for {way}").status == 0
            assert [program.wait_for_end() for program in queuing] == [0] * len(queuing)
        finally:
            network.router.mend()
        for one in travellers.values():
            stack.enter_context(one.device.start(SENDER))
        for way, one in travellers.items():
            one.receiver.wait_for_message(f"kept for {way}")
            bob_receiver.wait_for_message(f"left over {way}")


@dataclass(frozen=True)
class Impostor:
    """What stands at port 443 instead of the server.

    Args:
        way: The way that it is on.
        kind: What it does.
        answer: What it sends.
        has_right_certificate: Whether it has a certificate for the address; None is no TLS.
        seconds: How long it waits before it answers.
    """

    way: str
    kind: str
    answer: bytes
    has_right_certificate: bool | None = None
    seconds: float = 0


IMPOSTORS = (
    Impostor("wss", "a portal with a certificate of its own", PORTAL_PAGE, has_right_certificate=False),
    Impostor("wss", "a web page", PORTAL_PAGE, has_right_certificate=True),
    Impostor("wss", "an upgrade without a key", UPGRADE_WITHOUT_KEY, has_right_certificate=True),
    Impostor("wss", "an end", b"", has_right_certificate=True),
    Impostor("wss", "silence", PORTAL_PAGE, has_right_certificate=True, seconds=60),
    Impostor("alpn", "a web page", PORTAL_PAGE, has_right_certificate=True),
    Impostor("alpn", "no TLS", PORTAL_PAGE),
    Impostor("socks5", "a web page", PORTAL_PAGE),
    Impostor("socks5", "an end", b""),
    Impostor("socks5", "an unknown method", b"\x05\xff"),
    Impostor("socks5", "a refusal", b"\x05\x00\x05\x05\x00\x01" + bytes(6)),
    Impostor("socks5", "success, and a web page", b"\x05\x00\x05\x00\x00\x01" + bytes(6) + PORTAL_PAGE),
    Impostor("socks5", "silence", b"", seconds=60),
    Impostor("http", "a web page", PORTAL_PAGE),
    Impostor("http", "an error", BAD_GATEWAY),
    Impostor("http", "no HTTP", b"\x00" * 100 + b"\r\n\r\n"),
    Impostor("http", "an end", b""),
    Impostor("http", "silence", b"", seconds=60),
)


@pytest.fixture(scope="module")
def attempts(
    network: NetworkWorld, travellers: dict[str, Traveller], bob: Device, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Impostor, "Future[Result]"]]:
    """Yield the outcome of sending a message past each impostor, all at once."""
    directory = tmp_path_factory.mktemp("impostors")
    own = certificate_with_key(ServerAuthority(directory), "portal.example")
    pems = {None: None, False: own, True: network.pem}
    places = dict(zip(IMPOSTORS, SPARE, strict=False))
    answers = [
        Answer(address, impostor.answer, pems[impostor.has_right_certificate], impostor.seconds)
        for impostor, address in places.items()
    ]
    with Canned(directory, *answers, namespace=network.outside), ThreadPoolExecutor(4) as workers:
        yield {
            impostor: workers.submit(
                _at(travellers[impostor.way].device, address, directory).send, bob, "never sent", "--timeout", "5"
            )
            for impostor, address in places.items()
        }


def _at(device: Device, address: str, directory: Path) -> Device:
    """Return a device whose server at port 443 has another address."""
    name = _setting_of_server(device)
    data = {"DATA_PATH": str(directory / address)}
    return device.with_settings(**{name: _ADDRESS.sub(address, device.settings[name])}, **data)


def _setting_of_server(device: Device) -> str:
    return "MQTT_PROXY" if "MQTT_PROXY" in device.settings else "MQTT_URL"


@pytest.mark.parametrize("impostor", IMPOSTORS, ids=lambda impostor: f"{impostor.way} {impostor.kind}")
def test_an_impostor_at_port_443_is_reported_in_one_line(
    impostor: Impostor, attempts: dict[Impostor, "Future[Result]"]
) -> None:
    result = attempts[impostor].result(60)
    assert result.status == 3, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert line.startswith("Error: ")
    assert "; " in line
    assert "Traceback" not in line


@pytest.mark.parametrize("way", WAYS)
def test_the_receiver_recovers_when_the_portal_is_gone(
    way: str, network: NetworkWorld, travellers: dict[str, Traveller], bob: Device, tmp_path: Path
) -> None:
    traveller = travellers[way]
    address = _ADDRESS.findall(traveller.device.settings[_setting_of_server(traveller.device)])[0]
    known = len(traveller.receiver.stderr)
    traveller.server.kill()
    try:
        page = Answer(address, PORTAL_PAGE, network.pem if way in {"wss", "alpn"} else None)
        with Canned(tmp_path, page, namespace=network.outside):
            traveller.receiver.wait_for("complaint", lambda: len(traveller.receiver.stderr) >= known + 2)
    finally:
        traveller.server.start()
    assert bob.send(traveller.device, f"after the portal over {way}").status == 0
    traveller.receiver.wait_for_message(f"after the portal over {way}")
    assert traveller.receiver.is_running
    assert not any("Traceback" in line for line in traveller.receiver.stderr)
