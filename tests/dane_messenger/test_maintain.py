"""`dane-messenger maintain`, the maintenance service outside of a container."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idlib.names import IdentityName
from messaging_maintenance.health import Health, keep_health

NAME = IdentityName("alice._device.example.test")


@pytest.mark.parametrize("settings", [{}, {"DNS_PUBLISH": "desec"}], ids=["idle", "publishing"])
def test_it_stays_small_and_ends_with_a_signal(settings: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "dane_messenger", "maintain"]
    environment = {"PATH": os.environ["PATH"], **settings}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr
        lines: list[str] = []
        while not lines or "identity new" not in lines[-1]:
            lines.append(service.stderr.readline())
            assert lines[-1], lines
        service.send_signal(signal.SIGTERM)
        assert service.wait(10) == 0
    assert "maintenance waiting\n" in lines
    assert lines[-1] == "To create an identity, run dane-messenger identity new; see --help.\n"
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert not imported & {"argparse", "logging", "socket", "cryptography", "idlib.settings"}


@pytest.mark.parametrize(
    ("found", "status"), [("ok: the record is in DNS", 0), ("a record of the device's key is not in DNS", 1)]
)
def test_it_prints_what_the_last_check_found(found: str, status: int, tmp_path: Path) -> None:
    keep_health(tmp_path, Health(found, time.time(), time.time()), os.geteuid())
    environment = {"PATH": os.environ["PATH"], "IDENTITY_NAME": str(NAME), "CRYPTO_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "dane_messenger", "maintain", "--health"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (status, f"{found}\n")
    assert ended.stderr == ""


def test_a_wrong_argument_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "dane_messenger", "maintain", "--no-such-option"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 64
    assert "unrecognized arguments: --no-such-option" in ended.stderr
