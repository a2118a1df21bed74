"""Which sessions the publisher continues and ends, and in which it acknowledges messages."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from idlib.errors import TransportError
from idlib.settings import MqttVersion
from idlib.transport import Publisher
from idlib.transport import publisher as module
from idlib.transport.inquiry import Inquiry
from testbed.raw_mqtt import packet, publish_packet, text
from testbed.scripted_broker import (
    CONNACK_311,
    Peer,
    ScriptedBroker,
    connack,
    is_clean,
    no_session_311,
    wait_until,
)
from tests.idlib.transport.publishing import _AT_ONCE, TIMEOUT, packet_id_of, send


def test_the_publisher_ends_at_once_while_the_broker_is_unreachable() -> None:
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
        (packet(0x20, b"\1\0\0"), "a session that is not ours"),
        (connack(b"\x12" + text(b"alice")), "a client id other than ours"),
    ],
)
def test_a_session_of_another_program_keeps_its_queued_messages(answer: bytes, said: str) -> None:
    after: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept(answer + publish_packet("topic", b"for another", 1, 1))
        while (said := peer.read())[0]:
            after.append(said)

    with ScriptedBroker(script) as broker, pytest.raises(TransportError, match=said) as raised:
        Publisher(broker.address, TIMEOUT).__enter__()
    assert "the broker uses the user name as the client id" in raised.value.hint
    wait_until(lambda: bool(after), "no DISCONNECT")
    # DISCONNECT without a Session Expiry Interval, and no PUBACK.
    assert {header for header, _ in after} == {0xE0}
    assert all(b"\x11" not in body for _, body in after)


def test_the_publisher_ends_only_its_own_session() -> None:
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


PRESENT = packet(0x20, b"\1\0\0")

FOR_ANOTHER = publish_packet("topic", b"for another", 1, 1)

LEAVES = (0xE0, b"")

ENDS = (0xE0, b"\0\x05\x11\0\0\0\0")


class Recorded:
    """Scripts that record what the client sends, separately for each connection."""

    def __init__(self) -> None:
        self.said: list[list[tuple[int, bytes]]] = []

    def serving(
        self, answer: bytes, brings: bytes = b"", *, version: MqttVersion = MqttVersion.V5
    ) -> Callable[[Peer], None]:
        """Return a script that answers every packet.

        Args:
            answer: The answer to CONNECT.
            brings: What it sends after it has confirmed a subscription.
            version: The version of MQTT.
        """
        code = b"\0\1" if version is MqttVersion.V5 else b"\1"

        def run(peer: Peer) -> None:
            said: list[tuple[int, bytes]] = []
            self.said.append(said)
            while (read := peer.read())[0]:
                said.append(read)
                header, body = read
                if header == 0x10:
                    peer.send(answer)
                elif header & 0xF0 == 0x80:
                    peer.send(packet(0x90, body[:2] + code) + brings)
                elif header & 0xF0 == 0x30:
                    peer.send(packet(0x40, packet_id_of(body)))

        return run

    def kinds(self, number: int) -> list[int]:
        """Return the types of the packets of a connection, counted from 0."""
        return [header & 0xF0 for header, _ in self.said[number]]

    def is_left(self, number: int, *, ends: bool) -> bool:
        """Return whether a connection ends with a DISCONNECT that ends the session, or keeps it."""
        said = self.said[number]
        return len(said) > 1 and said[-1] == (ENDS if ends else LEAVES)

    def connect(self, number: int) -> bytes:
        """Return the CONNECT of a connection."""
        header, body = self.said[number][0]
        assert header == 0x10
        return body

    def client_id(self, number: int) -> bytes:
        """Return the client id of a connection, which is the last field of CONNECT here."""
        return self.connect(number)[-32:]


def breaking(peer: Peer) -> None:
    """Confirm a subscription and break the connection at a message."""
    peer.accept(connack(b""))
    peer.grant()
    peer.expect(0x30)


def test_with_mqtt_3_1_1_the_second_connection_uses_a_clean_session() -> None:
    recorded = Recorded()
    script = recorded.serving(CONNACK_311, version=MqttVersion.V311)
    with ScriptedBroker(script, version=MqttVersion.V311) as broker:
        with Publisher(broker.address, TIMEOUT) as publisher:
            send(publisher)
        wait_until(lambda: len(recorded.said) == 2 and recorded.is_left(1, ends=False), "no DISCONNECT")
    assert not is_clean(recorded.connect(0))
    assert is_clean(recorded.connect(1))
    assert recorded.client_id(0) == recorded.client_id(1)
    assert recorded.kinds(0) == [0x10, 0xE0]
    assert recorded.kinds(1) == [0x10, 0x30, 0xE0]


@pytest.mark.parametrize("scripts", [[], [no_session_311, lambda peer: peer.accept(CONNACK_311)]])
def test_with_mqtt_3_1_1_the_session_of_another_program_is_not_ended(
    scripts: list[Callable[[Peer], None]],
) -> None:
    recorded = Recorded()
    present = recorded.serving(packet(0x20, b"\1\0") + publish_packet("topic", b"for another", 1, 1, None))
    scripts = [*scripts, present]
    with ScriptedBroker(*scripts, version=MqttVersion.V311) as broker:
        with pytest.raises(TransportError, match="a session that is not ours") as raised:
            publish_until_it_fails(Publisher(broker.address, TIMEOUT))
        wait_until(lambda: recorded.is_left(0, ends=False), "no DISCONNECT")
        assert len(broker.connections) == len(scripts)
    assert "the broker uses the user name as the client id" in raised.value.hint
    assert not is_clean(recorded.connect(0))
    assert recorded.kinds(0) == [0x10, 0xE0]


def publish_until_it_fails(publisher: Publisher) -> None:
    with publisher:
        for _ in range(500):
            publisher.publish("topic", b"payload", 60)
            time.sleep(0.02)


def test_with_mqtt_3_1_1_a_session_that_is_taken_over_before_the_clean_one_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Inquiry, "is_connected", lambda _: False)
    recorded = Recorded()
    with ScriptedBroker(recorded.serving(CONNACK_311), version=MqttVersion.V311) as broker:
        with pytest.raises(TransportError, match="did not accept the connection"):
            Publisher(broker.address, TIMEOUT).__enter__()
        wait_until(lambda: len(recorded.said) == 2 and recorded.is_left(0, ends=False), "not left")
    assert not recorded.said[1], "a CONNECT was sent"


def test_with_mqtt_3_1_1_a_session_created_while_the_publisher_ends_is_ended() -> None:
    recorded, asked, leaves = Recorded(), threading.Event(), threading.Event()

    def slow(peer: Peer) -> None:
        assert not is_clean(peer.expect(0x10))
        asked.set()
        leaves.wait(TIMEOUT)
        peer.send(CONNACK_311)
        peer.wait_for_end()

    scripts = [no_session_311, lambda peer: peer.accept(CONNACK_311), slow, recorded.serving(CONNACK_311)]
    with ScriptedBroker(*scripts, version=MqttVersion.V311) as broker:
        with Publisher(broker.address, TIMEOUT):
            asked.wait(TIMEOUT)
            threading.Timer(0.2, leaves.set).start()
        wait_until(lambda: bool(recorded.said) and recorded.is_left(0, ends=False), "not ended")
    assert is_clean(recorded.connect(0))


def test_an_inquiry_notices_that_its_connection_has_ended() -> None:
    ends = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept(CONNACK_311)
        ends.wait(TIMEOUT)

    with (
        ScriptedBroker(script, version=MqttVersion.V311) as broker,
        Inquiry(broker.address, "client", TIMEOUT) as inquiry,
    ):
        assert inquiry.ask() is False
        assert inquiry.is_connected()
        ends.set()
        wait_until(lambda: not inquiry.is_connected(), "still connected")


def test_the_publishers_own_session_is_continued_after_a_reconnect() -> None:
    recorded, heard = Recorded(), list[bytes]()
    scripts = [
        breaking,
        recorded.serving(PRESENT, publish_packet("own", b"mine", 1, 1)),
        recorded.serving(connack(b"")),
    ]
    with ScriptedBroker(*scripts) as broker:
        with Publisher(broker.address, TIMEOUT) as publisher:
            publisher.listen("own", heard.append)
            send(publisher)
            wait_until(lambda: 0x40 in recorded.kinds(0), "no PUBACK")
        wait_until(lambda: recorded.is_left(0, ends=True), "it does not end its session")
        # There is no session for another client id, so the session for our client id is ours.
        wait_until(lambda: recorded.is_left(1, ends=True), "it does not end the other session")
        assert len(broker.connections) == 3
    assert heard == [b"mine"]
    assert recorded.client_id(0) != recorded.client_id(1)
    assert not is_clean(recorded.connect(1))


def test_the_broker_is_checked_once_for_separate_sessions() -> None:
    recorded = Recorded()

    def broken(peer: Peer) -> None:
        peer.accept(PRESENT)
        peer.grant()
        peer.expect(0x30)

    scripts = [breaking, broken, recorded.serving(connack(b"")), recorded.serving(PRESENT)]
    with ScriptedBroker(*scripts) as broker:
        with Publisher(broker.address, TIMEOUT) as publisher:
            publisher.listen("own", lambda _: None)
            send(publisher)
        wait_until(lambda: recorded.is_left(1, ends=True), "it does not end its session")
        assert len(broker.connections) == 4


def test_a_session_that_does_not_depend_on_the_client_id_is_left_unchanged() -> None:
    recorded = Recorded()
    scripts = [breaking, *[recorded.serving(PRESENT + publish_packet("own", b"for another", 1, 1))] * 2]
    with ScriptedBroker(*scripts) as broker:
        with Publisher(broker.address, TIMEOUT) as publisher:
            publisher.listen("own", lambda _: pytest.fail("heard"))
            with pytest.raises(TransportError, match="a session that is not ours") as raised:
                send(publisher)
            with pytest.raises(TransportError, match="a session that is not ours"):
                publisher.publish("topic", b"payload", 60)
        wait_until(lambda: all(recorded.is_left(number, ends=False) for number in range(2)), "not left")
        assert len(broker.connections) == 3
    assert (
        "messages that it has not acknowledged may or may not be delivered, and that session was left unchanged"
        in str(raised.value)
    )
    assert "the broker uses the user name as the client id" in raised.value.hint
    assert [recorded.kinds(number) for number in range(2)] == [[0x10, 0xE0]] * 2


def test_messages_in_a_session_of_unknown_origin_are_read_and_not_acknowledged() -> None:
    recorded, heard = Recorded(), list[bytes]()

    def refusing_others(peer: Peer) -> None:
        peer.accept(packet(0x20, b"\0\x85\0"))

    scripts = [
        breaking,
        recorded.serving(PRESENT, publish_packet("own", b"whose?", 1, 1)),
        refusing_others,
        recorded.serving(PRESENT),
        refusing_others,
    ]
    with ScriptedBroker(*scripts) as broker:
        with Publisher(broker.address, TIMEOUT) as publisher:
            publisher.listen("own", heard.append)
            send(publisher)
            wait_until(lambda: bool(heard), "not heard")
        wait_until(lambda: all(recorded.is_left(number, ends=False) for number in range(2)), "not left")
        assert len(broker.connections) == 5
    assert recorded.kinds(0) == [0x10, 0x80, 0x30, 0xE0]
    assert recorded.kinds(1) == [0x10, 0xE0]


@pytest.mark.parametrize(
    ("answer", "brings"),
    [(connack(b"") + FOR_ANOTHER, b""), (connack(b""), FOR_ANOTHER)],
    ids=["at once", "later"],
)
def test_a_message_without_a_subscription_shows_the_session_of_another_program(answer: bytes, brings: bytes) -> None:
    recorded = Recorded()
    with ScriptedBroker(recorded.serving(answer, brings)) as broker:
        with pytest.raises(TransportError, match="messages of a session that is not ours") as raised:
            listen_until_it_fails(Publisher(broker.address, TIMEOUT))
        wait_until(lambda: recorded.is_left(0, ends=False), "not left")
        assert len(broker.connections) == 1
    assert "the broker uses the user name as the client id" in raised.value.hint
    assert 0x40 not in recorded.kinds(0)


def listen_until_it_fails(publisher: Publisher) -> None:
    with publisher:
        publisher.listen("own", lambda _: pytest.fail("heard"))
        for _ in range(500):
            send(publisher)
            time.sleep(0.02)


def test_a_session_that_was_taken_over_is_not_taken_back() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b""))
        peer.expect(0x30)
        peer.send(packet(0xE0, b"\x8e\0"))

    with (
        ScriptedBroker(script) as broker,
        Publisher(broker.address, TIMEOUT) as publisher,
        pytest.raises(TransportError, match=r"has given our session to another client; .* left unchanged") as raised,
    ):
        send(publisher)
    time.sleep(1.5)
    assert len(broker.connections) == 1
    assert "the broker uses the user name as the client id" in raised.value.hint


@pytest.mark.parametrize(
    ("answer", "answer_to_another", "last"),
    [(connack(b""), None, ENDS), (PRESENT, connack(b""), ENDS), (PRESENT, PRESENT, LEAVES), (PRESENT, b"", LEAVES)],
    ids=["new", "ours", "another's", "unknown"],
)
def test_our_session_is_ended_after_a_lost_connection(
    answer: bytes, answer_to_another: bytes | None, last: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORTEST_RECONNECT_SECONDS", TIMEOUT)
    recorded = Recorded()
    scripts = [lambda peer: peer.accept(connack(b"")), recorded.serving(answer)]
    if answer_to_another is not None:
        scripts.append(recorded.serving(answer_to_another))
    with ScriptedBroker(*scripts) as broker:
        with Publisher(replace(broker.address, session_expiry=600), TIMEOUT) as publisher:
            wait_until(lambda: not publisher._is_connected, "still connected")
            started = time.monotonic()
        assert time.monotonic() - started < _AT_ONCE
        wait_until(
            lambda: len(broker.connections) == len(scripts) and recorded.is_left(0, ends=last == ENDS), "not left"
        )
    assert not is_clean(recorded.connect(0))


@pytest.mark.parametrize("version", list(MqttVersion))
def test_no_packet_of_another_program_is_dropped_because_of_its_size(version: MqttVersion) -> None:
    recorded = Recorded()
    script = recorded.serving(PRESENT if version is MqttVersion.V5 else packet(0x20, b"\1\0"))
    with ScriptedBroker(script, version=version) as broker, pytest.raises(TransportError):
        Publisher(broker.address, TIMEOUT).__enter__()
    # With MQTT 5: Receive Maximum and Session Expiry Interval, and no Maximum Packet Size.
    assert recorded.connect(0)[10:-34] == (b"" if version is MqttVersion.V311 else b"\x08\x11\0\0\0\0\x21\0\x14")


def test_a_session_at_a_broker_without_qos_1_is_ended() -> None:
    recorded = Recorded()
    with ScriptedBroker(recorded.serving(connack(b"\x24\0"))) as broker:
        with pytest.raises(TransportError, match="does not accept QoS 1"):
            Publisher(broker.address, TIMEOUT).__enter__()
        wait_until(lambda: recorded.is_left(0, ends=True), "not ended")
