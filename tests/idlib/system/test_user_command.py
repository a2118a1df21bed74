import os
import shlex
import signal
import time
from pathlib import Path

import pytest

from idlib.system.user_command import run_user_command, run_without_shell


def run(command: str, seconds: float = 30, **environment: str) -> int:
    return run_user_command(command, "a line\n", {"PATH": os.environ["PATH"], **environment}, seconds)


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("exit 3", 3), ("kill -TERM $$", -15), ("exec <&-", 0)])
def test_the_status_says_how_it_ended(command: str, status: int) -> None:
    assert run(command) == status


def test_it_gets_its_input_and_its_environment(capfd: pytest.CaptureFixture[str]) -> None:
    assert run('cat; echo "$STEP"', STEP="switch") == 0
    assert capfd.readouterr() == ("", "a line\nswitch\n")


def test_if_it_takes_too_long_all_that_it_has_started_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(TimeoutError) as caught:
        run(f"sleep 60 & echo $! >{shlex.quote(str(pid_file))}; wait # secret", seconds=1)
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)
    deadline = time.monotonic() + 10
    while is_running(int(pid_file.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended may still be in the table of processes."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def run_words(*words: str, stdin: bytes = b"a line\n", seconds: float = 30, wanted: float = 30) -> int | None:
    end = time.monotonic() + wanted
    return run_without_shell(words, stdin, {"PATH": os.environ["PATH"]}, seconds, lambda: time.monotonic() < end)


@pytest.mark.parametrize(
    ("words", "status"), [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -TERM $$"], -15)]
)
def test_without_a_shell_the_status_says_how_it_ended(words: list[str], status: int) -> None:
    assert run_words(*words) == status
    # More than a pipe holds, which the command does not read.
    assert run_words(*words, stdin=bytes(1 << 20)) == status


def test_without_a_shell_a_slow_command_gets_all_of_its_input(tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    assert run_words("sh", "-c", f"sleep 0.6; cat >{shlex.quote(str(tmp_path / 'got'))}", stdin=content) == 0
    assert (tmp_path / "got").read_bytes() == content


def test_without_a_shell_nothing_is_expanded(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words("printf", "%s\n", "$HOME; $(id)") == 0
    assert run_words("cat", stdin=b"\xc3\xbc$(id)\n") == 0
    assert capfd.readouterr() == ("$HOME; $(id)\nü$(id)\n", "")


@pytest.mark.parametrize(("seconds", "wanted"), [(1.0, 30.0), (30.0, 1.0)])
def test_without_a_shell_all_is_killed_when_it_must_end(seconds: float, wanted: float, tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{shlex.quote(str(tmp_path / 'pid'))}; wait"
    if wanted > seconds:
        with pytest.raises(TimeoutError):
            run_words("sh", "-c", script, seconds=seconds)
    else:
        assert run_words("sh", "-c", script, wanted=wanted) is None
    deadline = time.monotonic() + 10
    while is_running(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_shell_what_is_left_running_is_not_awaited(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert run_words("sh", "-c", f"sleep 60 & echo $! >{shlex.quote(str(file))}", stdin=bytes(1 << 20)) == 0
    pid = int(file.read_text())
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_without_a_shell_a_command_that_is_missing_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        run_words("/nonexistent/command")


def test_without_a_shell_a_command_that_may_not_be_killed_has_taken_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_without_permission(group: int, _: int) -> None:
        # It ends by itself.
        os.kill(group, signal.SIGTERM)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", end_without_permission)
    with pytest.raises(TimeoutError):
        run_words("sleep", "60", seconds=0.1)
