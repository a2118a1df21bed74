"""A command is run for each message; messages that it cannot process are set aside."""

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import StoreError
from messaging_receiver.durable_writes import DurableWrites
from messaging_receiver.message_files import MessageDirectory
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.running import (
    Running,
    environment_for,
)
from messaging_receiver.sinks.setting_aside import MAX_SET_ASIDE, MAX_SET_ASIDE_OF_STRANGERS, SetAside
from tests.applications.messaging_receiver.sinks.delivering import Delivery, message, problem_of
from tests.applications.messaging_receiver.world import ALICE, BOB

SECRET = "x" * 40


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.sinks.running.PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr("messaging_receiver.sinks.running.SHORTEST_PAUSE_SECONDS", 0.01)


class Commands:
    """Sinks that run scripts, and what becomes of messages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stopping = threading.Event()
        self.set_aside = directory / "set-aside"

    def sink(self, script: str, seconds: float = 30.0) -> Running:
        return self.sink_of(["sh", "-c", script, "sh", str(self.directory)], seconds)

    def sink_of(self, words: list[str], seconds: float = 30.0) -> Running:
        writes = DurableWrites(self.stopping, lambda: None)
        directory = MessageDirectory(self.set_aside)
        set_aside = SetAside(directory, writes.retry, lambda name: name == ALICE)
        return Running(words, seconds, set_aside, self.stopping, lambda: None)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def kept(self) -> list[dict[str, object]]:
        return [json.loads(file.read_text()) for file in sorted(self.set_aside.iterdir())]


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def test_the_command_gets_the_content_and_the_facts(commands: Commands) -> None:
    sink = commands.sink('cat > "$1/content"; env | grep ^MESSAGE_ | sort > "$1/log"')
    content = b"\xff$(id)\n\0" * 20_000
    assert sink.deliver(message(content, "image/png")) is Fate.DELIVERED
    assert (commands.directory / "content").read_bytes() == content
    assert commands.log.splitlines() == [
        "MESSAGE_CONTENT_TYPE=image/png",
        "MESSAGE_FILE=",
        "MESSAGE_ID=an-id",
        "MESSAGE_RECEIVED_AT=2027-01-15T08:00:01Z",
        "MESSAGE_SEALED=identity",
        "MESSAGE_SENDER=alice.example",
        "MESSAGE_SENT_AT=2027-01-15T08:00:00Z",
        "MESSAGE_TRY=1",
    ]
    assert sink.problem is None


def test_an_unbound_message_has_no_id_and_no_time(commands: Commands) -> None:
    found = environment_for(message(bound=False), 1, {})
    assert (found["MESSAGE_ID"], found["MESSAGE_SENT_AT"]) == ("", "")


def test_what_belongs_to_the_service_is_not_passed_on() -> None:
    inherited = {"PATH": "/bin", "NOTIFY_SOCKET": "/run/x", "CREDENTIALS_DIRECTORY": "/run/c", "MESSAGE_X": "old"}
    found = environment_for(message(), 1, inherited)
    assert {name for name in found if not name.startswith("MESSAGE_")} == {"PATH"}
    assert "MESSAGE_X" not in found


@given(st.text(min_size=1, max_size=40))
def test_no_id_can_break_the_environment(identifier: str) -> None:
    value = environment_for(replace(message(), identifier=identifier), 1, {})["MESSAGE_ID"]
    assert "\0" not in value
    assert "\n" not in value
    assert value.encode()


def test_a_command_that_fails_twice_is_run_three_times(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    sink = commands.sink('echo "$MESSAGE_TRY" >> "$1/log"; [ "$MESSAGE_TRY" = 3 ]')
    assert sink.deliver(message()) is Fate.DELIVERED
    assert commands.log == "1\n2\n3\n"
    assert commands.kept() == []
    assert caplog.messages == [
        f"Try {number} of 3 failed for the message an-id from {ALICE}: the command ended with status 1"
        for number in (1, 2)
    ]


def test_a_message_that_fails_three_times_is_set_aside_and_named(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    sink = commands.sink('echo again >> "$1/log"; kill -9 $$')
    assert sink.deliver(message(SECRET)) is Fate.SET_ASIDE
    assert commands.log == "again\n" * 3
    (kept,) = commands.kept()
    assert (kept["sender"], kept["id"], kept["message"]) == (str(ALICE), "an-id", SECRET)
    (file,) = commands.set_aside.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(commands.set_aside.stat().st_mode) == 0o700
    assert caplog.messages[-1] == f"Set aside the message an-id from {ALICE}: it is in '{file}'"
    assert "signal 9 has ended the command" in caplog.messages[0]
    assert SECRET not in caplog.text


def test_the_messages_that_are_set_aside_are_limited(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    sink = commands.sink("exit 1")
    for number in range(MAX_SET_ASIDE):
        (commands.set_aside / str(number)).touch()
    assert sink.deliver(message()) is Fate.SET_ASIDE
    assert len(list(commands.set_aside.iterdir())) == MAX_SET_ASIDE
    assert caplog.messages[-1].endswith("its content is not kept, because too many are")


def test_strangers_leave_room_for_what_trusted_names_have_sent(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.sinks.running.PAUSES_SECONDS", ())
    sink = commands.sink("exit 1")
    for number in range(MAX_SET_ASIDE_OF_STRANGERS + 1):
        stranger = replace(message(), sender=BOB, identifier=str(number))
        assert sink.deliver(stranger) is Fate.SET_ASIDE
    assert len(commands.kept()) == MAX_SET_ASIDE_OF_STRANGERS
    assert sink.deliver(message()) is Fate.SET_ASIDE
    assert [one["sender"] for one in commands.kept()].count(str(ALICE)) == 1


def test_a_full_disk_does_not_lose_a_message_that_is_set_aside(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        commands.stopping.set()
        raise StoreError("the disk is full")

    sink = commands.sink("exit 1")
    monkeypatch.setattr(MessageDirectory, "save", fail)
    assert sink.deliver(message()) is Fate.KEPT


def test_a_command_that_hangs_is_killed_and_tried_again(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    sink = commands.sink('[ "$MESSAGE_TRY" = 2 ] || sleep 60', seconds=0.2)
    assert sink.deliver(message()) is Fate.DELIVERED
    assert "the command was killed after 0.2 s" in caplog.messages[0]


def test_a_command_that_cannot_be_started_is_not_the_fault_of_the_message(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    command = commands.directory / "command"
    sink = commands.sink_of([str(command)])
    delivery = Delivery(sink, message())
    while problem_of(sink) is None:
        os.sched_yield()
    assert problem_of(sink) == f"The command '{command}' cannot be started: No such file or directory"
    script = commands.directory / "script"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    script.rename(command)
    assert delivery.wait() is Fate.DELIVERED
    assert problem_of(sink) is None
    assert len(caplog.messages) == 1


def test_a_stop_gives_the_command_a_second(commands: Commands) -> None:
    delivery = Delivery(commands.sink('touch "$1/log"; sleep 0.5'), message())
    while not (commands.directory / "log").exists():
        os.sched_yield()
    commands.stopping.set()
    assert delivery.wait() is Fate.DELIVERED


def test_a_stop_kills_a_command_that_takes_longer_and_keeps_the_message(commands: Commands) -> None:
    sink = commands.sink('touch "$1/log"; sleep 60')
    delivery = Delivery(sink, message())
    while not (commands.directory / "log").exists():
        os.sched_yield()
    commands.stopping.set()
    assert delivery.wait() is Fate.KEPT
    (commands.directory / "log").unlink()
    # No other one is started.
    assert sink.deliver(message()) is Fate.KEPT
    assert not (commands.directory / "log").exists()
