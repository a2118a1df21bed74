"""When the device is announced to Home Assistant, and what is remembered of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from idlib.lists import SenderLists
from idlib.local_broker.place import Topics
from idlib.names import IdentityName, NamePatterns
from messaging_receiver.local_broker.home_assistant_note import Announced, AnnouncementNote
from messaging_receiver.local_broker.home_assistant_removal import Removal
from messaging_receiver.local_broker.home_assistant_service import HomeAssistant

ALICE: Final = IdentityName("alice._device.example.com")
CONFIG: Final = "homeassistant/device/dane-mqtt-messenger---alice-_device-example-com/config"


class FakeConnection:
    """What a connection is asked to publish, by topic and in order."""

    def __init__(self) -> None:
        self.is_active = True
        self.max_size = 1_000_000
        self.published: list[tuple[str, bytes]] = []
        self.heard: dict[str, Callable[[bytes], None]] = {}

    def subscribe(self, topic: str, hear: Callable[[bytes], None]) -> None:
        self.heard[topic] = hear

    def on_connection(self, listener: Callable[[], None]) -> None:
        self.connect = listener

    def admits(self, topic: str, payload: bytes) -> bool:
        return len(topic) + len(payload) <= self.max_size

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        assert retain
        self.published.append((topic, payload))
        return True

    def take(self) -> list[tuple[str, bytes]]:
        published, self.published = self.published, []
        return published


class Rig:
    def __init__(self, path: Path, prefix: str = "homeassistant") -> None:
        self.now = 100.0
        self.lists = SenderLists()
        self.note = AnnouncementNote(path)
        self.connection = FakeConnection()
        self.service = HomeAssistant(
            self.connection, ALICE, Topics("messenger"), prefix, lambda: self.lists, self.note, lambda: self.now
        )

    def look(self, seconds: float = 10.0) -> list[tuple[str, bytes]]:
        self.now += seconds
        self.service.look()
        return self.connection.take()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "note.json")


def test_it_is_announced_once_and_again_when_home_assistant_starts(rig: Rig) -> None:
    assert [topic for topic, _ in rig.look()] == [CONFIG]
    assert rig.look() == []
    rig.connection.heard["homeassistant/status"](b"offline")
    assert rig.look() == []
    rig.connection.heard["homeassistant/status"](b"online")
    assert rig.look(1) != []
    rig.connection.heard["homeassistant/status"](b"online")
    assert rig.look(1) == []
    assert rig.look(5) != []
    rig.connection.connect()
    assert rig.look() != []


def test_without_a_connection_nothing_is_published(rig: Rig) -> None:
    rig.connection.is_active = False
    assert rig.look() == []
    rig.connection.is_active = True
    assert rig.look() != []


def test_a_sender_that_is_no_longer_allowed_is_removed(rig: Rig) -> None:
    rig.lists = SenderLists(allowed=NamePatterns(("bob.example", "*.x.example")))
    rig.look()
    rig.lists = SenderLists(allowed=NamePatterns(("*.x.example",)))
    first, second = rig.look()
    removed = json.loads(first[1])["components"]
    assert removed["from-bob-example"] == {"platform": "event"}
    assert removed["to-bob-example"] == {"platform": "notify"}
    assert set(removed) - set(json.loads(second[1])["components"]) == {"from-bob-example", "to-bob-example"}
    assert rig.look() == []


def test_another_prefix_removes_what_is_at_the_old_one(rig: Rig, tmp_path: Path) -> None:
    rig.look()
    again = Rig(tmp_path / "note.json", "other")
    assert [(topic, payload == b"") for topic, payload in again.look()] == [
        (CONFIG, True),
        (CONFIG.replace("homeassistant", "other"), False),
    ]


def test_the_state_is_published_when_it_changes_and_once_a_minute(rig: Rig) -> None:
    problems: list[str | None] = [None]
    rig.look()
    rig.service.show(lambda: problems[-1], lambda: 1, lambda: 2)
    [(topic, payload)] = rig.look()
    assert (topic, json.loads(payload)["healthy"]) == ("messenger/state", True)
    problems.append("disk: full")
    assert rig.look(1) == []
    assert json.loads(rig.look(2)[0][1])["problem"] == "disk: full"
    assert rig.look(30) == []
    assert len(rig.look(30)) == 1


def test_a_note_is_kept_and_a_damaged_one_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note = AnnouncementNote(tmp_path / "note.json")
    assert note.read() is None
    announced = Announced("a/config", "b/state", {"x": "event"})
    note.write(announced)
    assert note.read() == announced
    assert caplog.messages == []
    for content in ("{}", "[", '{"config_topic": "", "state_topic": "b", "components": {}}', "[" * 5000):
        (tmp_path / "note.json").write_text(content)
        assert note.read() is None
    assert len(caplog.messages) == 4
    note.forget()
    note.forget()
    assert note.read() is None


def test_what_the_broker_accepts_in_no_packet_is_not_sent(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.connection.max_size = 100
    assert rig.look() == []
    assert rig.look() == []
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "are more than the local broker accepts in one packet" in line
    assert rig.note.read() is None
    rig.connection.max_size = 1_000_000
    rig.connection.connect()
    assert [topic for topic, _ in rig.look()] == [CONFIG]


def test_what_is_announced_is_noted_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path / "note")
    noted: list[Announced | None] = []

    def publish(*_: object, **__: object) -> bool:
        noted.append(rig.note.read())
        return True

    monkeypatch.setattr(rig.connection, "publish", publish)
    rig.look()
    assert noted[0] is not None
    assert noted[0].config_topic == CONFIG


@pytest.mark.parametrize("is_removed", [True, False])
def test_what_was_announced_is_forgotten_only_once_it_is_removed(tmp_path: Path, *, is_removed: bool) -> None:
    note = AnnouncementNote(tmp_path / "note")
    note.write(Announced(CONFIG, "messenger/state", {}))
    connection = FakeConnection()
    removal = Removal(connection, note)
    if is_removed:
        connection.connect()
    removal.finish()
    assert connection.take() == ([(CONFIG, b""), ("messenger/state", b"")] if is_removed else [])
    assert (note.read() is None) == is_removed
