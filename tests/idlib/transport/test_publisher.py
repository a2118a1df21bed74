"""The publisher against a broker that says what a test has it say."""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from idlib.errors import MessageError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.settings import MqttVersion
from idlib.transport import Broker, Publisher
from tests.idlib.transport.scripted_broker import CONNACK_311, Peer, ScriptedBroker, connack, wait_until
from tests.integration.raw_mqtt import packet, publish_packet, text, user_property, variable

TIMEOUT = 30.0
_AT_ONCE = 5.0
_FEFF = "\ufeff".encode()


def packet_id_of(publish: bytes) -> bytes:
    begin = 2 + int.from_bytes(publish[:2])
    return publish[begin : begin + 2]


def acknowledging(properties: bytes = b"", code: bytes = b"") -> Callable[[Peer], None]:
    """Return a script that accepts and acknowledges whatever comes."""

    def script(peer: Peer) -> None:
        peer.accept(connack(properties))
        while True:
            header, body = peer.read()
            if header & 0xF0 == 0x30:
                peer.send(packet(0x40, packet_id_of(body) + code))
            elif not header:
                return

    return script


def send(publisher: Publisher, payload: bytes = b"payload") -> None:
    publisher.wait(publisher.publish("topic", payload, 60))


def test_an_acknowledged_message_is_acknowledged() -> None:
    with ScriptedBroker(acknowledging()) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        publication = publisher.publish("topic", b"payload", 60)
        publisher.wait(publication)
        assert publisher.is_answered(publication)
        assert publisher.is_acknowledged(publication)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (b"\x10", NoSubscriberError, "has no subscriber for topic"),
        (b"\x87", RefusedMessageError, "refuses the message: Not authorized"),
        # As Mosquitto says it, against the standard.
        (b"\x95", RefusedMessageError, "refuses the message: reason code 149"),
        (b"\x97" + variable(8) + user_property(b"", _FEFF), RefusedMessageError, "Quota exceeded"),
    ],
)
def test_what_becomes_of_a_message_is_told(code: bytes, error: type[TransportError], said: str) -> None:
    with ScriptedBroker(acknowledging(code=code)) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        publication = publisher.publish("topic", b"payload", 60)
        with pytest.raises(error, match=said):
            publisher.wait(publication)
        assert not publisher.is_acknowledged(publication)
        assert len(broker.connections) == 1


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (b"\x80", "the log of the broker may say why"),
        (b"\x87", "set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (b"\x90", "let the broker admit the topic, which is the name of a device"),
        (b"\x95", "send shorter messages, or let the broker take larger packets"),
        (b"\x97", "wait until the broker has delivered what it holds, or raise its quota"),
    ],
)
def test_a_refused_message_has_the_hint_of_its_reason(code: bytes, hint: str) -> None:
    with (
        ScriptedBroker(acknowledging(code=code)) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(RefusedMessageError) as told,
    ):
        send(publisher)
    assert told.value.hint == hint


def refusing(answer: bytes, *, by_reset: bool = False) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.accept(answer)
        if by_reset:
            peer.reset()

    return script


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (refusing(b""), "the broker closed the connection"),
        (refusing(b"", by_reset=True), "Connection reset by peer"),
        (refusing(packet(0x20, b"\0\x87\0")), "Not authorized"),
        (refusing(packet(0x20, b"\0\x86\0")), "Bad user name or password"),
        (refusing(packet(0x20, b"\0\1")), "Unsupported protocol version"),
        (refusing(packet(0x20, b"\0\4")), "Bad user name or password"),
        # A TLS alert, as a server writes it to who does not speak TLS.
        (refusing(b"\x15\x03\x03\0\x02\x02\x46"), "does it expect MQTT_TLS=on?"),
        (refusing(b"\x20" + variable(200_000_000)), "a packet of type 2 has 200000000 bytes"),
    ],
)
def test_what_ends_a_connection_before_it_is_accepted_is_told_at_once(
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
        (packet(0xE0, b"\x9c\0"), "set MQTT_HOST to the server that takes its place"),
        (packet(0xE0, b"\x9f\0"), "connect less often"),
    ],
    ids=["version", "login", "another server", "rate"],
)
def test_a_refused_connection_has_the_hint_of_its_reason(answer: bytes, hint: str) -> None:
    with ScriptedBroker(refusing(answer)) as broker, pytest.raises(TransportError) as told:
        Publisher(broker.address, TIMEOUT).__enter__()
    assert told.value.hint == hint


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_connection_that_ends_without_a_reason_has_the_hint_of_silence(answer: bytes) -> None:
    with ScriptedBroker(refusing(answer)) as broker, pytest.raises(TransportError) as told:
        Publisher(broker.address, TIMEOUT).__enter__()
    assert "does that port expect TLS (MQTT_TLS=on)" in told.value.hint


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0x8B, "Server shutting down; the connection is made again by itself once the broker is back"),
        (0x8D, "Keep alive timeout; check the network between this device and the broker"),
        (0x93, "Receive maximum exceeded; the log of the broker may say why"),
        (0x97, "Quota exceeded; wait until the broker has delivered what it holds, or raise its quota"),
    ],
)
def test_a_lost_connection_is_told_of_with_the_hint_of_its_reason(
    code: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.send(packet(0xE0, bytes([code, 0])))

    with ScriptedBroker(first, acknowledging()) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        send(publisher)
    assert caplog.messages == [f"The connection to the broker {broker.address} is lost: {said}"]


def test_a_message_that_is_not_acknowledged_tells_why_the_connection_was_lost() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.send(packet(0xE0, b"\x97\0"))

    with (
        ScriptedBroker(script) as broker,
        Publisher(broker.address, 0.4) as publisher,
        pytest.raises(TransportError, match="Quota exceeded; wait until the broker has delivered what it holds"),
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
def test_no_error_of_a_codec_crosses_the_transport(host: str) -> None:
    with (
        pytest.raises(TransportError, match="cannot be reached"),
        Publisher(Broker(host, 1883, MqttVersion.V5), TIMEOUT),
    ):
        pytest.fail("not accepted")


def test_a_broker_without_qos_1_is_told_of_at_once() -> None:
    started = time.monotonic()
    with (
        ScriptedBroker(acknowledging(b"\x24\0")) as broker,
        pytest.raises(TransportError, match="takes no QoS 1, and so acknowledges nothing; nothing was delivered"),
        Publisher(broker.address, TIMEOUT),
    ):
        pytest.fail("not accepted")
    assert time.monotonic() - started < _AT_ONCE


def test_a_broker_that_loses_its_qos_1_fails_what_waits() -> None:
    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)

    with (
        ScriptedBroker(first, acknowledging(b"\x24\0")) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
    ):
        publication = publisher.publish("topic", b"payload", 60)
        with pytest.raises(TransportError, match="takes no QoS 1"):
            publisher.wait(publication)
        with pytest.raises(TransportError, match="takes no QoS 1"):
            publisher.publish("topic", b"payload", 60)


def test_what_is_unacknowledged_stays_within_the_window_of_each_connection() -> None:
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


def test_a_broker_may_take_hardly_anything() -> None:
    with (
        ScriptedBroker(acknowledging(b"\x27\0\0\0\1")) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
    ):
        with pytest.raises(MessageError, match="is 1"):
            publisher.publish("topic", b"", 60)
        with pytest.raises(TransportError, match="too few for a subscription to topic; use another broker"):
            publisher.listen("topic", lambda _: None)


def test_what_mqtt_cannot_carry_is_too_large_for_every_broker() -> None:
    with ScriptedBroker(acknowledging()) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        with pytest.raises(MessageError, match="is 268435460"):
            publisher.publish("topic", bytes(268_435_455), 60)
        send(publisher)


def test_a_session_that_breaks_at_each_message_is_tried_ever_less_often_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def script(peer: Peer) -> None:
        peer.accept(CONNACK_311)
        peer.expect(0x30)

    with (
        ScriptedBroker(script, version=MqttVersion.V311) as broker,
        Publisher(broker.address, 6) as publisher,
        pytest.raises(TransportError, match="ended the connection each time instead: does it take QoS 1"),
    ):
        send(publisher)
    assert 3 <= len(broker.connections) <= 6
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"The connection to the broker {broker.address} is lost: the broker closed the connection"]


def test_who_listens_is_disturbed_by_no_packet() -> None:
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
        (b"\x87", "Not authorized", "set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (b"\x8f", "Topic filter invalid", "let the broker admit the topic, which is the name of a device"),
        (b"\x97", "Quota exceeded", "wait until the broker has delivered what it holds, or raise its quota"),
    ],
)
def test_a_refused_subscription_is_told_of_with_the_hint_of_its_reason(code: bytes, reason: str, hint: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.grant(b"\0" + code)
        peer.wait_for_end()

    with (
        ScriptedBroker(script) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(TransportError, match=f"did not accept a subscription to topic: {reason}") as told,
    ):
        publisher.listen("topic", lambda _: None)
    assert told.value.hint == hint


def test_with_mqtt_3_1_1_a_refused_subscription_has_a_hint_too() -> None:
    def script(peer: Peer) -> None:
        peer.accept(CONNACK_311)
        peer.grant(b"\x80")
        peer.wait_for_end()

    with (
        ScriptedBroker(script, lambda peer: peer.accept(CONNACK_311), version=MqttVersion.V311) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(TransportError, match="Unspecified error; the log of the broker may say why"),
    ):
        publisher.listen("topic", lambda _: None)


def test_a_subscription_without_an_answer_is_told_of_with_the_reason_of_the_lost_connection() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x80)
        peer.send(packet(0xE0, b"\x87\0"))

    with (
        ScriptedBroker(script) as broker,
        Publisher(broker.address, 0.4) as publisher,
        pytest.raises(TransportError, match=r"no answer within 0\.4 s: The connection .* is lost: Not authorized; set"),
    ):
        publisher.listen("topic", lambda _: None)


def test_leaving_takes_no_time_while_nobody_can_be_reached() -> None:
    with ScriptedBroker(lambda peer: peer.accept(connack(b""))) as broker:
        publisher = Publisher(broker.address, TIMEOUT)
        publisher.__enter__()
        wait_until(lambda: len(broker.connections) >= 1, "no connection")
        started = time.monotonic()
        publisher.__exit__()
        assert time.monotonic() - started < _AT_ONCE
        wait_until(
            lambda: not any(thread.name == "Publisher" for thread in threading.enumerate()), "the thread goes on"
        )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (packet(0x20, b"\1\0\0"), "a session that we have not begun"),
        (connack(b"\x12" + text(b"alice")), "another client id than ours"),
    ],
)
def test_a_session_of_another_program_is_left_with_what_waits_in_it(answer: bytes, said: str) -> None:
    after: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept(answer + publish_packet("topic", b"for another", 1, 1))
        while (said := peer.read())[0]:
            after.append(said)

    with ScriptedBroker(script) as broker, pytest.raises(TransportError, match=said) as told:
        Publisher(broker.address, TIMEOUT).__enter__()
    assert "the broker uses the user name as the client id" in told.value.hint
    wait_until(lambda: bool(after), "it does not say that it leaves")
    # DISCONNECT without a Session Expiry Interval, and no PUBACK.
    assert {header for header, _ in after} == {0xE0}
    assert all(b"\x11" not in body for _, body in after)


def test_it_does_not_begin_by_ending_a_session_and_ends_its_own() -> None:
    said: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        said.append(peer.read())
        peer.send(connack(b""))
        said.append(peer.read())

    with ScriptedBroker(script) as broker:
        with Publisher(replace(broker.address, session_expiry=600), TIMEOUT):
            pass
        wait_until(lambda: len(said) == 2, "no DISCONNECT")
    (_, connect), (kind, disconnect) = said
    clean_start = 0x02
    assert not connect[7] & clean_start
    assert b"\x11" + (600).to_bytes(4) in connect
    assert (kind, disconnect) == (0xE0, b"\0\x05\x11\0\0\0\0")


def test_with_mqtt_3_1_1_a_second_connection_ends_its_session() -> None:
    said: list[bytes] = []

    def script(peer: Peer) -> None:
        said.append(peer.expect(0x10))
        peer.send(CONNACK_311)
        peer.wait_for_end()

    with ScriptedBroker(script, version=MqttVersion.V311) as broker:
        with Publisher(broker.address, TIMEOUT):
            pass
        wait_until(lambda: len(said) == 2, "no second connection")
    first, second = said
    clean_session = 0x02
    assert not first[7] & clean_session
    assert second[7] & clean_session
    assert first[10:] == second[10:], "the same client id"


def test_its_own_session_is_continued_after_a_reconnect() -> None:
    def first(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)

    def second(peer: Peer) -> None:
        peer.accept(packet(0x20, b"\1\0\0"))
        peer.send(packet(0x40, packet_id_of(peer.expect(0x30))))
        peer.wait_for_end()

    with ScriptedBroker(first, second) as broker, Publisher(broker.address, TIMEOUT) as publisher:
        send(publisher)
