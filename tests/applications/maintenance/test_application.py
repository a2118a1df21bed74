import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "applications" / "maintenance" / "src" / "application.py"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("environment", "name"), [({}, "maintenance"), ({"BALENA_SERVICE_NAME": "keeper"}, "keeper")])
def test_it_prints_what_can_be_run_and_waits_for_a_signal(
    tmp_path: Path, ending: signal.Signals, environment: dict[str, str], name: str
) -> None:
    with subprocess.Popen(
        [str(PROGRAM)],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert process.stderr.readline() == f"{name} waiting\n"
        assert "./create_selfsigned_id.py" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(ending)
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")


def test_it_prints_that_it_looks_after_the_identity(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DNS_PUBLISH": "desec"}
    with subprocess.Popen([str(PROGRAM)], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "maintenance waiting\n"
        assert "The identity is checked twice a day" in process.stderr.readline()
        process.terminate()


def test_it_stays_small(tmp_path: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import runpy; runpy.run_path({str(PROGRAM)!r})"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    imported = {line.rpartition("|")[2].strip() for line in listed.splitlines()}
    assert {module for module in imported if module.startswith("idlib")} == {
        "idlib",
        "idlib.program",
        "idlib.program.keep_open",
        "idlib.program.log_format",
        "idlib.system",
        "idlib.system.interruption",
        "idlib.system.update_lock",
    }
    assert not imported & {"argparse", "cryptography", "logging", "socket"}


def test_it_prints_its_health(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), "--health"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("ok")
    assert len(ended.stdout) <= 100


def test_a_wrong_argument_is_reported_if_the_identity_is_looked_after(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DNS_PUBLISH": "command"}
    command = [sys.executable, str(PROGRAM), "--no-such-option"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 64
    assert "--no-such-option" in ended.stderr


@pytest.mark.parametrize("speed", ["9" * 400, "9" * 5000, "\u0660", "-1", "x"])
def test_a_bad_test_speed_does_not_end_it(tmp_path: Path, speed: str) -> None:
    environment = {"PATH": os.environ["PATH"], "DNS_PUBLISH": "command", "ROTATE_TEST_SPEED": speed}
    with subprocess.Popen([str(PROGRAM)], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "maintenance waiting\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=10)[1]
    assert process.returncode == 0


def test_a_check_that_does_not_end_is_killed_and_the_next_one_follows(tmp_path: Path) -> None:
    endless = f"import time; open({str(tmp_path / 'checks')!r}, 'a').write('x'); time.sleep(1000)"
    with _service_with(
        tmp_path, f"application._LONGEST_CHECK_SECONDS = 1.0; application._CHECK = ['-c', {endless!r}]"
    ) as process:
        assert process.stderr
        for _ in range(2):
            assert "The identity check did not end within 1 s, and is ended" in process.stderr.readline()
    assert (tmp_path / "checks").read_text().startswith("xx")


def test_a_check_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    with _service_with(tmp_path, "application.sys.executable = '/nonexistent'") as process:
        assert process.stderr
        for _ in range(2):
            assert "The identity check cannot be started: No such file or directory" in process.stderr.readline()


@pytest.mark.parametrize("is_rotating", [False, True])
def test_the_running_time_is_noted_between_checks_while_a_rotation_is_under_way(
    tmp_path: Path,
    is_rotating: bool,  # noqa: FBT001
) -> None:
    if is_rotating:
        (tmp_path / "alice._device.example.test.rotation.json").touch()
    note = f"open({str(tmp_path / 'notes')!r}, 'a').write('x')"
    change = (
        f"application.os.environ['CRYPTO_PATH'] = {str(tmp_path)!r}; application._NOTE_SECONDS = 0.1;"
        f" application._NOTE = ['-c', {note!r}]; application._pause = lambda _: 1000"
    )
    with _service_with(tmp_path, change):
        deadline = time.monotonic() + (20 if is_rotating else 1)
        while not (tmp_path / "notes").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert (tmp_path / "notes").exists() is is_rotating


def test_a_directory_that_cannot_be_read_does_not_end_the_service(tmp_path: Path) -> None:
    change = (
        "application.os.environ['CRYPTO_PATH'] = '/nonexistent'; application._NOTE_SECONDS = 0.05;"
        " application._pause = lambda _: 1000"
    )
    with _service_with(tmp_path, change) as process, pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)


@pytest.mark.parametrize(("status", "is_repeated"), [(0, False), (11, True)])
def test_what_is_in_the_spool_is_published_and_a_failed_attempt_is_repeated(
    tmp_path: Path,
    status: int,
    is_repeated: bool,  # noqa: FBT001
) -> None:
    (tmp_path / "alice._device.example.test.epochs").write_text("epoch1:")
    attempt = f"open({str(tmp_path / 'attempts')!r}, 'a').write('x'); raise SystemExit({status})"
    change = (
        "application.os.environ['IDENTITY_NAME'] = 'alice._device.example.test';"
        f" application.os.environ['EPOCH_SPOOL'] = {str(tmp_path)!r}; application._PUBLISH = ['-c', {attempt!r}];"
        " application._pause = lambda seconds: 1000 if seconds == application._FIRST_CHECK_SECONDS == 1 else 0.1;"
        " application._FIRST_CHECK_SECONDS = 1"
    )
    with _service_with(tmp_path, change):
        deadline = time.monotonic() + 20
        while not (tmp_path / "attempts").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
    assert (len((tmp_path / "attempts").read_text()) > 1) is is_repeated


@contextlib.contextmanager
def _service_with(directory: Path, change: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the service with a change to its module; it must end without a traceback."""
    code = f"from messaging_maintenance import application; {change}; application.main()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "DNS_PUBLISH": "command", "ROTATE_TEST_SPEED": "1000000"},
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert process.stderr.readline() == "maintenance waiting\n"
        for _ in range(2):
            process.stderr.readline()
        yield process
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=20)[1]
    assert process.returncode == 0


def test_it_ends_at_once_while_a_check_runs(tmp_path: Path) -> None:
    """The check waits for a resolver that never answers."""
    # Anyone may have put it into the present directory: it must not be the check.
    (tmp_path / "messaging_maintenance.py").write_text("raise SystemExit")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        environment = {
            "PATH": os.environ["PATH"],
            "IDENTITY_NAME": "alice._device.example.test",
            "CRYPTO_PATH": str(tmp_path / "identity"),
            "APP_UID": str(os.getuid()),
            "DNS_RESOLVER": f"127.0.0.1:{silent.getsockname()[1]}",
            "DNS_PUBLISH": "command",
            "DNS_PUBLISH_COMMAND": "false",
            "ROTATE_TEST_SPEED": "1000000",
        }
        create = [sys.executable, str(PROGRAM.with_name("create_selfsigned_id.py"))]
        subprocess.run(create, env=environment, capture_output=True, check=True)
        with subprocess.Popen([str(PROGRAM)], env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
            silent.settimeout(30)
            silent.recv(512)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
        assert process.returncode == 0
        assert time.monotonic() - started < 3
        # Nobody asks any more.
        silent.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.recv(512)
        silent.settimeout(3)
        with pytest.raises(TimeoutError):
            silent.recv(512)
