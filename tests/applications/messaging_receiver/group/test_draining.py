"""Which abandoned sessions a receiver drains, and what becomes of their leases."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from idlib.errors import TransportError
from idlib.transport import Delivery, ReceivedPacket
from idlib.transport.session_drain import SessionDrain
from messaging_receiver.group import draining
from messaging_receiver.group.draining import AbandonedSessions
from testbed.raw_mqtt import packet, publish_packet
from testbed.scripted_broker import Peer, ScriptedBroker, wait_until
from tests.applications.messaging_receiver.world import World


@dataclass
class Abandoned:
    """The leases of abandoned sessions."""

    client_ids: list[str]
    held: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    # Which sessions the receiver drained, each time it asked for another one.
    drained: list[tuple[str, ...]] = field(default_factory=list)

    def take_abandoned(self, drained: Collection[str]) -> str | None:
        self.drained.append(tuple(drained))
        if not self.client_ids:
            return None
        self.held.append(self.client_ids.pop(0))
        return self.held[-1]

    def holds(self, client_id: str) -> bool:
        return client_id in self.held

    def release(self, client_id: str) -> None:
        self.released.append(client_id)


class Scripted(SessionDrain):
    """A drain without a broker, whose first attempts fail."""

    def __init__(self, *failures: TransportError) -> None:
        self.failures = list(failures)
        self.settled: list[ReceivedPacket] = []

    def run(self, may_continue: Callable[[], bool]) -> bool:
        if self.failures:
            raise self.failures.pop(0)
        return may_continue()

    def settle(self, packets: Sequence[ReceivedPacket]) -> None:
        self.settled += packets


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "_SHORTEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(draining, "LOOK_SECONDS", 0.01)


def sessions(world: World, leases: Abandoned, drain: SessionDrain, leaving: threading.Event) -> AbandonedSessions:
    return AbandonedSessions(world.context, leases, lambda _: drain, lambda: True, leaving)


def test_the_lease_is_released_when_the_session_has_ended(world: World) -> None:
    leases = Abandoned(["gone"])
    assert sessions(world, leases, Scripted(), threading.Event()).drain_next()
    assert leases.released == ["gone"]


def test_nothing_is_done_without_an_abandoned_session(world: World) -> None:
    leases = Abandoned([])
    assert not sessions(world, leases, Scripted(), threading.Event()).drain_next()
    assert not leases.released


def test_the_drain_is_tried_again_while_the_broker_is_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    leases = Abandoned(["gone"])
    away = TransportError("the broker is away")
    assert sessions(world, leases, Scripted(away, away), threading.Event()).drain_next()
    assert leases.released == ["gone"]
    assert [each.getMessage() for each in caplog.records if "cannot be drained" in each.getMessage()] == [
        "The session of a receiver that is gone cannot be drained now: the broker is away"
    ]


@pytest.mark.parametrize("why", ["stopping", "leaving", "lost"])
def test_a_session_that_is_left_to_others_keeps_its_lease(world: World, why: str) -> None:
    leases, leaving = Abandoned(["gone"]), threading.Event()

    class Ending(Scripted):
        def run(self, may_continue: Callable[[], bool]) -> bool:
            match why:
                case "stopping":
                    world.context.stopping.set()
                case "leaving":
                    leaving.set()
                case _:
                    leases.held.clear()
            return super().run(may_continue)

    assert not sessions(world, leases, Ending(), leaving).drain_next()
    assert not leases.released


@pytest.mark.parametrize("is_leaving", [False, True])
def test_no_session_is_taken_while_the_receiver_is_not_subscribed_or_leaves(world: World, *, is_leaving: bool) -> None:
    leases, leaving = Abandoned(["gone"]), threading.Event()
    waits: list[float | None] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return len(waits) > 2

    context = replace(world.context, stopping=Stopping())
    if is_leaving:
        leaving.set()
    AbandonedSessions(context, leases, lambda _: Scripted(), lambda: is_leaving, leaving).run()
    assert leases.client_ids == ["gone"]


def test_a_session_is_drained_by_one_thread_although_its_lease_is_taken_again(world: World) -> None:
    leases = Abandoned(["gone", "gone"])
    again: list[bool] = []

    class Slow(Scripted):
        def run(self, may_continue: Callable[[], bool]) -> bool:
            again.append(both.drain_next())
            return super().run(may_continue)

    both = sessions(world, leases, Slow(), threading.Event())
    assert both.drain_next()
    assert again == [False]
    assert leases.released == ["gone"]
    assert leases.drained == [(), ("gone",)]


def test_a_session_counts_as_drained_until_its_lease_is_released(world: World) -> None:
    class Releasing(Abandoned):
        def release(self, client_id: str) -> None:
            assert not both.drain_next()
            super().release(client_id)

    leases = Releasing(["gone"])
    both = sessions(world, leases, Scripted(), threading.Event())
    assert both.drain_next()
    assert leases.drained == [(), ("gone",)]


def test_messages_of_two_sessions_are_settled_on_the_connection_that_they_came_through(world: World) -> None:
    acknowledged: dict[bytes, bytes] = {}

    def script(peer: Peer) -> None:
        client_id = peer.expect(0x10)[-1:]
        peer.send(packet(0x20, b"\1\0\0"))
        peer.send(publish_packet("topic", client_id, 1, 7))
        peer.unsubscribe()
        acknowledged[client_id] = peer.expect(0x40)[:2]
        peer.unsubscribe(0x11)
        peer.wait_for_end()

    arrived: list[Delivery] = []
    leases = Abandoned(["a", "b"])
    with ScriptedBroker(script) as broker:

        def open_drain(client_id: str) -> SessionDrain:
            return SessionDrain(broker.address, client_id, ("$share/g/topic",), 600, 1000, arrived.append)

        both = AbandonedSessions(world.context, leases, open_drain, lambda: True, threading.Event())
        threads = [threading.Thread(target=both.drain_next, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(arrived) == 2, "not delivered")
        both.settle([arrived[1].packet])
        wait_until(lambda: len(acknowledged) == 1, "not acknowledged")
        assert set(acknowledged) == {arrived[1].payload}
        both.settle([arrived[0].packet])
        for thread in threads:
            thread.join(20)
    assert acknowledged == {b"a": b"\0\7", b"b": b"\0\7"}
    assert sorted(leases.released) == ["a", "b"]
