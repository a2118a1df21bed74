"""The subscriber with a broker that sends what the test prescribes."""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from idlib.errors import Reason
from idlib.settings import MqttVersion
from idlib.transport import Broker, Delivery, Subscription
from idlib.transport import subscription as module
from idlib.transport.hints import hint_for_silence
from idlib.transport.subscription import SessionMemory
from testbed.raw_mqtt import packet, publish_packet, text, user_property, variable
from testbed.scripted_broker import (
    CONNACK,
    CONNACK_311,
    LOOPBACK,
    Peer,
    ScriptedBroker,
    connack,
    wait_until,
)

MAX_MESSAGE = 1000
_FEFF = "\ufeff".encode()
# The length of its topic exceeds the packet.
UNREADABLE = packet(0x32, b"\xff\xff?")


@dataclass
class Running:
    subscription: Subscription
    delivered: list[Delivery]

    def settle_all(self) -> None:
        for delivery in self.delivered:
            self.subscription.settle(delivery.packet)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORTEST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LONGEST_BACKOFF_SECONDS", 0.05)


@contextlib.contextmanager
def running(address: Broker, memory: SessionMemory | None = None) -> Iterator[Running]:
    delivered: list[Delivery] = []
    run = Running(Subscription(address, "client", "topic", 600, MAX_MESSAGE, delivered.append, memory), delivered)
    stopping = threading.Event()
    thread = threading.Thread(target=run.subscription.run, args=(stopping,), daemon=True)
    thread.start()
    try:
        yield run
    finally:
        stopping.set()
        run.subscription.wake()
        thread.join(10)
        assert not thread.is_alive()


def saying(*packets: bytes, version: MqttVersion = MqttVersion.V5) -> Callable[[Peer], None]:
    """Return a script that accepts a subscription and sends packets."""

    def script(peer: Peer) -> None:
        peer.accept(CONNACK if version is MqttVersion.V5 else CONNACK_311)
        peer.grant(b"\0\1" if version is MqttVersion.V5 else b"\1")
        for each in packets:
            peer.send(each)
        peer.wait_for_end()

    return script


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
            run.subscription.settle(delivery.packet)
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


def test_a_connection_that_only_ends_skips_no_message_and_health_reports_the_lack_of_progress() -> None:
    mended = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.send(publish_packet("topic", b"good", 1, 1))
        if mended.is_set():
            peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: stalled(run) != "", "no reason")
        assert "connections to the broker" in stalled(run)
        assert {delivery.payload for delivery in run.delivered} == {b"good"}
        assert not [delivery for delivery in run.delivered if delivery.refusal]
        mended.set()
        seen = len(broker.connections)
        wait_until(lambda: len(broker.connections) > seen and run.subscription.is_active, "no subscription")

        def goes_on() -> bool:
            run.settle_all()
            return stalled(run) == ""

        wait_until(goes_on, "still stalled")


def stalled(run: Running) -> str:
    return run.subscription.stalled_reason or ""


def test_an_unreachable_broker_is_not_a_lack_of_progress() -> None:
    with ScriptedBroker(lambda peer: peer.accept()) as broker, running(broker.address) as run:
        wait_until(lambda: len(broker.connections) > 6, "no connections")
        assert run.subscription.stalled_reason is None
        assert run.subscription.problem is not None


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (packet(0x20, b"\0\x87\0"), "refuses the connection: Not authorized"),
        (
            packet(0x20, b"\0\x87" + variable(8) + b"\x1f" + text(b"\xef\xbb\xbf?\0")),
            "refuses the connection: Not auth",
        ),
        (packet(0x20, b"\0\x5a\0"), "refuses the connection: reason code 90"),
        (packet(0x20, b"\0\1"), "refuses the connection: Unsupported protocol version"),
        (packet(0x20, b"\0\5"), "refuses the connection: Not authorized"),
        (packet(0x20, b"\0"), "did not accept the connection: a CONNACK has the wrong size"),
        (b"\x20" + variable(100_000_000), "did not accept the connection: a packet of type 2 has 100000000 bytes"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "did not accept the connection: no packet of a broker begins with the byte 0x48",
        ),
        (packet(0xE0, b"\x8b"), "did not accept the connection: Server shutting down"),
        (b"", "did not accept the connection: the broker closed the connection"),
        (CONNACK + CONNACK, "is lost: a packet of type 2 came out of order"),
        (CONNACK + packet(0xF0, b""), "is lost: no packet of a broker begins with the byte 0xf0"),
        (CONNACK + b"\x90" + variable(268_435_455), "is lost: a packet of type 9 has 268435455 bytes"),
        (connack(b"\x27\0\0\0\x0d"), "takes packets of at most 13 bytes, too few for our subscription"),
    ],
)
def test_the_reason_of_a_lost_connection_is_logged(answer: bytes, cause: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept(answer)
        if answer:
            peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: cause in (run.subscription.problem or ""), f"it says {run.subscription.problem}")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (packet(0x20, b"\0\x84\0"), "refuses the connection: Unsupported protocol version; set MQTT_VERSION=3.1.1"),
        (packet(0x20, b"\0\x5a\0"), "refuses the connection: reason code 90"),
        (packet(0xE0, b"\x9f\0"), "did not accept the connection: Connection rate exceeded; connect less often"),
        (CONNACK + packet(0xE0, b"\x8d\0"), "is lost: Keep alive timeout; check the network between this device"),
        (CONNACK + packet(0xE0, b"\x93\0"), "is lost: Receive maximum exceeded; check the broker's log"),
        (CONNACK + packet(0xE0, b"\x97\0"), "is lost: Quota exceeded; wait until the broker has delivered"),
        (CONNACK + packet(0xE0, b"\x98\0"), "is lost: Administrative action; ask the operator of the broker"),
        (
            CONNACK + packet(0xE0, b"\x8e\0"),
            "was taken over; another client uses the same client id: is a copy of DATA_PATH in",
        ),
    ],
)
def test_the_reason_of_a_lost_connection_has_its_hint(answer: bytes, said: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept(answer)
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: said in (run.subscription.problem or ""), f"it says {run.subscription.problem}")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (b"\x80", "Unspecified error; check the broker's log"),
        (b"\x87", "Not authorized; set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (b"\x8f", "Topic filter invalid; configure the broker to allow the topic, which is a device's name"),
        (b"\x97", "Quota exceeded; wait until the broker has delivered its queued messages, or raise its quota"),
    ],
)
def test_a_refused_subscription_has_the_hint_of_its_reason(code: bytes, said: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant(b"\0" + code)
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: "subscription" in (run.subscription.problem or ""), "it says nothing")
        assert run.subscription.problem == f"The broker {broker.address} refuses the subscription: {said}"


@pytest.mark.parametrize(
    ("answer", "by_reset", "fact"),
    [
        (b"", False, "the broker closed the connection"),
        (b"", True, str(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "no packet of a broker begins with the byte 0x48"),
    ],
    ids=["end", "reset", "HTTP"],
)
def test_a_server_of_another_protocol_did_not_accept_the_connection(answer: bytes, by_reset: bool, fact: str) -> None:  # noqa: FBT001
    def script(peer: Peer) -> None:
        peer.accept(answer)
        if by_reset:
            peer.reset()
        elif answer:
            peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        said = f"The broker {broker.address} did not accept the connection: {fact}; {hint_for_silence(broker.address)}"
        wait_until(lambda: run.subscription.problem == said, f"it says {run.subscription.problem}")


def test_the_hint_for_a_broker_that_never_accepts_mentions_other_expectations() -> None:
    ends = threading.Event()

    def script(peer: Peer) -> None:
        if ends.is_set():
            peer.accept(b"")
            return
        peer.accept()
        peer.grant()
        ends.wait(10)

    with ScriptedBroker(lambda peer: peer.accept(b"")) as broker, running(broker.address) as run:
        wait_until(lambda: "if the port expects TLS, set MQTT_TLS=on" in (run.subscription.problem or ""), "no hint")
    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: run.subscription.is_active, "no subscription")
        ends.set()
        wait_until(lambda: len(broker.connections) > 2, "no new connections")
        assert (
            run.subscription.problem
            == f"The broker {broker.address} did not accept the connection: the broker closed the connection"
        )


@pytest.mark.parametrize(("accepts", "hint"), [(False, "; check MQTT_HOST, MQTT_PORT and MQTT_VERSION"), (True, "")])
def test_a_silent_broker_is_reported(
    accepts: bool,  # noqa: FBT001
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.1)

    def script(peer: Peer) -> None:
        peer.accept(CONNACK if accepts else b"")
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        silence = f"The broker {broker.address} does not answer{hint}"
        wait_until(lambda: (run.subscription.problem or "").startswith(silence), "no reason")
        assert hint or run.subscription.problem == silence


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


def test_a_lost_session_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()

    with ScriptedBroker(script) as broker, running(broker.address):
        wait_until(lambda: len(broker.connections) > 2, "no connections")
    assert "has lost the session" in caplog.text


def test_a_host_that_no_codec_can_encode_does_not_end_the_receiver() -> None:
    with running(Broker("broker..example.test", 1883, MqttVersion.V5)) as run:
        wait_until(lambda: "cannot be reached" in (run.subscription.problem or ""), "no reason")


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


class Notes:
    """What is stored across restarts."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text

    def recall(self) -> str | None:
        return self.text

    def note(self, text: str) -> None:
        self.text = text


UNKNOWN = "has a session that this receiver did not record"


@pytest.mark.parametrize(
    ("ago", "expiry", "where", "present", "level"),
    [
        (500, "600", None, 0, logging.WARNING),
        (500, "600", None, 1, None),
        (700, "600", None, 0, logging.INFO),
        (500, "600", "elsewhere:1883", 0, None),
        (10**8, str(0xFFFFFFFF), None, 0, logging.WARNING),
        (10**8, "-", None, 0, logging.WARNING),
        (0, "nonsense", None, 0, None),
    ],
)
def test_the_lost_session_of_an_earlier_run_is_reported(
    ago: int, expiry: str, where: str | None, present: int, level: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def script(peer: Peer) -> None:
        peer.accept(packet(0x20, bytes([present, 0, 0])))
        peer.grant()
        peer.wait_for_end()

    with ScriptedBroker(script) as broker:
        notes = Notes(f"{int(time.time()) - ago} {expiry} {where or broker.address}")
        subscription = Subscription(broker.address, "client", "topic", 600, MAX_MESSAGE, lambda _: None, notes)
        stopping = threading.Event()
        thread = threading.Thread(target=subscription.run, args=(stopping,), daemon=True)
        thread.start()
        wait_until(lambda: subscription.is_active, "no subscription")
        stopping.set()
        subscription.wake()
        thread.join(10)
        assert notes.text is not None
        assert notes.text.endswith(f" 600 {broker.address}")
        assert int(notes.text.split()[0]) > time.time() - 60
    levels = [record.levelno for record in caplog.records if "may be lost" in record.getMessage()]
    assert levels == ([] if level is None else [level])


@pytest.mark.parametrize(
    ("noted", "times"),
    [
        (None, 1),
        ("{now} 600 {address}", 0),
        ("{now} - {address}", 0),
        # The recorded session has expired, so this is another one; the recorded time may be a minute too early.
        ("{expired} 600 {address}", 1),
        ("{just_expired} 600 {address}", 0),
        # Perhaps the same broker under another name.
        ("{now} 600 elsewhere:1883", 0),
    ],
)
def test_a_present_session_that_was_not_recorded_is_reported_once(
    noted: str | None, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    def script(peer: Peer) -> None:
        peer.accept(packet(0x20, b"\1\0\0"))
        peer.grant()

    now = int(time.time())
    with ScriptedBroker(script) as broker:
        facts = {"now": now, "expired": now - 700, "just_expired": now - 630, "address": broker.address}
        notes = Notes(noted and noted.format(**facts))
        with running(broker.address, notes):
            wait_until(lambda: len(broker.connections) > 2, "no connections")
    assert caplog.text.count(UNKNOWN) == times
    assert "has lost the session" not in caplog.text


def test_it_ends_at_once_although_nothing_arrives() -> None:
    with ScriptedBroker(saying()) as broker:
        with running(broker.address) as run:
            wait_until(lambda: run.subscription.is_active, "no subscription")
            started = time.monotonic()
        assert time.monotonic() - started < module._LOOP_SECONDS / 2


def test_a_session_with_a_refused_subscription_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    sessions = 0

    def script(peer: Peer) -> None:
        nonlocal sessions
        peer.accept(packet(0x20, bytes([sessions > 0, 0, 0])))
        sessions += 1
        peer.grant(b"\0\x87")
        peer.wait_for_end()

    notes = Notes()
    for _ in range(2):
        with ScriptedBroker(script) as broker:
            if notes.text is not None:
                notes.text = f"{int(time.time())} 600 {broker.address}"
            with running(broker.address, notes):
                wait_until(lambda: len(broker.connections) > 1, "no connections")
    assert notes.text is not None
    assert UNKNOWN not in caplog.text
