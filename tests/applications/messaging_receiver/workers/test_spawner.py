"""The spawner starts and ends worker processes for a receiver that has threads; everything here is real processes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idlib.settings import load
from messaging_receiver.workers.opening import open_spawner

ROOT = Path(__file__).parents[4]
# Python warns of a fork in a process that has threads.
COMMAND = [sys.executable, "-W", "error", "-m", "tests.applications.messaging_receiver.workers.spawning"]


def run(scenario: str) -> tuple[list[str], str]:
    """Return the lines that a scenario has printed, and its log."""
    done = subprocess.run([*COMMAND, scenario], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "closed"
    return lines, done.stderr


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_workers_can_be_started_from_any_thread() -> None:
    lines, log = run("from_threads")
    assert lines == ["it was ended by signal 9"] * 4 + ["4"]
    assert log == ""


def test_it_reports_how_a_worker_has_ended() -> None:
    lines, log = run("ends")
    assert lines == ["lost it was ended by signal 11", "lost it ended with status 70", "late it was ended by signal 9"]
    assert "Internal error in a worker process" in log
    assert "RuntimeError: a deliberate error" in log


def test_a_worker_has_nothing_open_but_its_connection_and_stderr() -> None:
    lines, _ = run("files")
    files = [line for line in lines if not line.startswith("/proc/")]
    assert files[:2] == [os.devnull] * 2
    assert [file.partition(":")[0] for file in files if file != os.devnull] == ["pipe", "socket"]


def test_without_the_spawner_no_worker_can_be_started() -> None:
    lines, _ = run("without_spawner")
    assert lines == ["the process that starts worker processes has ended; start the receiver again"]


def test_it_reports_that_the_system_has_no_resources() -> None:
    lines, log = run("no_resources")
    assert lines == ["[Errno 11] Resource temporarily unavailable"]
    assert log == ""


def test_if_the_system_has_no_resources_at_the_start_the_receiver_works_without_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with open_spawner(load({"IDENTITY_NAME": "bob.example"}), 2) as spawner:
        assert spawner is None
    assert caplog.messages == ["Messages are opened without worker processes: Resource temporarily unavailable"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_stays_when_the_receiver_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "wait"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        numbers = list(map(int, process.stdout.readline().split()))
        assert all(map(is_running, numbers))
        process.send_signal(number)
        process.wait(20)
    deadline = time.monotonic() + 10
    while any(map(is_running, numbers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_of_the_process_group_to_the_receiver(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "wait"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        _, *others = map(int, process.stdout.readline().split())
        for other in others:
            os.kill(other, number)
        time.sleep(0.2)
        assert all(map(is_running, others))
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert not any(map(is_running, others))
