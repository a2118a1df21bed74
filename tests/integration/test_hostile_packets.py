"""PUBLISH packets that strangers write by hand: through a real broker, to a real receiver and to a waiting sender."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab
from testbed.programs import RECEIVER, Device, Program
from testbed.raw_mqtt import RawClient, text, user_property

VERSIONS: Final = ("5", "3.1.1")
_BYTE_ORDER_MARK: Final = "\ufeff".encode()
# Every property that a PUBLISH may have (MQTT 5, section 3.3.2.3), in forms that libraries stumble over.
PROPERTIES: Final = {
    "a byte order mark in a user property": user_property(b"a", _BYTE_ORDER_MARK),
    "a byte order mark as a name": user_property(_BYTE_ORDER_MARK, b"a"),
    "an empty user property": user_property(b"", b""),
    "60000 empty user properties": user_property(b"", b"") * 60_000,
    "12000 empty user properties": user_property(b"", b"") * 12_000,
    "user properties of the same name": user_property(b"a", b"b") * 100,
    "a large user property": user_property(b"a" * 30_000, b"b" * 30_000),
    "correlation data": b"\x09" + text(bytes(range(256))),
    "empty correlation data": b"\x09" + text(b""),
    "a response topic": b"\x08" + text("antworten/ü".encode()),
    "a response topic with a byte order mark": b"\x08" + text(_BYTE_ORDER_MARK),
    "a content type": b"\x03" + text("text/ü".encode()),
    "an empty content type": b"\x03" + text(b""),
    "a byte order mark as content type": b"\x03" + text(_BYTE_ORDER_MARK),
    "a payload format that the payload does not have": b"\x01\x01",
    "a long life": b"\x02\xff\xff\xff\xff",
    "everything together": b"\x01\x01\x02\x00\x00\xff\xff"
    b"\x03"
    + text(_BYTE_ORDER_MARK)
    + b"\x08"
    + text(_BYTE_ORDER_MARK)
    + b"\x09"
    + text(b"\xff" * 1000)
    + user_property(_BYTE_ORDER_MARK, _BYTE_ORDER_MARK) * 1000,
}
_NOT_UTF_8: Final = b"\xff\xfe\x00"
_ALLOWED_KIB: Final = 100 * 1000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Yield a broker whose retained messages and largest packets disturb no other test."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as mosquitto:
        yield mosquitto


def expect_message(receiver: Program, sender: Device, recipient: Device, message: str) -> None:
    assert sender.send(recipient, message).status == 0
    receiver.wait_for_message(message)


def peak_kib(program: Program) -> int:
    found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{program.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def refusals(program: Program) -> list[str]:
    return [line for line in program.stderr if "refused reason=" in line]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_property_delays_later_messages(version: str, lab: Lab, broker: Mosquitto) -> None:
    there = {"MQTT_PORT": str(broker.port)}
    alice = lab.published_device("alice").with_settings(**there)
    # At this level no log line is held back, so that they can be counted.
    bob = lab.published_device("bob").with_settings(**there, MQTT_VERSION=version, LOG_LEVEL="debug")
    with bob.receiver() as receiver, RawClient(broker.port) as stranger:
        for number, (what, properties) in enumerate(PROPERTIES.items()):
            for qos in (0, 1, 2):
                stranger.publish(bob.name, _NOT_UTF_8, qos, properties)
            if number % 4 == 0 or number == len(PROPERTIES) - 1:
                expect_message(receiver, alice, bob, f"good message after {what}")
        assert {line.partition("reason=")[2].split()[0] for line in refusals(receiver)} == {"outer-malformed"}
        # With MQTT 5 the broker drops the one that is larger than we have announced.
        assert len(refusals(receiver)) == 3 * (len(PROPERTIES) - (version == "5"))
        assert not [line for line in receiver.stderr if "Traceback" in line or "is lost" in line]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["a byte order mark in a user property", "12000 empty user properties"])
def test_a_receiver_handles_a_retained_packet_at_its_first_start(
    what: str, version: str, lab: Lab, broker: Mosquitto
) -> None:
    there = {"MQTT_PORT": str(broker.port)}
    alice = lab.published_device("alice").with_settings(**there)
    bob = lab.published_device("bob").with_settings(**there, MQTT_VERSION=version)
    with RawClient(broker.port) as stranger:
        stranger.publish(bob.name, _NOT_UTF_8, 1, PROPERTIES[what], retain=True)
        with bob.receiver() as receiver:
            expect_message(receiver, alice, bob, "good message at the first start")
            assert len(refusals(receiver)) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sender_that_waits_for_a_receipt_is_not_disturbed(version: str, lab: Lab, broker: Mosquitto) -> None:
    there = {"MQTT_PORT": str(broker.port)}
    bob = lab.published_device("bob").with_settings(**there)
    with bob.receiver(), RawClient(broker.port) as stranger:
        for what in ("a byte order mark in a user property", "60000 empty user properties", "everything together"):
            alice = lab.published_device("alice").with_settings(**there, MQTT_VERSION=version)
            stranger.publish(alice.name, _NOT_UTF_8, 1, PROPERTIES[what], retain=True)
            result = alice.send(bob, f"confirm despite {what}", "--receipt", "--timeout", "15")
            assert result.status == 0, result.stderr
        alice = lab.published_device("alice").with_settings(**there, MQTT_VERSION=version)
        stranger.publish(alice.name, bytes(50_000_000), 1, retain=True)
        result = alice.send(bob, "confirm despite 50 MB", "--receipt", "--timeout", "15")
        assert result.status == 0, result.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_large_packets_take_no_memory(version: str, lab: Lab, broker: Mosquitto) -> None:
    there = {"MQTT_PORT": str(broker.port)}
    alice = lab.published_device("alice").with_settings(**there)
    bob = lab.published_device("bob").with_settings(**there, MQTT_VERSION=version)
    largest = 268_435_455 - 2 - len(bob.name) - 2 - 1
    with bob.receiver() as receiver, RawClient(broker.port) as stranger:
        for size in (65_537, 120_000, 140_000, 40_000_000, largest):
            stranger.publish(bob.name, bytes(size), 1)
            expect_message(receiver, alice, bob, f"good message after {size} octets")
        # With MQTT 5 the broker drops what is larger than we have announced.
        expected = 2 if version == "5" else 5
        assert ["reason=oversized" in line for line in refusals(receiver)] == [True] * expected
        assert peak_kib(receiver) < _ALLOWED_KIB
        assert not [line for line in receiver.stderr if "is lost" in line]


def test_an_oversized_packet_that_waits_does_not_stop_the_receiver_from_connecting(lab: Lab, broker: Mosquitto) -> None:
    there = {"MQTT_PORT": str(broker.port), "MQTT_VERSION": "3.1.1"}
    alice = lab.published_device("alice").with_settings(**there)
    bob = lab.published_device("bob").with_settings(**there)
    with bob.receiver() as receiver:
        receiver.stop()
    with RawClient(broker.port) as stranger:
        for _ in range(3):
            stranger.publish(bob.name, bytes(40_000_000), 1)
    assert alice.send(bob, "behind them").status == 0
    with bob.receiver() as receiver:
        receiver.wait_for_message("behind them")
        assert len(refusals(receiver)) == 3
        assert peak_kib(receiver) < _ALLOWED_KIB
    again = bob.run(RECEIVER, "--health")
    assert "not running" in again.stdout
