"""`receive --exec` runs a command for each message, and `--save-dir` saves content as files."""

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from testbed.disk import fill
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import RECEIVER, Device, Program, descendants
from tests.documents import block
from tests.integration.kept_session import device_with_session

PICTURE = b"\x89PNG\r\n\x1a\n\xff\xfe"


@pytest.fixture
def reader(lab: Lab, tmp_path: Path) -> Device:
    """Return a device whose session is at the broker, so that messages to it are kept."""
    return device_with_session(lab, "runner", tmp_path / "data")


def script(directory: Path, text: str) -> str:
    """Return a command that runs a script in the directory; its arguments are hostile to a shell."""
    file = directory / "a command; $(touch shell)"
    file.write_text(f"#!/bin/sh\ncd {shlex.quote(str(directory))}\n{text}\n")
    file.chmod(0o755)
    return f"{shlex.quote(str(file))} '$(touch shell)'"


def test_a_command_gets_each_message_in_order_and_failures_are_set_aside(
    alice: Device, reader: Device, tmp_path: Path
) -> None:
    command = script(
        tmp_path,
        'text=$(cat); echo "$MESSAGE_TRY $text" >> log; echo "$MESSAGE_SENDER: $1"\n'
        'case "$text" in\n'
        '  twice) [ "$MESSAGE_TRY" = 3 ] ;;\n'
        "  never) exit 7 ;;\n"
        '  hang) [ "$MESSAGE_TRY" = 2 ] || sleep 60 ;;\n'
        "esac",
    )
    texts = ["$(touch shell)", "twice", "hang", "never", "last"]
    assert alice.send(reader, "--lines", stdin="\n".join(texts)).status == 0
    with reader.start(RECEIVER, "--exec", command, "--exec-timeout", "1", "-C", "4") as receiver:
        assert receiver.wait_for_end(60) == 0
        assert set(receiver.stdout) == {f"{alice.name}: $(touch shell)"}
        assert receiver.stderr[-1].endswith(" set_aside=1")
        assert any(f"from {alice.name}: it is in '{tmp_path}/data/set-aside/" in line for line in receiver.stderr)
    runs = ["1 $(touch shell)", *(f"{number} twice" for number in (1, 2, 3)), "1 hang", "2 hang"]
    runs += [*(f"{number} never" for number in (1, 2, 3)), "1 last"]
    assert (tmp_path / "log").read_text().splitlines() == runs
    (kept,) = (tmp_path / "data/set-aside").iterdir()
    assert json.loads(kept.read_text())["message"] == "never"
    assert not (tmp_path / "shell").exists()
    # Everything is acknowledged.
    assert reader.run(RECEIVER, "-W", "2").status == 12


def sleeping(receiver: Program) -> list[int]:
    """Return the sleeping commands of a receiver."""
    found = []
    for process in descendants(receiver.pid):
        with suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text() == "sleep\n":
                found.append(process)
    return found


def test_a_message_whose_command_has_not_ended_comes_again(alice: Device, reader: Device, tmp_path: Path) -> None:
    command = script(tmp_path, "echo run >> log; exec sleep 60")
    log = tmp_path / "log"
    assert alice.send(reader, "important").status == 0
    with reader.start(RECEIVER, "--exec", command) as receiver:
        wait_until(lambda: bool(sleeping(receiver)), "the command")
        left = sleeping(receiver)
        receiver.signal(signal.SIGKILL)
        # A receiver that is killed leaves its command running, which has its stdout.
        for process in left:
            os.kill(process, signal.SIGKILL)
        receiver.wait_for_end()
    with reader.start(RECEIVER, "--exec", command) as receiver:
        wait_until(lambda: bool(sleeping(receiver)), "the command")
        (process,) = sleeping(receiver)
        assert receiver.stop() == 0
        assert not Path(f"/proc/{process}").exists()
    assert log.read_text() == "run\n" * 2
    # The command of the document.
    example = block("docs/automation.md", "running a command").strip() + " -C 1"
    path = f"{Path(sys.executable).parent}:{reader.environment()['PATH']}"
    subprocess.run(
        ["sh", "-euc", example], env={**reader.environment(), "PATH": path}, cwd=tmp_path, check=True, timeout=30
    )
    assert (tmp_path / f"last-{alice.name}").read_text() == "important"


def test_a_missing_command_is_one_line_at_the_start(reader: Device) -> None:
    ended = reader.run(RECEIVER, "--exec", "no-such\x1b-command --now")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == (
        "Error: --exec 'no-such\\x1b-command' is not a command that can be run;"
        " give the path of an executable file, or a name in PATH\n"
    )


def test_content_is_saved_before_it_is_printed(
    alice: Device, reader: Device, tmp_path: Path, anybody: BrokerClient
) -> None:
    for content, content_type in (
        (b"x", "../../x"),
        (b"x", "text/html\n"),
        (PICTURE, "image/png"),
        (b"<b>", "text/html"),
    ):
        anybody.publish(reader, encrypted(signed(content, alice, reader, cty=content_type), reader))
    assert alice.send(reader, "a text").status == 0
    files = tmp_path / "files"
    with reader.start(RECEIVER, "--save-dir", str(files), "-C", "3") as receiver:
        assert receiver.wait_for_end() == 0
        assert sum("refused reason=inner-malformed cty " in line for line in receiver.stderr) == 2
        lines = [json.loads(line) for line in receiver.stdout]
    picture, page = sorted(files.iterdir(), key=lambda file: file.suffix, reverse=True)
    assert (picture.suffix, picture.read_bytes()) == (".png", PICTURE)
    assert (page.suffix, page.read_bytes()) == (".bin", b"<b>")
    assert lines == [
        f"{alice.name} sent 10 bytes in the file {picture} of type image/png",
        f"{alice.name} sent 3 bytes in the file {page} of type text/html",
        f"{alice.name} says: a text",
    ]


def test_content_waits_for_room_on_the_disk(
    alice: Device, reader: Device, small_disk: Path, anybody: BrokerClient
) -> None:
    (small_disk / "files").mkdir()
    remount = ["mount", "-o", "remount"]
    subprocess.run([*remount, "-r", str(small_disk)], check=True)
    ended = reader.run(RECEIVER, "--save-dir", str(small_disk / "files"))
    assert (ended.status, ended.stdout) == (1, "")
    assert f"Error: the directory '{small_disk}/files' is read-only for this user" in ended.stderr
    subprocess.run([*remount, "-w", str(small_disk)], check=True)
    filler = fill(small_disk)
    anybody.publish(reader, encrypted(signed(PICTURE, alice, reader, cty="image/png"), reader))
    with reader.start(RECEIVER, "--save-dir", str(small_disk / "files"), "-C", "1") as receiver:
        receiver.wait_for_log("Messages wait for the disk: the directory")
        assert receiver.stdout == []
        filler.unlink()
        assert receiver.wait_for_end() == 0
        assert len(receiver.stdout) == 1
    (file,) = (small_disk / "files").iterdir()
    assert file.read_bytes() == PICTURE
