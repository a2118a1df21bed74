"""Which lost and unrecorded sessions the subscriber reports, also those of earlier runs."""

import logging
import threading
import time

import pytest

from idlib.transport import Subscription
from testbed.raw_mqtt import packet
from testbed.scripted_broker import Peer, ScriptedBroker, wait_until
from tests.idlib.transport.subscribing import MAX_MESSAGE, Notes, running

pytestmark = pytest.mark.usefixtures("short_backoff")
UNKNOWN = "has a session that this receiver did not record"


def test_a_lost_session_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.grant()

    with ScriptedBroker(script) as broker, running(broker.address):
        wait_until(lambda: len(broker.connections) > 2, "no connections")
    assert "has lost the session" in caplog.text


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
        subscription = Subscription(broker.address, lambda: "client", "topic", 600, MAX_MESSAGE, lambda _: None, notes)
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
