"""A device, its records in DNS, two clocks, and what would be lost: messages to keys or by keys that are gone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from idlib import keys
from idlib.bootstrap import Bootstrap
from idlib.errors import KeyFileError, NotServedError, PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.publication import Publication, Publishing
from idlib.publishing.zone import Zone
from idlib.records import key_of
from idlib.settings import Settings, load
from messaging_maintenance.rotation.republish import publish_records
from messaging_maintenance.rotation.schedule import Instant
from messaging_maintenance.rotation.state import RotationState, StateFile
from messaging_maintenance.rotation.steps import Rotation

NAME: Final = IdentityName("alice._device.example.test")
HOUR: Final = 3600
DAY: Final = 24 * HOUR
NOW: Final = 1_900_000_000.0
NEGATIVE_TTL: Final = 900


class KilledError(BaseException):
    """The process was killed."""


class World:
    """Where a rotation takes place.

    Args:
        directory: Of the key files.
        monkeypatch: Puts the clocks and the reading back from name servers in their places.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.wall, self.boot, self.up, self.is_set = NOW, "first boot", 1000.0, True
        self.zone = Zone("example.test", "ns.example.test", NEGATIVE_TTL, (), ())
        self.records = PublishedSet.of(0, ())
        # Each set that caches may have got: its records, its TTL, and until when it was served.
        self.served: list[tuple[frozenset[bytes | None], int, float]] = []
        # When each key signed last.
        self.signed: dict[bytes, float] = {}
        self.lowest = 0
        self.changes: list[Change] = []
        self.reported: list[str] = []
        self.fault: PublishingError | None = None
        self.lags = False
        self.events_until_kill: int | None = None
        self.events = 0
        self.is_lossless = True
        self.environment = {
            "IDENTITY_NAME": NAME.text,
            "CRYPTO_PATH": str(directory),
            "KEY_TYPE": "p256",
            "APP_UID": str(os.getuid()),
        }
        self._patch(monkeypatch)

    # The publisher.

    def read(self) -> PublishedSet:
        self.event()
        return self.records

    def lowest_ttl(self) -> int:
        return self.lowest

    def apply(self, change: Change) -> None:
        self.event()
        if self.fault is not None:
            raise self.fault
        assert change.before == self.records
        self.changes.append(change)
        self.put(change.after)
        self.event()

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def renew(self) -> None:
        pass

    # The device.

    @property
    def settings(self) -> Settings:
        return load(self.environment)

    @property
    def identity(self) -> Bootstrap:
        return Bootstrap.from_settings(self.settings)

    @property
    def publishing(self) -> Publishing:
        return Publishing(self, self.zone, NAME, self.settings.tlsa_ttl)

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.settings, self.publishing, self.now, self.reported.append)

    @property
    def state(self) -> RotationState:
        state = self.rotation.state()
        assert state is not None
        return state

    def now(self) -> Instant:
        return Instant(self.wall, self.boot, self.up, self.is_set)

    def create(self) -> None:
        """Create an identity, and publish its record long ago."""
        self.identity.create_selfsigned_identity()
        self.publishing.publish([self.identity.tlsa_record(0)])
        self.changes.clear()
        self.pass_time(2 * HOUR)

    def put(self, records: PublishedSet) -> None:
        """Let DNS have these records from now on."""
        ttl = self.records.ttl if self.records.rdatas else NEGATIVE_TTL
        self.served.append((self.published(), ttl, self.wall))
        self.records = records
        self.note()

    def published(self) -> frozenset[bytes | None]:
        return frozenset(map(key_of, self.records.rdatas))

    def key(self, path: Path) -> bytes | None:
        try:
            return keys.read_private_key(path).public.der
        except KeyFileError:
            return None

    @property
    def current(self) -> bytes | None:
        return self.key(keys.key_path(self.directory, NAME))

    @property
    def next(self) -> bytes | None:
        return self.key(keys.next_key_path(self.directory, NAME))

    @property
    def previous(self) -> list[bytes]:
        found = map(self.key, keys.previous_key_paths(self.directory, NAME))
        return [key for key in found if key is not None]

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds
        self.note()

    def restart(self) -> None:
        self.boot, self.up = f"boot {self.wall}", 10.0

    def note(self) -> None:
        """Note that the device signs now, and check that nothing is lost."""
        current = self.current
        if current is not None:
            self.signed[current] = self.wall
        if self.is_lossless:
            self.check_nothing_is_lost()

    def check_nothing_is_lost(self) -> None:
        """Check that everyone knows the key that signs, and that every key that others encrypt to can decrypt."""
        held = {self.current, self.next, *self.previous}
        cached = [keys for keys, ttl, until in self.served if self.wall <= until + ttl and keys]
        if self.records.rdatas:
            cached.append(self.published())
        for known in cached:
            assert self.current in known, "a recipient does not know the key that signs"
        for key, when in self.signed.items():
            if self.wall <= when + 14 * DAY:
                assert key in self.published(), "a recipient refuses a message that is on its way"
        for known, ttl, until in [*self.served, (self.published(), 0, self.wall)]:
            if self.wall <= until + ttl + 7 * DAY:
                assert known <= held, "the device cannot open a message that is on its way"

    # Interruptions.

    def event(self) -> None:
        """Be killed here, if that is to be."""
        self.events += 1
        if self.events_until_kill is not None:
            if self.events_until_kill == 0:
                self.events_until_kill = None
                raise KilledError
            self.events_until_kill -= 1

    def _wait_until_served(self, *_: object) -> tuple[()]:
        self.event()
        if self.lags:
            raise NotServedError("a secondary lags", "wait")
        return ()

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("idlib.publishing.publication.wait_until_served", self._wait_until_served)
        monkeypatch.setattr("messaging_maintenance.rotation.device.time.sleep", self.pass_time)
        monkeypatch.setattr(Instant, "now", classmethod(lambda _: self.now()))
        for owner, name in ((StateFile, "write"), (Path, "replace"), (Path, "unlink")):
            monkeypatch.setattr(owner, name, self._interruptible(getattr(owner, name)))

    def _interruptible(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **named: Any) -> Any:
            # What only tidies up after an interruption is not done by a process that was killed.
            self.event()
            result = function(path, *arguments, **named)
            self.event()
            return result

        return call


@contextmanager
def killed_after(world: World, events: int) -> Iterator[None]:
    """Let the process be killed after some events; do nothing if it ends before that."""
    world.events_until_kill = events
    try:
        yield
    except KilledError:
        pass
    finally:
        world.events_until_kill = None


def publish(world: World) -> Publication:
    return publish_records(world.publishing, world.identity, world.settings)


def finish(world: World) -> None:
    """Take each step as soon as it is safe, as the maintenance service does, until the rotation has ended."""
    for _ in range(100):
        step = world.rotation.next_step()
        if step is None:
            return
        if step.safe_at is not None:
            world.pass_time(step.safe_at - world.wall + 1)
        assert world.rotation.advance() is not None
    pytest.fail("the rotation does not end")
