"""Draining the session of a receiver that is gone, by what a broker sees."""

import pytest

from idlib.errors import TransportError
from idlib.transport import Delivery
from idlib.transport import session_drain as module
from idlib.transport.session_drain import SessionDrain
from testbed.raw_mqtt import packet, publish_packet
from testbed.scripted_broker import LOOPBACK, Peer, ScriptedBroker, wait_until

_FILTER = "$share/g/topic"
_KEPT = packet(0x20, b"\1\0\0")
_ENDS_SESSION = b"\0\x05\x11\0\0\0\0"


@pytest.fixture(autouse=True)
def short_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.01)


def _drain(broker: ScriptedBroker, delivered: list[bytes], *, settles: bool = True) -> SessionDrain:
    def deliver(delivery: Delivery) -> None:
        delivered.append(delivery.payload)
        if settles:
            drain.settle([delivery.packet])

    drain = SessionDrain(broker.address, "gone", (_FILTER, "topic"), 600, 1000, deliver)
    return drain


def test_what_is_left_in_the_session_is_delivered_and_the_session_ended() -> None:
    said: list[object] = []
    delivered: list[bytes] = []

    def script(peer: Peer) -> None:
        said.append(peer.expect(0x10)[-4:])
        peer.send(_KEPT)
        peer.send(publish_packet("topic", b"first", 1, 1))
        said.append(peer.unsubscribe())
        said.append(peer.expect(0x40)[:2])
        peer.unsubscribe(0x11)
        said.append(peer.read())

    with ScriptedBroker(script) as broker:
        assert _drain(broker, delivered).run(lambda: True)
        assert delivered == [b"first"]
        wait_until(lambda: len(said) == 4, "not left")
    assert said == [b"gone", [_FILTER, "topic"], b"\0\1", (0xE0, _ENDS_SESSION)]


def test_a_session_that_the_broker_no_longer_has_is_ended_without_a_message() -> None:
    said: list[object] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.unsubscribe(0x11)
        said.append(peer.read())

    with ScriptedBroker(script) as broker:
        assert _drain(broker, []).run(lambda: True)
        wait_until(lambda: bool(said), "not left")
    assert said == [(0xE0, _ENDS_SESSION)]


def test_a_session_with_a_message_that_is_not_settled_is_kept_when_the_drain_may_not_continue() -> None:
    said: list[object] = []
    delivered: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.accept(_KEPT)
        peer.unsubscribe()
        peer.send(publish_packet("topic", b"slow", 1, 1))
        said.append(peer.read())

    with ScriptedBroker(script) as broker:
        assert not _drain(broker, delivered, settles=False).run(lambda: not delivered)
        wait_until(lambda: bool(said), "not left")
    assert said == [(0xE0, b"")]


def test_a_broker_that_keeps_the_subscription_or_ends_the_connection_is_reported() -> None:
    def refuse(peer: Peer) -> None:
        peer.accept(_KEPT)
        peer.unsubscribe(0x87)
        peer.wait_for_end()

    with (
        ScriptedBroker(refuse) as broker,
        pytest.raises(TransportError, match="does not end the subscription: Not auth"),
    ):
        _drain(broker, []).run(lambda: True)
    with ScriptedBroker(lambda peer: peer.accept(_KEPT)) as broker, pytest.raises(TransportError, match="is lost"):
        _drain(broker, []).run(lambda: True)


def test_what_an_earlier_connection_found_out_does_not_count_on_the_next_one() -> None:
    said: list[object] = []
    delivered: list[bytes] = []

    def lose(peer: Peer) -> None:
        peer.accept(_KEPT)
        peer.unsubscribe()

    def continue_later(peer: Peer) -> None:
        peer.expect(0x10)
        # Longer than the session has to be quiet.
        assert peer.is_silent(0.5)
        peer.send(_KEPT)
        peer.send(publish_packet("topic", b"left", 1, 1))
        peer.unsubscribe(0x11)
        said.append(peer.expect(0x40)[:2])
        peer.unsubscribe(0x11)
        said.append(peer.read())

    with ScriptedBroker(lose, continue_later) as broker:
        drain = _drain(broker, delivered)
        with pytest.raises(TransportError, match="is lost"):
            drain.run(lambda: True)
        assert drain.run(lambda: True)
        wait_until(lambda: len(said) == 2, "not left")
    assert delivered == [b"left"]
    assert said == [b"\0\1", (0xE0, _ENDS_SESSION)]


def test_a_broker_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.3)

    def ignore(peer: Peer) -> None:
        peer.accept(_KEPT)
        peer.wait_for_end()

    for script in (ignore, Peer.wait_for_end):
        with (
            ScriptedBroker(script) as broker,
            pytest.raises(TransportError, match=f"the broker {LOOPBACK}:.* does not answer"),
        ):
            _drain(broker, []).run(lambda: True)


def test_a_broker_that_is_away_is_reported() -> None:
    with ScriptedBroker() as broker:
        drain = _drain(broker, [])
    with pytest.raises(TransportError, match=f"the broker {LOOPBACK}:.* cannot be reached"):
        drain.run(lambda: True)
