"""`receive` for scripts and programs: it ends by itself, chooses senders, and waits for confirmations."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.lab import Lab
from testbed.programs import RECEIVER, SUBSCRIBED, Device
from tests.documents import block
from tests.integration.kept_session import device_with_session


@pytest.fixture
def reader(lab: Lab, tmp_path: Path) -> Device:
    """Return a device whose session is at the broker, so that messages to it are kept."""
    return device_with_session(lab, "reader", tmp_path / "data")


def texts(lines: list[str]) -> list[str]:
    return [json.loads(line).partition(" says: ")[2] for line in lines]


def test_it_ends_after_so_many_messages_and_leaves_the_others(alice: Device, reader: Device) -> None:
    waiting = [f"waiting {number}" for number in range(3)]
    assert alice.send(reader, "--lines", stdin="\n".join(waiting)).status == 0
    with reader.start(RECEIVER, "-C", "5") as receiver:
        receiver.wait_for_message("waiting 2")
        later = [f"later {number}" for number in range(5)]
        assert alice.send(reader, "--lines", stdin="\n".join(later)).status == 0
        assert receiver.wait_for_end() == 0
        assert texts(receiver.stdout) == [*waiting, *later[:2]]
    with reader.start(RECEIVER, "-C", "3") as receiver:
        assert receiver.wait_for_end() == 0
        assert texts(receiver.stdout) == later[2:]
    ended = reader.run(RECEIVER, "-C", "1", "-W", "3")
    assert (ended.status, ended.stdout) == (12, "")


def test_it_ends_after_so_many_seconds(alice: Device, reader: Device) -> None:
    assert alice.send(reader, "in time").status == 0
    ended = reader.run(RECEIVER, "-W", "3")
    assert (ended.status, texts(ended.stdout.splitlines())) == (0, ["in time"])


def test_a_signal_before_enough_messages_shows_in_the_status(reader: Device) -> None:
    with reader.start(RECEIVER, "-C", "1") as receiver:
        receiver.wait_for_log(SUBSCRIBED)
        assert receiver.stop() == -signal.SIGTERM
        assert not any("Traceback" in line for line in receiver.stderr)


def test_messages_of_other_senders_wait_for_a_later_run(alice: Device, reader: Device, lab: Lab) -> None:
    carol = lab.published_device("carol")
    for sender, text in ((carol, "from carol 1"), (alice, "from alice"), (carol, "from carol 2")):
        assert sender.send(reader, text).status == 0
    with reader.start(RECEIVER, "--from", alice.name, "-C", "1") as receiver:
        assert receiver.wait_for_end() == 0
        assert texts(receiver.stdout) == ["from alice"]
    with reader.start(RECEIVER, "--from", alice.name) as receiver:
        receiver.wait_for_log(f"waiting sender={carol.name} for a later run")
        # The broker has nothing left, so they are stored.
        receiver.wait_for_log("waiting=2")
        assert receiver.stop() == 0
        assert receiver.stdout == []
    with reader.start(RECEIVER, "--from", alice.name, "--from", "*.test", "-C", "2") as receiver:
        assert receiver.wait_for_end() == 0
        assert texts(receiver.stdout) == ["from carol 1", "from carol 2"]


def test_head_takes_one_message_and_the_others_are_kept(alice: Device, reader: Device, tmp_path: Path) -> None:
    assert alice.send(reader, "the first").status == 0
    script = f'("$@"; echo "$?" > {tmp_path}/status) 2>{tmp_path}/log | head -1'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", *reader.command(RECEIVER)],
        env=reader.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert texts(shell.stdout.splitlines()) == ["the first"]
    assert (tmp_path / "status").read_text() == "70\n"
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert log.splitlines()[-1].startswith("Error: stdout cannot be written: Broken pipe; messages are kept")
    assert alice.send(reader, "the second").status == 0
    with reader.start(RECEIVER, "-C", "1") as receiver:
        assert receiver.wait_for_end() == 0
        assert texts(receiver.stdout) == ["the second"]


def test_jq_gets_each_message_at_once(alice: Device, reader: Device) -> None:
    pipeline = ["sh", "-c", '"$@" 2>/dev/null | jq --unbuffered -r \'.sender + ": " + .message\'', "sh"]
    with subprocess.Popen(
        [*pipeline, *reader.command(RECEIVER, "-C", "2")],
        env=reader.with_settings(OUTPUT_FORMAT="json").environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for text in ("one", 'two "2"'):
            assert alice.send(reader, text).status == 0
            assert process.stdout.readline() == f"{alice.name}: {text}\n"
        assert process.wait(20) == 0


def test_a_message_is_acknowledged_once_it_is_confirmed(alice: Device, reader: Device, tmp_path: Path) -> None:
    assert alice.send(reader, "--lines", stdin="one\ntwo\nthree").status == 0
    # The program of the document, which ends with the second message.
    path = f"{Path(sys.executable).parent}:{reader.environment()['PATH']}"
    example = block("docs/automation.md", "confirming messages").replace('"--confirm"', '"--confirm", "-C", "2"')
    run = subprocess.run(
        [sys.executable, "-c", example],
        env={**reader.environment(), "PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "messages.log").read_text() == f"{alice.name} one\n{alice.name} two\n"
    with reader.start(RECEIVER, "--confirm") as receiver:
        receiver.wait_for_message('"three"')
        receiver.end_input()
        assert receiver.wait_for_end() == 0
    with reader.start(RECEIVER, "--confirm", "-C", "1") as receiver:
        receiver.wait_for_message('"three"')
        receiver.write("1\n")
        assert receiver.wait_for_end() == 0
        assert len(receiver.stdout) == 1


def test_a_message_that_is_not_confirmed_comes_again_after_a_kill(alice: Device, reader: Device) -> None:
    assert alice.send(reader, "again").status == 0
    for _ in range(2):
        with reader.start(RECEIVER, "--confirm") as receiver:
            receiver.wait_for_message("again")
            receiver.kill()


def test_garbage_on_stdin_ends_it_with_one_line(alice: Device, reader: Device) -> None:
    with reader.start(RECEIVER, "--confirm") as receiver:
        receiver.wait_for_log(SUBSCRIBED)
        receiver.write("yes\x1b[31m\n")
        assert receiver.wait_for_end() == 64
        errors = [line for line in receiver.stderr if line.startswith("Error: ")]
        assert len(errors) == 1
        assert errors[0].startswith("Error: stdin has b'yes\\x1b[31m' in place of nothing: ")
