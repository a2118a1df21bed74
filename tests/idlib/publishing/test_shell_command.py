"""DNS_PUBLISH_COMMAND, with real commands."""

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from idlib.errors import PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet, present
from idlib.publishing.record_types import epoch_place, tlsa_place
from idlib.publishing.shell_command import ShellCommand
from idlib.publishing.zone import NameServer, Zone
from idlib.settings import ServerAddress

NAME = IdentityName("alice._device.example.test")
OLD, NEW, KEPT = (bytes((3, 1, 1)) + bytes([number]) * 32 for number in range(3))
CHANGE = Change(NAME, PublishedSet.of(60, [OLD, KEPT]), PublishedSet.of(300, [NEW, KEPT]))
SERVERS = (NameServer("ns.example.test", ServerAddress("127.0.0.1")),)
ZONE = Zone("example.test", "ns.example.test", 3600, SERVERS, ())


def apply(command: str, change: Change = CHANGE, seconds: float = 30) -> None:
    ShellCommand(tlsa_place(NAME), ZONE, command, seconds).apply(change)


def why_not(command: str, seconds: float = 30) -> str:
    with pytest.raises(PublishingError) as caught:
        apply(command, seconds=seconds)
    # A command may have a secret in it.
    assert command not in str(caught.value)
    return str(caught.value)


def test_the_command_gets_the_change_as_one_line_of_json(tmp_path: Path) -> None:
    apply(f"cat >{shlex.quote(str(tmp_path / 'change'))}")
    (line,) = (tmp_path / "change").read_text().splitlines()
    assert json.loads(line) == {
        "zone": "example.test",
        "name": "alice._device.example.test",
        "type": "TLSA",
        "ttl": 300,
        "add": [present(NEW)],
        "remove": [present(OLD)],
        "records": [present(KEPT), present(NEW)] if KEPT < NEW else [present(NEW), present(KEPT)],
    }


def test_texts_are_in_lists_of_their_own(tmp_path: Path) -> None:
    change = Change(
        NAME, PublishedSet.of(60, [b"\x03old", b'\x03"\\;']), PublishedSet.of(300, [b"\x03new", b'\x03"\\;'])
    )
    ShellCommand(epoch_place(NAME), ZONE, f"cat >{shlex.quote(str(tmp_path / 'change'))}").apply(change)
    assert json.loads((tmp_path / "change").read_text()) == {
        "zone": "example.test",
        "name": "_epoch.alice._device.example.test",
        "type": "TXT",
        "ttl": 300,
        "add_txt": ['"new"'],
        "remove_txt": ['"old"'],
        "records_txt": ['"\\034\\092;"', '"new"'],
    }


def test_a_command_that_knows_only_tlsa_fails_before_it_changes_anything(tmp_path: Path) -> None:
    program = (
        f"import json, sys; added = json.load(sys.stdin)['add']; open({str(tmp_path / 'x')!r}, 'w').write(added[0])"
    )
    change = Change(NAME, PublishedSet.of(0, ()), PublishedSet.of(300, [b"\x03new"]))
    with pytest.raises(PublishingError, match="ended with status 1"):
        ShellCommand(epoch_place(NAME), ZONE, f"{sys.executable} -c {shlex.quote(program)}").apply(change)
    assert not (tmp_path / "x").exists()


def test_a_removal_has_the_ttl_of_the_records_that_were_there(tmp_path: Path) -> None:
    apply(
        f"cat >{shlex.quote(str(tmp_path / 'change'))}",
        Change(NAME, PublishedSet.of(60, [OLD]), PublishedSet.of(0, ())),
    )
    change = json.loads((tmp_path / "change").read_text())
    assert (change["ttl"], change["add"], change["records"]) == (60, [], [])
    assert change["remove"] == [present(OLD)]


def test_stdout_of_the_command_is_not_stdout_of_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    apply("echo to stdout; echo to stderr >&2")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "to stdout\nto stderr\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 3", "DNS_PUBLISH_COMMAND ended with status 3; see what it printed"),
        ("cat >/dev/null; false", "ended with status 1"),
        ("kill -TERM $$", "ended with signal 15"),
        ("/no/such/program --token secret", "DNS_PUBLISH_COMMAND was not found; give its absolute path"),
        ("/etc/passwd", "DNS_PUBLISH_COMMAND is not executable; run chmod +x on it"),
    ],
)
def test_a_command_that_fails_says_how(command: str, words: str) -> None:
    assert words in why_not(command)


def test_a_command_need_not_read_its_stdin() -> None:
    large = Change(
        NAME, PublishedSet.of(0, ()), PublishedSet.of(300, [bytes((3, 0, 0)) + bytes([n]) * 60_000 for n in range(8)])
    )
    apply("exec <&-; exit 0", large)


def test_a_command_that_does_not_end_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    words = why_not(f"sleep 60 & echo $! >{shlex.quote(str(pid_file))}; wait", seconds=1)
    assert words == "DNS_PUBLISH_COMMAND did not end within 1 s and was killed; run it by hand to see why"
    wait_until_gone(int(pid_file.read_text()))


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended may still be in the table of processes."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
