"""What the supervisor notes about our own record."""

import threading
import time
from collections.abc import Callable
from typing import cast

import pytest

from idlib.discovery import Found
from idlib.names import IdentityName
from idlib.transport import Subscription
from messaging_receiver import supervision
from messaging_receiver.ending import Ending
from messaging_receiver.own_identity import OwnKeys
from messaging_receiver.own_record import OwnRecord
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.service_notices import Notices
from messaging_receiver.sinks import Fate
from messaging_receiver.supervision import Supervision
from tests.applications.messaging_receiver.world import BOB, KEYS, World, record_of


class Keys:
    """A fake of our own keys that only remembers the noted records."""

    present = KEYS[BOB]

    def __init__(self) -> None:
        self.noted: list[Found] = []

    def refresh(self) -> None:
        """Do not read any key."""

    def note_records(self, found: Found) -> None:
        self.noted.append(found)


def supervise(world: World, keys: Keys, told: "Told | None" = None) -> Supervision:
    world.dns.answers[BOB] = record_of(KEYS[BOB])
    return Supervision(
        world.context,
        world.authentication,
        Open(),
        Ending(world.context.stopping),
        cast("Subscription", Inactive()),
        [threading.main_thread()],
        cast("OwnKeys", keys),
        OwnRecord(world.context.settings, world.context.discovery),
        dict,
        notices=cast("Notices | None", told),
    )


class Open:
    """A fake sink that never fails."""

    problem = None

    def check(self) -> None:
        """Do nothing."""

    def deliver(self, _message: ReceivedMessage) -> Fate:
        return Fate.DELIVERED


class Inactive:
    """A fake session without a broker."""

    is_active = False


Run = Callable[[Keys, Callable[[], bool]], None]


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a supervisor with frequent look-ups until a condition is met."""
    monkeypatch.setattr(supervision, "RECORD_SECONDS", 0.1)

    def run(keys: Keys, is_enough: Callable[[], bool]) -> None:
        supervisor = supervise(world, keys)
        watching = threading.Thread(target=supervisor.watch_record)
        threads = [watching, threading.Thread(target=supervisor.run)]
        for thread in threads:
            thread.start()
        world.wait_for(is_enough)
        world.context.stopping.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()

    return run


def test_it_looks_up_our_record_by_itself_and_notes_the_result(run: Run, world: World) -> None:
    world.context.memory.note_time(int(time.time()))
    keys = Keys()
    run(keys, lambda: len(keys.noted) >= 2)
    assert keys.noted[0].accepted == (KEYS[BOB].public.der,)


def test_it_notes_nothing_while_the_clock_may_be_wrong(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    looked: list[int] = []
    monkeypatch.setattr(world.context.timekeeper, "record", lambda: judged.append(1))
    find = world.context.discovery.find

    def look(name: IdentityName) -> Found:
        looked.append(len(judged))
        return find(name)

    monkeypatch.setattr(world.context.discovery, "find", look)
    keys = Keys()
    run(keys, lambda: looked.count(1) >= 3)
    assert keys.noted == []


class Told:
    """Collects what the service manager would be told."""

    def __init__(self) -> None:
        self.beats: list[tuple[bool, bool]] = []

    def beat(self, *, is_moving: bool, is_subscribed: bool) -> None:
        self.beats.append((is_moving, is_subscribed))


@pytest.mark.parametrize("longest", [3600.0, -1.0], ids=["moving", "still"])
def test_the_service_manager_is_told_whether_every_thread_moves(
    longest: float, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "_STILL_SECONDS", longest)
    told = Told()
    supervisor = supervise(world, Keys(), told)
    world.context.movements.note()
    running = threading.Thread(target=supervisor.run)
    running.start()
    world.wait_for(lambda: bool(told.beats))
    world.context.stopping.set()
    running.join(10)
    assert told.beats[0] == (longest > 0, False)
