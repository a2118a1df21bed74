"""The programs of docs/python.md, run unchanged but for the names of the devices."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dane_messenger import Receiver, Sender
from idlib.settings import SENDER_READS, load
from testbed.lab import Lab
from testbed.outbox import waiting
from testbed.programs import Device, Program
from tests.documents import ROOT, block, marks

DOCUMENT = "docs/python.md"
FIRST_MESSAGE = "docs/examples/first_message.py"
PRINT_MESSAGES = "docs/examples/print_messages.py"
SENSOR = "docs/examples/sensor.py"
STORE = "docs/examples/store.py"
ANSWER = "docs/examples/answer.py"
ASK = "docs/examples/ask.sh"
WITH_ASYNCIO = "docs/examples/with_asyncio.py"
BOB = "bob._device.example.com"
PATIENCE = 30.0


def start(mark: str, device: Device, recipient: Device | None = None, arguments: Sequence[str] = ()) -> Program:
    """Start an example that docs/python.md shows, as a program of a device."""
    text = block(DOCUMENT, mark)
    assert (ROOT / mark).read_text() == text
    named = text if recipient is None else text.replace(BOB, recipient.name)
    return Program([sys.executable, "-c", named, *arguments], device.environment())


def subscribed(lab: Lab, label: str) -> Device:
    """Return a device whose messages the broker keeps."""
    device = lab.published_device(label)
    with device.receiver() as receiver:
        receiver.stop()
    return device


@pytest.fixture(scope="module")
def carol(lab: Lab) -> Device:
    """Return the device of the examples that receive; an interrupted one may leave its last message."""
    return subscribed(lab, "carol")


@pytest.fixture(scope="module")
def dave(lab: Lab) -> Device:
    """Return a device that waits for answers."""
    return subscribed(lab, "dave")


def test_each_example_is_a_file_that_mypy_checks() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "examples").glob("*.py")}
    assert files == {mark for mark in marks(DOCUMENT) if mark.endswith(".py")}
    assert "docs/examples" in (ROOT / "Makefile").read_text()


def test_a_first_message_takes_ten_lines(alice: Device, bob: Device, bob_receiver: Program) -> None:
    assert len(block(DOCUMENT, FIRST_MESSAGE).splitlines()) <= 10
    with start(FIRST_MESSAGE, alice, bob) as program:
        assert program.wait_for_end() == 0, program.stderr
    assert bob_receiver.wait_for_message("Good morning") == f'"{alice.name} says: Good morning"'
    assert re.fullmatch(r"acknowledged by the broker: \S+", program.stdout[0])


def interrupt(program: Program) -> None:
    program.signal(signal.SIGINT)
    assert program.wait_for_end() in {-signal.SIGINT, 128 + signal.SIGINT}
    assert program.stderr[-1] == "KeyboardInterrupt"


def test_messages_are_printed_until_the_program_is_interrupted(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender, start(PRINT_MESSAGES, carol) as program:
        for text in ("one", "two"):
            sender.send(carol.name, text)
            program.wait_for_message(f"{alice.name} {text}")
        interrupt(program)


def test_a_program_with_asyncio_replies_until_it_is_interrupted(
    lab: Lab, alice: Device, carol: Device, dave: Device
) -> None:
    with start(WITH_ASYNCIO, carol) as program, Sender(alice.settings) as silent, Sender(dave.settings) as sender:
        silent.send(carol.name, "one")
        program.wait_for_message(f"{alice.name} one")
        sender.send(carol.name, "two")
        program.wait_for_message(f"{dave.name} two")
        with Receiver(dave.settings) as receiver:
            reply = receiver.get(PATIENCE)
        assert (reply.sender, reply.text) == (carol.name, "Good morning to you")
        interrupt(program)
    assert f"no reply: the broker {lab.mosquitto.address} has no subscriber for {alice.name}" in program.stderr[0]


def test_the_sensor_queues_what_it_cannot_send(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    device = lab.published_device("sensor")
    with start(SENSOR, device, bob) as program:
        line = json.loads(bob_receiver.wait_for_message(device.name))
        program.kill()
    said, _, reading = line.partition(" of type application/json: ")
    assert re.fullmatch(rf"{device.name} sent \d+ bytes", said)
    assert json.loads(reading)["load"] >= 0
    with start(SENSOR, device.with_settings(DNS_RESOLVER="127.0.0.1:9"), bob) as program:
        data = Path(device.settings["DATA_PATH"])
        program.wait_for("queued reading", lambda: data.exists() and waiting(device) == 1)
        assert not program.stderr


def test_messages_are_stored_in_a_file(alice: Device, carol: Device, tmp_path: Path) -> None:
    file = tmp_path / "messages"
    with Sender(alice.settings) as sender, start(STORE, carol, arguments=[str(file)]) as program:
        ids = [sender.send(carol.name, text).id for text in ("one", "zwei\n\u2028")]
        program.wait_for("stored messages", lambda: file.exists() and f"{ids[1]}" in file.read_text())
        interrupt(program)
    stored = {line["id"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert [stored[one] for one in ids] == [
        {"id": ids[0], "sender": alice.name, "content": "one"},
        {"id": ids[1], "sender": alice.name, "content": "zwei\n\u2028"},
    ]


def ask(device: Device, name: str) -> "subprocess.CompletedProcess[str]":
    """Run the script of docs/automation.md."""
    script = ROOT / ASK
    assert script.read_text() == block("docs/automation.md", ASK)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [str(script), name],
        env=device.environment() | {"PATH": programs},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_script_asks_a_program(carol: Device, dave: Device) -> None:
    with start(ANSWER, carol):
        answered = ask(dave, carol.name)
    assert answered.returncode == 0, answered.stderr
    assert re.fullmatch(r"\d+\.\d\d\n", answered.stdout)
    assert ask(dave, "nobody._device.example.test").returncode == 2


def test_the_settings_of_a_program_are_settings(monkeypatch: pytest.MonkeyPatch, alice: Device) -> None:
    given = re.search(r"Sender\(\s*(\{.*\})\s*\)", block(DOCUMENT, "settings of a program"))
    assert given
    settings = json.loads(given[1])
    loaded = load({name: str(value) for name, value in settings.items()}, SENDER_READS)
    assert {name: str(getattr(loaded, name.lower())) for name in settings} == {
        **{name: str(value) for name, value in settings.items()},
        "CRYPTO_PATH": os.path.expanduser("~/messenger/identity"),
    }
    there = {"CRYPTO_PATH": alice.settings["CRYPTO_PATH"], "IDENTITY_NAME": alice.name}
    with Sender({**settings, **there}) as sender:
        assert sender.identity_name == alice.name
