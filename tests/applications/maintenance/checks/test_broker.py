import time
from collections.abc import Callable

import pytest

from idlib.algorithms import PrivateKey
from idlib.errors import KeyFileError
from idlib.keys import generate_private_key
from idlib.settings import KeyType, load
from messaging_maintenance.checks.broker import check_broker
from messaging_maintenance.checks.catalogue import BROKER_IDS
from messaging_maintenance.checks.report import as_text
from messaging_maintenance.checks.result import Item, Status
from messaging_maintenance.checks.running import Once
from testbed.raw_mqtt import packet, text
from testbed.scripted_broker import Peer, ScriptedBroker, connack
from tests.applications.maintenance.checks.observations import NAME

Script = Callable[[Peer], None]


def accepting(properties: bytes = b"", *, code: int = 0) -> Script:
    def script(peer: Peer) -> None:
        peer.accept(connack(properties, code=code))
        while (received := peer.read())[0]:
            if received[0] & 0xF0 == 0x80:
                peer.send(packet(0x90, received[1][:2] + b"\0\1"))

    return script


def no_key() -> PrivateKey:
    raise KeyFileError("there is no key")


def check(*scripts: Script, key: Callable[[], PrivateKey] = no_key) -> dict[str, Item]:
    with ScriptedBroker(*scripts) as broker:
        address = broker.address
        environment = {"IDENTITY_NAME": str(NAME), "MQTT_HOST": address.host, "MQTT_PORT": str(address.port)}
        items = check_broker(load(environment), Once(key))
    assert [item.id for item in items] == list(BROKER_IDS)
    return {item.id: item for item in items}


def test_a_client_id_that_the_broker_replaces_is_a_failure_and_cannot_act_on_a_terminal() -> None:
    items = check(accepting(b"\x12" + text(b"\x1b[2J evil")))
    assert items["broker.client-id"].status is Status.FAIL
    assert items["broker.probe"].status is Status.SKIP
    assert "\x1b" not in as_text(NAME, list(items.values()), coloured=False)


def test_settings_that_exclude_each_other_are_one_failure() -> None:
    settings = load({"IDENTITY_NAME": str(NAME), "MQTT_CA_FILE": "/ca.pem"})
    items = {item.id: item for item in check_broker(settings, Once(no_key))}
    assert items["broker.reachable"].status is Status.FAIL
    assert items["broker.reachable"].evidence.startswith("MQTT_CA_FILE is set, and MQTT_TLS is off")
    assert {items[identifier].status for identifier in BROKER_IDS[1:]} == {Status.SKIP}


def test_a_shorter_session_is_a_warning() -> None:
    items = check(accepting(b"\x11" + (60).to_bytes(4)))
    assert items["broker.grant"].status is Status.WARN
    assert "for 60 s instead of 604800 s" in items["broker.grant"].evidence


def test_a_session_that_is_not_kept_is_a_failure() -> None:
    item = check(accepting())["broker.session"]
    assert (item.status, item.evidence) == (
        Status.FAIL,
        "the broker did not keep a session between two connections",
    )


def test_a_broker_without_qos_1_is_a_failure() -> None:
    assert check(accepting(b"\x24\0"))["broker.grant"].status is Status.FAIL


@pytest.mark.parametrize(("code", "fact"), [(0x86, "Bad user name or password"), (0x87, "Not authorized")])
def test_a_refusal_is_told_apart_from_a_broker_that_is_not_there(code: int, fact: str) -> None:
    items = check(accepting(code=code))
    assert items["broker.reachable"].status is Status.OK
    assert items["broker.accepts"].status is Status.FAIL
    assert fact in items["broker.accepts"].evidence


def sending(octets: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.expect(0x10)
        peer.send(octets)
        peer.wait_for_end()

    return script


@pytest.mark.parametrize(
    "octets",
    [
        connack(b"\x1f" + text(b"\x1b[2J\x1b]0;evil\x07" * 10), code=0x87),
        b"\x20\xff\xff\xff\x7f" + b"\x1b[2J" * 10000,
        b"\x20\x03\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(range(256)) * 20,
        b"",
    ],
    ids=["escape sequences", "256 MiB", "half", "HTTP", "junk", "nothing"],
)
def test_a_hostile_broker_is_one_failure_in_a_bounded_time(octets: bytes) -> None:
    started = time.monotonic()
    items = check(sending(octets))
    assert time.monotonic() - started < 10
    assert {identifier for identifier, item in items.items() if item.status is Status.FAIL} == {"broker.accepts"}
    assert "\x1b" not in as_text(NAME, list(items.values()), coloured=False)


def test_without_a_key_there_is_no_probe() -> None:
    item = check(accepting())["broker.probe"]
    assert (item.status, item.evidence) == (Status.SKIP, "there is no key to sign a probe with: there is no key")


def test_a_probe_that_may_not_be_subscribed_to_is_a_failure() -> None:
    def refusing(peer: Peer) -> None:
        peer.accept()
        peer.grant(b"\0\x87")
        peer.wait_for_end()

    key = generate_private_key(KeyType.P256)
    item = check(accepting(), accepting(), accepting(), refusing, accepting(), key=lambda: key)["broker.probe"]
    assert item.status is Status.FAIL
    assert f"did not accept a subscription to {NAME}: Not authorized" in item.evidence
