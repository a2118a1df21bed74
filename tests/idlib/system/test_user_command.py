import os
import shlex
import time
from pathlib import Path

import pytest

from idlib.system.user_command import run_user_command


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
