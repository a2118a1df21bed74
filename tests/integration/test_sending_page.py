"""The commands of docs/automation.md that send, run unchanged except for the names of devices."""

import json
import subprocess
from pathlib import Path

import pytest

from testbed.lab import Lab
from testbed.programs import ROOT, Device
from tests.documents import block

AUTOMATION = "docs/automation.md"
NAMES = ("bob._device.example.com", "carol._device.example.com")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a directory with the command dane-messenger in `bin`."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dane-messenger"
    command.write_text(f'#!/bin/sh\nexec {ROOT}/.venv/bin/python -m dane_messenger "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(home: Path, sender: Device, commands: str) -> subprocess.CompletedProcess[str]:
    environment = sender.environment()
    environment["PATH"] = f"{home}/bin:{environment['PATH']}"
    return subprocess.run(
        ["sh", "-uc", commands], cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_file_is_sent(home: Path, alice: Device, lab: Lab) -> None:
    device = lab.published_device("page").with_settings(OUTPUT_FORMAT="json")
    (home / "picture.jpg").write_bytes(b"\xff\xd8\xff" + bytes(36_000))
    with device.receiver() as receiver:
        done = run(home, alice, block(AUTOMATION, "sending a file").replace(NAMES[0], device.name))
        assert done.returncode == 0, done
        receiver.wait_for_message("image/jpeg")
        assert json.loads(receiver.stdout[0])["sender"] == alice.name


def test_the_script_shows_which_devices_did_not_get_the_message(home: Path, alice: Device, lab: Lab) -> None:
    devices = [lab.published_device("page"), lab.device("nobody")]
    script = block(AUTOMATION, "sending to several devices")
    for name, device in zip(NAMES, devices, strict=True):
        script = script.replace(name, device.name)
    with devices[0].receiver() as receiver:
        done = run(home, alice, script)
        receiver.wait_for_message("Dinner is ready")
    assert done.stdout.startswith(f"{devices[1].name}: {devices[1].name} does not exist in DNS")
    assert len(done.stdout.splitlines()) == 1
