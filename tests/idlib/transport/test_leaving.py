"""A receiver that leaves its group: what becomes of its session, by what a broker sees."""

import logging
import threading
from collections.abc import Callable

import pytest

from idlib.errors import TransportError
from idlib.transport import Subscription
from idlib.transport import subscription as module
from testbed.raw_mqtt import packet, publish_packet
from testbed.scripted_broker import Peer, ScriptedBroker, connack, wait_until
from tests.idlib.transport.subscribing import MAX_MESSAGE, Running, running

pytestmark = pytest.mark.usefixtures("short_backoff")
_SHARED = "$share/g/topic"
_DISCONNECT = 0xE0
# A DISCONNECT that ends the session: its properties are a session expiry of 0 (MQTT 5, section 3.14.2.2.2).
_ENDS_SESSION = b"\0\x05\x11\0\0\0\0"


@pytest.fixture(autouse=True)
def short_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.01)


def _leave(run: Running, seconds: float = 20) -> bool:
    wait_until(lambda: run.subscription.is_active, "no subscription")
    return run.subscription.leave(seconds)


def test_leaving_ends_the_subscription_and_then_the_session() -> None:
    said: list[object] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        said.append(peer.unsubscribe())
        said.append(peer.read())

    with ScriptedBroker(script) as broker, running(broker.address, topic_filter=_SHARED) as run:
        assert _leave(run)
        wait_until(lambda: len(said) == 2, "not left")
    assert said == [[_SHARED], (_DISCONNECT, _ENDS_SESSION)]
    assert len(broker.connections) == 1


def test_messages_that_the_broker_still_has_are_delivered_before_the_session_ends() -> None:
    said: list[int] = []
    unsubscribed = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.send(publish_packet("topic", b"first", 1, 1))
        peer.unsubscribe()
        unsubscribed.set()
        said.append(peer.read()[0])
        # Sent as soon as the first one is acknowledged, as a broker does with what it has queued.
        peer.send(publish_packet("topic", b"second", 1, 2))
        while (header := peer.read()[0]) & 0xF0 == 0xA0:
            peer.send(packet(0xB0, b"\0\1\0\x11"))
        said.append(header)
        peer.unsubscribe(0x11)
        said.append(peer.read()[0])

    with ScriptedBroker(script) as broker, running(broker.address) as run:
        wait_until(lambda: len(run.delivered) == 1, "not delivered")
        left = threading.Thread(target=_leave, args=(run,), daemon=True)
        left.start()
        assert unsubscribed.wait(10)
        run.subscription.settle([run.delivered[0].packet])
        wait_until(lambda: len(run.delivered) == 2, "not delivered")
        assert 0xE0 not in said
        run.subscription.settle([run.delivered[1].packet])
        wait_until(lambda: len(said) == 3, "not left")
        left.join(10)
    assert said == [0x40, 0x40, _DISCONNECT]


def test_the_session_is_kept_if_a_message_is_not_settled_in_time() -> None:
    ends: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.send(publish_packet("topic", b"slow", 1, 1))
        peer.unsubscribe()
        ends.append(peer.expect(_DISCONNECT))

    with ScriptedBroker(script) as broker:
        with running(broker.address) as run:
            wait_until(lambda: len(run.delivered) == 1, "not delivered")
            assert not _leave(run, 0.5)
        wait_until(lambda: bool(ends), "not disconnected")
    assert ends == [b""]


@pytest.mark.parametrize("code", [0x83, 0x87])
def test_the_session_is_kept_if_the_broker_does_not_end_the_subscription(code: int) -> None:
    ends: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.unsubscribe(code)
        ends.append(peer.expect(_DISCONNECT))

    with ScriptedBroker(script) as broker:
        with running(broker.address) as run:
            assert not _leave(run, 0.5)
        wait_until(lambda: bool(ends), "not disconnected")
    assert ends == [b""]


def test_leaving_goes_on_over_a_new_connection() -> None:
    said: list[int] = []

    def breaking(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.expect(0xA0)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        peer.unsubscribe()
        said.append(peer.read()[0])

    with ScriptedBroker(breaking, script) as broker, running(broker.address) as run:
        assert _leave(run)
        wait_until(lambda: bool(said), "not left")
    assert said == [_DISCONNECT]


def _unsupported(answer: Callable[[Peer], None], topic_filter: str) -> TransportError:
    """Return the error that ends a subscription at a broker that answers like this."""

    def script(peer: Peer) -> None:
        answer(peer)
        peer.wait_for_end()

    with ScriptedBroker(script) as broker:
        subscription = Subscription(broker.address, lambda: "client", topic_filter, 600, MAX_MESSAGE, lambda _: None)
        with pytest.raises(TransportError) as caught:
            subscription.run(threading.Event())
    return caught.value


def test_a_broker_without_shared_subscriptions_ends_the_receiver_with_a_hint() -> None:
    def refuse(peer: Peer) -> None:
        peer.accept()
        peer.grant(b"\0\x9e")

    for answer in (lambda peer: peer.accept(connack(b"\x2a\0")), refuse):
        error = _unsupported(answer, _SHARED)
        assert "has no shared subscriptions" in error.fact
        assert error.hint.startswith("set SUBSCRIPTION to what the broker has in place of shared subscriptions")


def test_a_broker_without_shared_subscriptions_is_good_for_another_subscription() -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b"\x2a\0"))
        peer.grant()
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address, topic_filter="$queue/topic") as run:
        wait_until(lambda: run.subscription.is_active, "no subscription")


def test_a_session_that_may_belong_to_another_receiver_is_not_connected_to_again() -> None:
    client_ids: list[str | None] = ["first."]
    connected: list[bytes] = []
    asked: list[None] = []
    lost = threading.Event()

    def client_id() -> str | None:
        if lost.is_set():
            asked.append(None)
        return client_ids[-1]

    def script(peer: Peer) -> None:
        connected.append(peer.expect(0x10)[-6:])
        peer.send(connack(b""))
        peer.grant()
        lost.wait(10)

    with ScriptedBroker(script) as broker, running(broker.address, client_id=client_id) as run:
        wait_until(lambda: run.subscription.is_active, "no subscription")
        client_ids.append(None)
        run.subscription.wake()
        assert run.subscription.is_active
        lost.set()
        wait_until(lambda: len(asked) > 2, "not asked")
        assert connected == [b"first."]
        client_ids.append("second")
        wait_until(lambda: len(connected) > 1, "not connected")
        assert set(connected[1:]) == {b"second"}


def test_a_session_that_another_receiver_has_taken_over_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    client_ids: list[str | None] = ["client"]
    lost = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()
        lost.wait(10)
        peer.send(packet(0xE0, b"\x8e"))
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address, client_id=lambda: client_ids[-1]) as run:
        wait_until(lambda: run.subscription.is_active, "no subscription")
        client_ids.append(None)
        lost.set()
        wait_until(lambda: not run.subscription.is_active, "still subscribed")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"Another receiver has taken over the session at the broker {broker.address}"]


def test_another_session_is_used_as_soon_as_there_is_one() -> None:
    client_ids = ["first."]
    connected: list[bytes] = []

    def script(peer: Peer) -> None:
        connected.append(peer.expect(0x10)[-6:])
        peer.send(connack(b""))
        peer.grant()
        peer.wait_for_end()

    with ScriptedBroker(script) as broker, running(broker.address, client_id=lambda: client_ids[-1]) as run:
        wait_until(lambda: run.subscription.is_active, "no subscription")
        client_ids.append("second")
        run.subscription.wake()
        wait_until(lambda: len(connected) == 2 and run.subscription.is_active, "no subscription")
    assert connected == [b"first.", b"second"]
