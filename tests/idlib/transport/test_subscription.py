"""The subscriber with a broker that sends what the test prescribes."""

import logging
import threading
import time

import pytest

from idlib.errors import Reason
from idlib.settings import MqttVersion
from idlib.transport import subscription as module
from testbed.raw_mqtt import packet, publish_packet, text, user_property, variable
from testbed.scripted_broker import CONNACK, LOOPBACK, Peer, ScriptedBroker, connack, wait_until
from tests.idlib.transport.subscribing import MAX_MESSAGE, running, saying

pytestmark = pytest.mark.usefixtures("short_backoff")
_FEFF = "\ufeff".encode()
# The length of its topic exceeds the packet.
UNREADABLE = packet(0x32, b"\xff\xff?")


def test_connect_announces_the_largest_packet() -> None:
    said: list[bytes] = []

    def script(peer: Peer) -> None:
        said.append(peer.expect(0x10))
        peer.send(CONNACK)
        peer.grant()
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: run.subscription.is_active, "no subscription")
    assert b"\x27" + (MAX_MESSAGE + 65536).to_bytes(4) in said[0]


def test_acknowledgements_are_sent_in_the_order_of_receipt_despite_refusals() -> None:
    acknowledged: list[int] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.send(publish_packet("topic", b"first", 1, 1))
        peer.send(packet(0x32, text(b"topic") + b"\0\2" + b"\x7f"))
        peer.send(publish_packet("topic", bytes(100_000), 1, 3))
        peer.send(publish_packet("topic", b"last", 1, 4, user_property(_FEFF, _FEFF)))
        while len(acknowledged) < 4:
            acknowledged.append(int.from_bytes(peer.expect(0x40)[:2]))
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 4, "not all delivered")
        assert [delivery.payload for delivery in run.delivered] == [b"first", b"", b"", b"last"]
        reasons = [delivery.refusal and delivery.refusal.reason for delivery in run.delivered]
        assert reasons == [None, Reason.TRANSPORT_MALFORMED, Reason.OVERSIZED, None]
        for delivery in reversed(run.delivered):
            assert not acknowledged
            run.subscription.settle([delivery.packet])
        wait_until(lambda: len(acknowledged) == 4, "not all acknowledged")
        assert acknowledged == [1, 2, 3, 4]
        assert len(broker.connections) == 1


def test_an_oversized_packet_is_skipped_with_mqtt_3_1_1() -> None:
    script = saying(
        publish_packet("topic", bytes(5_000_000), 1, 1, None),
        publish_packet("topic", b"good", 1, 2, None),
        version=MqttVersion.V311,
    )
    with ScriptedBroker(script, version=MqttVersion.V311) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 2, "not all delivered")
        assert run.delivered[0].refusal is not None
        assert run.delivered[0].refusal.reason is Reason.OVERSIZED
        assert run.delivered[1].payload == b"good"


def test_an_unrequested_qos_2_message_is_completed() -> None:
    said: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.send(publish_packet("topic", b"twice sure", 2, 9))
        said.append(peer.read())
        peer.send(packet(0x62, b"\0\x09"))
        said.append(peer.read())
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 1, "not delivered")
        run.settle_all()
        wait_until(lambda: len(said) == 2, "no answers")
    assert said == [(0x50, b"\0\x09"), (0x70, b"\0\x09")]
    assert run.delivered[0].payload == b"twice sure"


def test_a_publish_that_cannot_be_acknowledged_ends_one_connection_and_is_then_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = saying(UNREADABLE, publish_packet("topic", b"good", 1, 2))
    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 2, "not all delivered")
        assert len(broker.connections) == 2
        assert run.delivered[0].refusal is not None
        assert run.delivered[0].refusal.reason is Reason.TRANSPORT_MALFORMED
        assert run.delivered[0].packet.qos == 0
        assert run.delivered[1].payload == b"good"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING][:1]
    assert "is lost: a PUBLISH ends before its packet identifier" in line


def test_texts_of_the_broker_are_ignored() -> None:
    texts = b"\x1f" + text(_FEFF) + user_property(_FEFF, _FEFF)

    def script(peer: Peer) -> None:
        peer.accept(connack(texts))
        peer.grant(variable(len(texts)) + texts + b"\1")
        peer.send(publish_packet("topic", b"good", 1, 1, texts))
        peer.expect(0x40)
        peer.send(packet(0xE0, b"\x8b" + variable(len(texts)) + texts))
        peer.wait_for_end()

    with ScriptedBroker(script, saying()) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 1, "not delivered")
        run.settle_all()
        wait_until(lambda: len(broker.connections) == 2 and run.subscription.is_active, "no new subscription")
        assert run.delivered[0].payload == b"good"


def test_the_keep_alive_of_the_broker_is_used() -> None:
    pinged = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept(connack(b"\x13\0\1"))
        peer.grant()
        peer.expect(0xC0)
        peer.send(packet(0xD0, b""))
        peer.expect(0xC0)
        pinged.set()
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address):
        assert pinged.wait(10)
        assert len(broker.connections) == 1


def test_a_slow_stream_of_bytes_is_waited_for() -> None:
    octets = publish_packet("topic", b"good", 1, 1)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        for octet in octets:
            peer.send(bytes([octet]))
            threading.Event().wait(0.005)
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 1, "not delivered")
        assert run.delivered[0].payload == b"good"
        assert LOOPBACK in str(broker.address)


def test_it_ends_at_once_although_nothing_arrives() -> None:
    with ScriptedBroker(saying()) as broker:
        with running(broker.address) as run:
            wait_until(lambda: run.subscription.is_active, "no subscription")
            started = time.monotonic()
        assert time.monotonic() - started < module._LOOP_SECONDS / 2
