"""`--env-file` in every program, as a user gives it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dane_messenger.command import VERBS
from testbed.programs import ROOT

PROGRAMS = sorted(path for path in ROOT.glob("applications/*/src/*.py") if path.read_text().startswith("#!"))
COMMAND = Path(sys.executable).with_name("dane-messenger")
NAME = "alice._device.example.test"
# What a command line needs beside options.
ARGUMENTS = {"send": ["bob._device.example.test", "hello"], "identity rotate": ["status"]}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Return a file with the settings of a device that has no identity yet."""
    path = tmp_path / "alice.env"
    lines = (
        f"# {NAME}",
        f"IDENTITY_NAME={NAME}",
        f'CRYPTO_PATH="{tmp_path}/identity"',
        f"DATA_PATH='{tmp_path}/data'",
        f"APP_UID={os.getuid()}",
    )
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "completion"])
def test_every_verb_reports_a_file_with_a_fault(verb: str, settings: Path) -> None:
    settings.write_text("IDENTITY_NAME\n")
    ended = run(str(COMMAND), *verb.split(), "--env-file", str(settings), *ARGUMENTS.get(verb, []))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Error: '{settings}', line 1: it has no equals sign; write NAME=VALUE\n"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_every_file_of_the_article_reports_a_file_that_is_missing(program: Path) -> None:
    ended = run(sys.executable, str(program), "--env-file", "/nonexistent")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Error: '/nonexistent' cannot be read: No such file or directory\n"


def test_the_settings_of_a_file_are_used(settings: Path, tmp_path: Path) -> None:
    created = run(str(COMMAND), "identity", "create", "--env-file", str(settings))
    assert created.returncode == 0, created.stderr
    assert (tmp_path / "identity" / f"{NAME}.key.pem").exists()
    printed = run(str(COMMAND), "identity", "tlsa", f"--env-file={settings}", "--format", "zone")
    assert printed.stdout.startswith(f"{NAME}. 300 IN TLSA ")


def test_the_environment_wins_over_the_file(settings: Path) -> None:
    ended = run(str(COMMAND), "identity", "create", "--env-file", str(settings), APP_UID="root")
    assert ended.stderr.startswith("Bad value of env var APP_UID: 'root'; ")


def test_a_bad_value_of_a_file_is_reported_as_one_of_the_environment(settings: Path) -> None:
    settings.write_text("IDENTITY_NAME=not a name\n")
    ended = run(str(COMMAND), "identity", "create", "--env-file", str(settings))
    assert ended.returncode == 1
    assert ended.stderr.startswith("Bad value of env var IDENTITY_NAME: 'not a name'")


def test_wrong_usage_is_reported_in_the_log_format_of_the_file(settings: Path) -> None:
    settings.write_text("LOG_FORMAT=json\n")
    ended = run(str(COMMAND), "receive", "--env-file", str(settings), "-C", "0")
    assert ended.returncode == 64
    assert json.loads(ended.stderr)["exit_status_name"] == "usage"


def test_a_setting_that_is_missing_is_reported_in_the_log_format_of_the_file(settings: Path) -> None:
    settings.write_text("LOG_FORMAT=json\n")
    ended = run(str(COMMAND), "deliver", "--env-file", str(settings), "--check")
    assert ended.returncode == 1
    assert {json.loads(line)["exit_status_name"] for line in ended.stderr.splitlines()} == {"configuration"}


def test_the_option_is_given_once(settings: Path) -> None:
    ended = run(str(COMMAND), "identity", "create", "--env-file", str(settings), "--env-file", str(settings))
    assert ended.returncode == 64
    assert ended.stderr == (
        "dane-messenger identity create: give --env-file once; see dane-messenger identity create --help\n"
    )


def test_the_health_of_a_receiver_is_the_one_of_the_file(settings: Path, tmp_path: Path) -> None:
    for words in (["--health", "--env-file", str(settings)], ["--env-file", str(settings), "--health"]):
        ended = run(str(COMMAND), "receive", *words)
        assert (ended.returncode, ended.stderr) == (1, "")
        assert ended.stdout == run(str(COMMAND), "receive", "--health", **environment_of(tmp_path)).stdout


def environment_of(tmp_path: Path) -> dict[str, str]:
    return {"IDENTITY_NAME": NAME, "DATA_PATH": str(tmp_path / "data")}


def test_a_command_of_the_user_gets_the_variables_of_the_file(settings: Path) -> None:
    settings.write_text("API_TOKEN=hunter2\n")
    program = (
        "import os, sys; from idlib.program.command_line import parser, run\n"
        "from idlib.system.user_command import run_user_command\n"
        "def main():\n"
        "    parser('', '').parse_args()\n"
        "    run_user_command('echo \"$API_TOKEN\" >&2', '', {**os.environ}, 60)\n"
        "run(main)"
    )
    ended = run(sys.executable, "-c", program, "--env-file", str(settings))
    assert (ended.returncode, ended.stderr) == (0, "hunter2\n")


def test_the_maintenance_service_looks_after_the_identity_if_the_file_has_a_method(settings: Path) -> None:
    settings.write_text(f"{settings.read_text()}\nDNS_PUBLISH=command\n")
    program = str(ROOT / "applications/maintenance/src/application.py")
    health = run(sys.executable, program, "--env-file", str(settings), "--health")
    assert (health.returncode, health.stdout) == (0, "ok: the identity has not been checked yet\n")
    with subprocess.Popen(
        [sys.executable, program, "--env-file", str(settings)],
        env={"PATH": os.environ["PATH"]},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "maintenance waiting\n"
        assert process.stderr.readline().startswith("The identity is checked twice a day; ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
