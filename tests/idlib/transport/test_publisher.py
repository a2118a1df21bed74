"""The publisher with a broker that sends what the test prescribes."""

import logging
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from idlib.errors import MessageError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.settings import MqttVersion
from idlib.system.failure_log import FailureLog
from idlib.transport import Broker, Publisher
from idlib.transport import publisher as module
from testbed.raw_mqtt import packet, user_property, variable
from testbed.scripted_broker import (
    CONNACK_311,
    Peer,
    ScriptedBroker,
    connack,
    is_clean,
    wait_until,
)
from tests.idlib.transport.publishing import _AT_ONCE, TIMEOUT, acknowledging, packet_id_of, refusing, send

_FEFF = "\ufeff".encode()
_PUBLISH_HINT = (
    "allow this device at the broker to publish to the topic; if topics must begin with something, set"
    " MQTT_TOPIC_PREFIX"
)
_RECEIVE_MAXIMUM_HINT = (
    "the broker allows fewer unacknowledged messages than it has announced: report it with the broker's log"
)
_TOPIC_HINT = (
    "if it refuses dots, as NATS does, set MQTT_TOPIC_FORMAT=slashes; if topics must begin with something, set"
    " MQTT_TOPIC_PREFIX; both are the same at every device"
)


def test_an_acknowledged_message_is_acknowledged() -> None:
    with ScriptedBroker(acknowledging()) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        publication = publisher.publish("topic", b"payload", 60)
        publisher.wait(publication)
        assert publication.is_answered
        assert publication.is_acknowledged


def test_a_message_that_is_withdrawn_during_an_outage_is_not_sent_after_it() -> None:
    bodies: list[bytes] = []
    cut, repaired = threading.Event(), threading.Event()
    outage = FailureLog(logging.getLogger(__name__))

    def breaking(peer: Peer) -> None:
        peer.accept(connack(b""))
        cut.wait()
        peer.reset()

    def keeping(peer: Peer) -> None:
        repaired.wait()
        peer.accept(connack(b""))
        while True:
            header, body = peer.read()
            if header & 0xF0 == 0x30:
                bodies.append(body)
                peer.send(packet(0x40, packet_id_of(body)))
            elif not header:
                return

    with (
        ScriptedBroker(breaking, keeping) as broker,
        Publisher(broker.address, TIMEOUT, outage=outage) as publisher,
    ):
        cut.set()
        wait_until(lambda: outage.cause is not None, "end of the connection")
        withdrawn = publisher.publish("topic", b"withdrawn", 60)
        with pytest.raises(TransportError, match=r"did not acknowledge the message within 0\.01 s"):
            publisher.wait(withdrawn, 0.01)
        publisher.withdraw(withdrawn)
        # Once more has no effect.
        publisher.withdraw(withdrawn)
        repaired.set()
        send(publisher, b"sent")
    assert [body.endswith(b"sent") for body in bodies] == [True]


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (b"\x10", NoSubscriberError, "has no subscriber for topic"),
        (b"\x87", RefusedMessageError, "refuses the message: Not authorized"),
        # As Mosquitto sends it, contrary to the standard.
        (b"\x95", RefusedMessageError, "refuses the message: reason code 149"),
        (b"\x97" + variable(8) + user_property(b"", _FEFF), RefusedMessageError, "Quota exceeded"),
    ],
)
def test_the_result_of_a_message_is_reported(code: bytes, error: type[TransportError], said: str) -> None:
    with ScriptedBroker(acknowledging(code=code)) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        publication = publisher.publish("topic", b"payload", 60)
        with pytest.raises(error, match=said):
            publisher.wait(publication)
        assert not publication.is_acknowledged
        assert len(broker.connections) == 1


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (b"\x80", f"check this device's permissions on the broker; {_TOPIC_HINT}"),
        (
            b"\x87",
            f"set MQTT_USERNAME and MQTT_PASSWORD_FILE, and {_PUBLISH_HINT}",
        ),
        (b"\x90", f"the broker does not allow messages to the topic: {_TOPIC_HINT}"),
        (b"\x95", "send shorter messages, or raise the broker's packet size limit"),
        (b"\x97", "wait until the broker has delivered its queued messages, or raise its quota"),
    ],
)
def test_a_refused_message_has_the_hint_of_its_reason(code: bytes, hint: str) -> None:
    with (
        ScriptedBroker(acknowledging(code=code)) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(RefusedMessageError) as raised,
    ):
        send(publisher)
    assert raised.value.hint == hint


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (refusing(b""), "the broker closed the connection"),
        (refusing(b"", by_reset=True), "Connection reset by peer"),
        (refusing(packet(0x20, b"\0\x87\0")), "Not authorized"),
        (refusing(packet(0x20, b"\0\x86\0")), "Bad user name or password"),
        (refusing(packet(0x20, b"\0\1")), "Unsupported protocol version"),
        (refusing(packet(0x20, b"\0\4")), "Bad user name or password"),
        # A TLS alert, as a server sends it to a client that does not use TLS.
        (refusing(b"\x15\x03\x03\0\x02\x02\x46"), "a TLS alert came instead of MQTT"),
        (refusing(b"\x20" + variable(200_000_000)), "a packet of type 2 has 200000000 bytes"),
    ],
)
def test_a_connection_that_ends_before_it_is_accepted_is_reported_at_once(
    script: Callable[[Peer], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    with (
        ScriptedBroker(script) as broker,
        pytest.raises(TransportError, match=re.escape(said)),
        Publisher(broker.address, TIMEOUT),
    ):
        pytest.fail("not accepted")
    assert time.monotonic() - started < _AT_ONCE
    assert len(broker.connections) == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (packet(0x20, b"\0\x84\0"), "set MQTT_VERSION=3.1.1"),
        (packet(0x20, b"\0\x87\0"), "set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (packet(0xE0, b"\x9c\0"), "set MQTT_HOST to another server of this broker for now"),
        (
            packet(0xE0, b"\x9f\0"),
            "connect less often: many messages can share a connection, with --lines, --to or a resident sender",
        ),
    ],
    ids=["version", "login", "another server", "rate"],
)
def test_a_refused_connection_has_the_hint_of_its_reason(answer: bytes, hint: str) -> None:
    with ScriptedBroker(refusing(answer)) as broker, pytest.raises(TransportError) as raised:
        Publisher(broker.address, TIMEOUT).__enter__()
    assert raised.value.hint == hint


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_connection_that_ends_without_a_reason_has_the_hint_of_silence(answer: bytes) -> None:
    with ScriptedBroker(refusing(answer)) as broker, pytest.raises(TransportError) as raised:
        Publisher(broker.address, TIMEOUT).__enter__()
    assert "if the port expects TLS, set MQTT_TLS=on" in raised.value.hint


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0x8B, "Server shutting down; no action needed: the program reconnects when the broker is back"),
        (0x8D, "Keep alive timeout; check the network between this device and the broker"),
        (
            0x93,
            f"Receive maximum exceeded; {_RECEIVE_MAXIMUM_HINT}",
        ),
        (0x97, "Quota exceeded; wait until the broker has delivered its queued messages, or raise its quota"),
    ],
)
def test_a_lost_connection_is_reported_with_the_hint_of_its_reason(
    code: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.send(packet(0xE0, bytes([code, 0])))

    with ScriptedBroker(first, acknowledging()) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        send(publisher)
    assert caplog.messages == [f"The connection to the broker {broker.address} is lost: {said}"]


def test_the_error_for_an_unacknowledged_message_has_the_reason_of_the_lost_connection() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.send(packet(0xE0, b"\x97\0"))

    with (
        ScriptedBroker(script, lambda peer: peer.accept(connack(b""))) as broker,
        Publisher(broker.address, 0.4) as publisher,
        pytest.raises(TransportError, match="Quota exceeded; wait until the broker has delivered its queued messages"),
    ):
        send(publisher)


@pytest.mark.parametrize(("code", "said"), [(1, "Unsupported protocol version"), (5, "Not authorized")])
def test_mqtt_3_1_1_refuses_with_a_reason_too(code: int, said: str) -> None:
    script = refusing(packet(0x20, bytes([0, code])))
    with (
        ScriptedBroker(script, version=MqttVersion.V311) as broker,
        pytest.raises(TransportError, match=said),
        Publisher(broker.address, TIMEOUT),
    ):
        pytest.fail("not accepted")


@pytest.mark.parametrize("host", ["broker..example.test", ".example.test", "x" * 64 + ".example.test", "", "a\0b"])
def test_an_encoding_error_is_reported_as_a_transport_error(host: str) -> None:
    with (
        pytest.raises(TransportError, match="cannot be reached"),
        Publisher(Broker(host, 1883, MqttVersion.V5), TIMEOUT),
    ):
        pytest.fail("not accepted")


def test_a_port_that_does_not_answer_in_tls_is_reported() -> None:
    with (
        ScriptedBroker(lambda peer: peer.wait_for_end()) as broker,
        pytest.raises(
            TransportError, match=r"cannot be reached: no TLS answer within 0\.2 s; check that the port uses TLS"
        ),
    ):
        Publisher(replace(broker.address, tls=ssl.create_default_context()), 0.2).__enter__()


def test_a_broker_without_qos_1_is_reported_at_once() -> None:
    started = time.monotonic()
    with (
        ScriptedBroker(acknowledging(b"\x24\0")) as broker,
        pytest.raises(
            TransportError, match="does not accept QoS 1, so it acknowledges no messages; nothing was delivered"
        ),
        Publisher(broker.address, TIMEOUT),
    ):
        pytest.fail("not accepted")
    assert time.monotonic() - started < _AT_ONCE


def test_messages_fail_if_the_broker_no_longer_accepts_qos_1() -> None:
    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)

    with (
        ScriptedBroker(first, acknowledging(b"\x24\0")) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
    ):
        publication = publisher.publish("topic", b"payload", 60)
        with pytest.raises(TransportError, match="does not accept QoS 1"):
            publisher.wait(publication)
        with pytest.raises(TransportError, match="does not accept QoS 1"):
            publisher.publish("topic", b"payload", 60)


def test_the_number_of_unacknowledged_messages_stays_within_the_limit_of_each_connection() -> None:
    numbers: list[int] = []

    def within(window: int, rounds: int) -> Callable[[Peer], None]:
        def script(peer: Peer) -> None:
            peer.accept(connack(b"\x21" + window.to_bytes(2)))
            for _ in range(rounds):
                waiting = [packet_id_of(peer.expect(0x30)) for _ in range(window)]
                assert peer.is_silent(0.2)
                numbers.append(len(waiting))
                for packet_id in waiting:
                    peer.send(packet(0x40, packet_id))

        return script

    with (
        ScriptedBroker(within(5, 1), within(2, 2), acknowledging(b"\x21\0\1")) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
    ):
        assert publisher.window == 5
        publications = [publisher.publish("topic", bytes([number]), 60) for number in range(12)]
        for publication in publications:
            publisher.wait(publication)
        assert publisher.window == 1
        assert len(broker.connections) == 3
    assert numbers == [5, 2, 2]


def test_messages_are_sent_again_in_their_order() -> None:
    seen: list[bytes] = []

    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        for _ in range(3):
            peer.expect(0x30)

    def second(peer: Peer) -> None:
        peer.accept(connack(b""))
        for _ in range(4):
            body = peer.expect(0x30)
            seen.append(body[-1:])
            peer.send(packet(0x40, packet_id_of(body)))
        peer.wait_for_end()

    with ScriptedBroker(first, second) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        publications = [publisher.publish("topic", bytes([number]), 60) for number in range(3)]
        wait_until(lambda: len(broker.connections) == 2, "no new connection")
        publications.append(publisher.publish("topic", b"\3", 60))
        for publication in publications:
            publisher.wait(publication)
    assert b"".join(seen) == bytes(range(4))


def test_a_message_that_is_too_large_for_the_next_connection_fails_alone() -> None:
    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.expect(0x30)

    with (
        ScriptedBroker(first, acknowledging(b"\x27\0\0\0\x64")) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
    ):
        large, small = publisher.publish("topic", bytes(200), 60), publisher.publish("topic", b"small", 60)
        with pytest.raises(MessageError, match=r"the limit of the broker .* is 100"):
            publisher.wait(large)
        publisher.wait(small)
        with pytest.raises(MessageError, match="too large"):
            publisher.publish("topic", bytes(200), 60)


def test_a_broker_may_accept_only_very_small_packets() -> None:
    with (
        ScriptedBroker(acknowledging(b"\x27\0\0\0\1")) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
    ):
        with pytest.raises(MessageError, match="is 1"):
            publisher.publish("topic", b"", 60)
        with pytest.raises(TransportError, match="too few for a subscription to topic; use another broker"):
            publisher.listen("topic", lambda _: None)


def test_a_message_above_the_limit_of_mqtt_is_too_large_for_every_broker() -> None:
    with ScriptedBroker(acknowledging()) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        with pytest.raises(MessageError, match="is 268435460"):
            publisher.publish("topic", bytes(268_435_455), 60)
        send(publisher)


def test_a_connection_that_breaks_at_each_message_is_retried_with_a_backoff_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def script(peer: Peer) -> None:
        is_second = is_clean(peer.expect(0x10))
        peer.send(CONNACK_311)
        peer.expect(0x30 if is_second else 0xE0)

    with (
        ScriptedBroker(script, version=MqttVersion.V311) as broker,
        Publisher(broker.address, 6) as publisher,
        pytest.raises(
            TransportError, match="the connection each time instead: does it accept QoS 1 and packets of 1015"
        ),
    ):
        send(publisher, bytes(1000 - len("topic")))
    assert 2 * 3 <= len(broker.connections) <= 2 * 6
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"The connection to the broker {broker.address} is lost: the broker closed the connection"]


def ending(body: bytes) -> Callable[[Peer], None]:
    """Return a script that accepts the connection and answers a message with DISCONNECT."""
    answers = {0x10: connack(b""), 0x30: packet(0xE0, body)}

    def script(peer: Peer) -> None:
        while (kind := peer.read()[0] & 0xF0) in answers:
            peer.send(answers[kind])

    return script


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\x8b\0", "Server shutting down; no action needed: the program reconnects when the broker is back"),
        (
            b"\x93\0",
            f"Receive maximum exceeded; {_RECEIVE_MAXIMUM_HINT}",
        ),
        (b"\x95\0", "Packet too large; send shorter messages, or raise the broker's packet size limit"),
        (b"\x97\0", "Quota exceeded; wait until the broker has delivered its queued messages, or raise its quota"),
        (b"\x98\0", "Administrative action; an operator of the broker has ended the connection: ask why"),
        (b"\x9b\0", "QoS not supported; configure the broker to accept QoS 1"),
        # Without the reason code of a failure, the reason is unknown.
        (b"", f"does it accept QoS 1 and packets of 27 bytes? {_TOPIC_HINT}"),
        (b"\0\0", f"does it accept QoS 1 and packets of 27 bytes? {_TOPIC_HINT}"),
    ],
)
def test_a_connection_that_breaks_at_each_message_is_reported_with_its_reason(
    body: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORTEST_RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LONGEST_RECONNECT_SECONDS", 0.05)
    with (
        ScriptedBroker(ending(body)) as broker,
        Publisher(broker.address, 1) as publisher,
        pytest.raises(TransportError) as raised,
    ):
        send(publisher)
    assert raised.value.fact == (
        f"the broker {broker.address} did not acknowledge the message within 1 s,"
        f" and ended the connection each time instead: {said}"
    )
    assert raised.value.hint == "it may or may not be delivered; send it again to be sure"


def test_the_largest_message_that_waits_may_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORTEST_RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LONGEST_RECONNECT_SECONDS", 0.05)
    with ScriptedBroker(ending(b"")) as broker, Publisher(broker.address, 1) as publisher:
        small, large = publisher.publish("topic", b"", 60), publisher.publish("topic", bytes(2000), 60)
        with pytest.raises(TransportError, match=f"packets of {large.size} bytes"):
            publisher.wait(small)
