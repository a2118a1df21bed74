"""Every reason code that the standards allow a broker to send has its name and its own hint."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes

from idlib.errors import RefusedMessageError, TransportError
from idlib.settings import MqttVersion, TopicFormat
from idlib.transport.broker import Broker
from idlib.transport.connection import explain
from idlib.transport.packets import read_remarks
from idlib.transport.publisher import Publisher
from idlib.transport.topics import Topics
from testbed.raw_mqtt import packet, text, user_property, variable
from testbed.scripted_broker import Peer, ScriptedBroker, connack, wait_until
from tests.idlib.transport.subscribing import running

TIMEOUT: Final = 5.0
BROKER: Final = Broker("broker.example", 1883, MqttVersion.V5)
LOGGED_IN: Final = replace(BROKER, tls=ssl.create_default_context(), username="alice", password="secret")
# MQTT 5, tables 3-1 (section 3.2.2.2), 3-10 (section 3.14.2.1, without what only clients send), 3-8 (section 3.9.3) and
# 3-4 (section 3.4.2.1).
CONNACK: Final = {
    128: "Unspecified error",
    129: "Malformed Packet",
    130: "Protocol Error",
    131: "Implementation specific error",
    132: "Unsupported Protocol Version",
    133: "Client Identifier not valid",
    134: "Bad User Name or Password",
    135: "Not authorized",
    136: "Server unavailable",
    137: "Server busy",
    138: "Banned",
    140: "Bad authentication method",
    144: "Topic Name invalid",
    149: "Packet too large",
    151: "Quota exceeded",
    153: "Payload format invalid",
    154: "Retain not supported",
    155: "QoS not supported",
    156: "Use another server",
    157: "Server moved",
    159: "Connection rate exceeded",
}
DISCONNECT: Final = {
    0: "Normal disconnection",
    128: "Unspecified error",
    129: "Malformed Packet",
    130: "Protocol Error",
    131: "Implementation specific error",
    135: "Not authorized",
    137: "Server busy",
    139: "Server shutting down",
    141: "Keep Alive timeout",
    142: "Session taken over",
    143: "Topic Filter invalid",
    144: "Topic Name invalid",
    147: "Receive Maximum exceeded",
    148: "Topic Alias invalid",
    149: "Packet too large",
    150: "Message rate too high",
    151: "Quota exceeded",
    152: "Administrative action",
    153: "Payload format invalid",
    154: "Retain not supported",
    155: "QoS not supported",
    156: "Use another server",
    157: "Server moved",
    158: "Shared Subscription not supported",
    159: "Connection rate exceeded",
    160: "Maximum connect time",
    161: "Subscription Identifiers not supported",
    162: "Wildcard Subscription not supported",
}
SUBACK: Final = {
    128: "Unspecified error",
    131: "Implementation specific error",
    135: "Not authorized",
    143: "Topic Filter invalid",
    145: "Packet Identifier in use",
    151: "Quota exceeded",
    158: "Shared Subscription not supported",
    161: "Subscription Identifiers not supported",
    162: "Wildcard Subscription not supported",
}
PUBACK: Final = {
    128: "Unspecified error",
    131: "Implementation specific error",
    135: "Not authorized",
    144: "Topic Name invalid",
    145: "Packet identifier in use",
    151: "Quota exceeded",
    153: "Payload format invalid",
}
TABLES: Final = {
    PacketTypes.CONNACK: CONNACK,
    PacketTypes.DISCONNECT: DISCONNECT,
    PacketTypes.SUBACK: SUBACK,
    PacketTypes.PUBACK: PUBACK,
}
# MQTT 3.1.1, table 3.1 (section 3.2.2.3).
RETURN_CODES: Final = {
    1: "Unsupported protocol version; set MQTT_VERSION=5",
    2: "Client identifier not valid; set MQTT_CLIENT_ID to the client id that the broker has for this login",
    3: "Server unavailable; the broker runs, but cannot work now",
    4: "Bad user name or password; set MQTT_USERNAME and MQTT_PASSWORD_FILE",
    5: "Not authorized; set MQTT_USERNAME and MQTT_PASSWORD_FILE",
}
REASON_STRING: Final = b"\x1f"
SERVER_REFERENCE: Final = b"\x1c"


def properties(*parts: bytes) -> bytes:
    section = b"".join(parts)
    return variable(len(section)) + section


@pytest.mark.parametrize("broker", [BROKER, LOGGED_IN], ids=["anonymous", "logged in"])
@pytest.mark.parametrize(("kind", "table"), TABLES.items(), ids=["CONNACK", "DISCONNECT", "SUBACK", "PUBACK"])
def test_every_reason_has_its_name_and_a_hint_of_its_own(kind: int, table: Mapping[int, str], broker: Broker) -> None:
    found = {code: explain(broker, kind, code) for code in table}
    assert {code: each.fact.lower() for code, each in found.items()} == {
        code: name.lower() for code, name in table.items()
    }
    assert [code for code, each in found.items() if not each.hint] == []
    if broker.username is not None:
        assert len({each.hint for each in found.values()}) == len(found)


@pytest.mark.parametrize(("code", "said"), RETURN_CODES.items())
def test_every_return_code_of_mqtt_3_1_1_has_its_name_and_hint(code: int, said: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept(packet(0x20, bytes([0, code])))
        peer.wait_for_end()

    with ScriptedBroker(script, version=MqttVersion.V311) as broker, running(broker.address) as run:
        wait_until(lambda: f"refuses the connection: {said}" in (run.subscription.problem or ""), "it says nothing")


@pytest.mark.parametrize(
    ("kind", "code", "hint"),
    [
        (PacketTypes.CONNACK, 133, "let the broker accept the client id in MQTT_CLIENT_ID for the receiver"),
        (PacketTypes.CONNACK, 135, "permissions on the broker; let the broker accept the client id in MQTT_CLIENT_ID"),
        (PacketTypes.DISCONNECT, 142, "if no program of yours uses it, someone else knows it"),
    ],
)
def test_hints_for_a_fixed_client_id_name_its_setting(kind: int, code: int, hint: str) -> None:
    fixed = replace(LOGGED_IN, client_id="the-id-itself")
    assert hint in explain(fixed, kind, code).hint
    assert "the-id-itself" not in explain(fixed, kind, code).hint


@pytest.mark.parametrize(
    ("kind", "code"), [(PacketTypes.SUBACK, 128), (PacketTypes.SUBACK, 143), (PacketTypes.PUBACK, 144)]
)
def test_hints_for_topics_name_the_settings_that_may_help(kind: int, code: int) -> None:
    usual = explain(BROKER, kind, code).hint
    assert "set MQTT_TOPIC_FORMAT=slashes" in usual
    assert "set MQTT_TOPIC_PREFIX" in usual
    changed = explain(replace(BROKER, topics=Topics("fleet/", TopicFormat.SLASHES)), kind, code).hint
    assert "MQTT_TOPIC_FORMAT" not in changed
    assert "check MQTT_TOPIC_PREFIX" in changed


def test_a_refusal_shows_what_the_broker_says_and_names() -> None:
    said = properties(
        user_property(b"a", b"b"), REASON_STRING + text(b"ask sales"), SERVER_REFERENCE + text(b"other.example:8883")
    )
    with (
        ScriptedBroker(lambda peer: peer.accept(packet(0x20, b"\0\x9d" + said))) as broker,
        pytest.raises(TransportError) as raised,
    ):
        Publisher(broker.address, TIMEOUT).__enter__()
    assert raised.value.fact.endswith(
        "Server moved (it says 'ask sales', it refers to the server 'other.example:8883')"
    )
    # It is shown, and never followed.
    assert len(broker.connections) == 1


def test_a_disconnect_shows_what_the_broker_says(caplog: pytest.LogCaptureFixture) -> None:
    said = properties(REASON_STRING + text(b"you are\nslow\x1b[2J"))

    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.grant()
        peer.send(packet(0xE0, b"\x8d" + said))

    with ScriptedBroker(script) as broker, running(broker.address):
        wait_until(lambda: "Keep alive timeout" in caplog.text, "it says nothing")
    (line,) = [each for each in caplog.messages if "Keep alive timeout" in each]
    assert "Keep alive timeout (it says 'you are\\nslow\\x1b[2J'); check the network" in line


def test_a_takeover_shows_what_the_broker_says(caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.grant()
        peer.send(packet(0xE0, b"\x8e" + properties(REASON_STRING + text(b"bob is here"))))

    with ScriptedBroker(script) as broker, running(broker.address):
        wait_until(lambda: "was taken over (it says 'bob is here'); another client" in caplog.text, "it says nothing")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\x05",
        b"\xff\xff\xff\xff",
        b"\x03\x1f\xff\xff",
        properties(REASON_STRING + text(b"a"), REASON_STRING + text(b"b")),
        properties(b"\x7f"),
        properties(REASON_STRING),
        properties(b"\x11\0"),
    ],
)
def test_remarks_that_cannot_be_read_are_left_out(body: bytes) -> None:
    assert str(read_remarks(body, 0)) == ""


def test_long_remarks_are_cut() -> None:
    remarks = read_remarks(properties(REASON_STRING + text("ü".encode() * 30_000)), 0)
    assert remarks.reason == "ü" * 200 + "..."


@given(st.binary(max_size=300))
def test_remarks_are_one_short_printable_line_whatever_a_broker_sends(body: bytes) -> None:
    shown = str(read_remarks(body, 0))
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert len(shown) < 5000


def test_an_unreadable_disconnect_still_has_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.grant()
        peer.send(packet(0xE0, b"\x97\xff\xff\xff\xff\xff"))

    with ScriptedBroker(script) as broker, running(broker.address):
        wait_until(lambda: "Quota exceeded; wait until" in caplog.text, "it says nothing")


def test_a_refused_message_with_slashes_has_the_hint_of_its_prefix() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.send(packet(0x40, b"\0\1\x90"))
        peer.wait_for_end()

    with ScriptedBroker(script) as broker:
        address = replace(broker.address, topics=Topics("fleet/", TopicFormat.SLASHES))
        with Publisher(address, TIMEOUT) as publisher, pytest.raises(RefusedMessageError) as raised:
            publisher.wait(publisher.publish(address.topics.of("bob._device.example.com"), b"payload", 60))
    assert "check MQTT_TOPIC_PREFIX" in raised.value.hint
