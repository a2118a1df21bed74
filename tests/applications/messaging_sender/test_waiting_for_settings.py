"""The resident sender waits for settings that it can use, and says once what is wrong, as text and as JSON."""

import io
import json
import sys
import threading
from pathlib import Path

import pytest

from idlib.errors import ExitStatus
from idlib.program.json_lines import JsonStderr
from messaging_sender import application

PROBLEM = "MQTT_CA_FILE is set, and MQTT_TLS is off"
# Twice, because the second check must not write the same again; then once more with good settings.
CHECKS = 2


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_lasting_problem_is_written_once_although_each_line_has_another_time(
    log_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "IDENTITY_NAME": "alice._device.example.com",
        "DATA_PATH": str(tmp_path),
        "MQTT_CA_FILE": "/absent.pem",
        # Its warning has the time of the log.
        "DNSSEC": "off",
        "LOG_FORMAT": log_format,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(application, "SETTINGS_SECONDS", 0.01)
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", JsonStderr(written) if log_format == "json" else written)
    checked = []
    check = application._check

    def counting(stopping: threading.Event) -> tuple[int, str]:
        result = check(stopping)
        checked.append(result)
        if len(checked) == CHECKS:
            monkeypatch.delenv("MQTT_CA_FILE")
        return result

    monkeypatch.setattr(application, "_check", counting)
    assert application._await_usable_settings(threading.Event())
    assert len({output for _, output in checked}) == CHECKS + 1
    lines = written.getvalue().splitlines()
    assert [PROBLEM in line for line in lines].count(True) == 1
    if log_format == "json":
        assert all(list(json.loads(line))[:3] == ["time", "level", "message"] for line in lines)


def test_the_check_runs_nothing_from_the_present_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_NAME", "not a name")
    (tmp_path / "messaging_sender.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    status, output = application._check(threading.Event())
    assert status == ExitStatus.CONFIGURATION
    assert "IDENTITY_NAME" in output
