"""Which problem of a connection the subscriber reports, with which hint, and when it reports a lack of progress."""

import errno
import os
import threading

import pytest

from idlib.settings import MqttVersion
from idlib.transport import Broker
from idlib.transport import subscription as module
from idlib.transport.hints import hint_for_silence
from testbed.raw_mqtt import packet, publish_packet, text, variable
from testbed.scripted_broker import CONNACK, Peer, ScriptedBroker, connack, wait_until
from tests.idlib.transport.subscribing import Running, running

pytestmark = pytest.mark.usefixtures("short_backoff")


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
        (CONNACK + packet(0xE0, b"\x93\0"), "is lost: Receive maximum exceeded; the broker allows fewer"),
        (CONNACK + packet(0xE0, b"\x97\0"), "is lost: Quota exceeded; wait until the broker has delivered"),
        (CONNACK + packet(0xE0, b"\x98\0"), "is lost: Administrative action; an operator of the broker"),
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
        (
            b"\x80",
            "Unspecified error; check this device's permissions on the broker; if it refuses dots, as NATS does, set",
        ),
        (b"\x87", "Not authorized; set MQTT_USERNAME and MQTT_PASSWORD_FILE, and allow this device at the broker"),
        (b"\x8f", "Topic filter invalid; the broker does not allow a subscription to the topic: if it refuses dots"),
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
        expected = f"The broker {broker.address} refuses the subscription: {said}"
        assert (run.subscription.problem or "").startswith(expected)


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


@pytest.mark.parametrize(("accepts", "hint"), [(False, "; check MQTT_HOST and MQTT_PORT and MQTT_VERSION"), (True, "")])
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


def test_a_host_that_no_codec_can_encode_does_not_end_the_receiver() -> None:
    with running(Broker("broker..example.test", 1883, MqttVersion.V5)) as run:
        wait_until(lambda: "cannot be reached" in (run.subscription.problem or ""), "no reason")
