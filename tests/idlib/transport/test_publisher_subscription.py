"""What a publisher subscribes to, with a broker that sends what the test prescribes."""

import pytest

from idlib.errors import TransportError
from idlib.settings import MqttVersion
from idlib.transport import Publisher
from testbed.raw_mqtt import packet, publish_packet, text, user_property
from testbed.scripted_broker import CONNACK_311, Peer, ScriptedBroker, connack, no_session_311, wait_until
from tests.idlib.transport.publishing import TIMEOUT

_FEFF = "\ufeff".encode()
_ALLOW_HINT = (
    "allow this device at the broker to subscribe to the topic of its name; if topics must begin with something, set"
    " MQTT_TOPIC_PREFIX"
)
_TOPIC_HINT = (
    "if it refuses dots, as NATS does, set MQTT_TOPIC_FORMAT=slashes; if topics must begin with something, set"
    " MQTT_TOPIC_PREFIX; both are the same at every device"
)


def test_a_listener_is_not_disturbed_by_any_packet() -> None:
    heard: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.grant()
        peer.send(publish_packet("topic", b"weird", 1, 1, user_property(_FEFF, _FEFF), retain=True))
        peer.expect(0x40)
        peer.send(packet(0x32, text(b"topic") + b"\0\2\x7f"))
        peer.expect(0x40)
        peer.send(publish_packet("topic", bytes(10_000_000), 1, 3, retain=True))
        peer.expect(0x40)
        peer.send(publish_packet("topic", b"good", 0))
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, Publisher(broker.address, TIMEOUT, 100) as publisher:
        publisher.listen("topic", heard.append)
        wait_until(lambda: len(heard) == 2, "not heard")
        assert heard == [b"weird", b"good"]
        assert len(broker.connections) == 1


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (
            b"\x87",
            "Not authorized",
            f"set MQTT_USERNAME and MQTT_PASSWORD_FILE, and {_ALLOW_HINT}",
        ),
        (b"\x8f", "Topic filter invalid", f"the broker does not allow a subscription to the topic: {_TOPIC_HINT}"),
        (b"\x97", "Quota exceeded", "wait until the broker has delivered its queued messages, or raise its quota"),
    ],
)
def test_a_refused_subscription_is_reported_with_the_hint_of_its_reason(code: bytes, reason: str, hint: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.grant(b"\0" + code)
        peer.wait_for_end()

    with (
        ScriptedBroker(script) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(TransportError, match=f"did not accept a subscription to topic: {reason}") as raised,
    ):
        publisher.listen("topic", lambda _: None)
    assert raised.value.hint == hint


def test_with_mqtt_3_1_1_a_refused_subscription_has_a_hint_too() -> None:
    def script(peer: Peer) -> None:
        peer.accept(CONNACK_311)
        peer.grant(b"\x80")
        peer.wait_for_end()

    with (
        ScriptedBroker(
            no_session_311, script, lambda peer: peer.accept(CONNACK_311), version=MqttVersion.V311
        ) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(
            TransportError, match=f"Unspecified error; check this device's permissions on the broker; {_TOPIC_HINT}"
        ),
    ):
        publisher.listen("topic", lambda _: None)


def test_a_subscription_without_an_answer_is_reported_with_the_reason_of_the_lost_connection() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x80)
        peer.send(packet(0xE0, b"\x87\0"))

    with (
        ScriptedBroker(script, lambda peer: peer.accept(connack(b""))) as broker,
        Publisher(broker.address, 0.4) as publisher,
        pytest.raises(TransportError, match=r"no answer within 0\.4 s: The connection .* is lost: Not authorized; set"),
    ):
        publisher.listen("topic", lambda _: None)
