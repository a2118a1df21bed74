import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.daemons.process import free_port

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "alice._device.example.test"


@pytest.fixture
def alone() -> dict[str, str]:
    """Return the settings of a device that reaches nothing."""
    port = free_port()
    return {
        "DNS_RESOLVER": f"127.0.0.1:{port}",
        "DNS_SERVER_PORT": str(port),
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": str(port),
    }


@pytest.mark.parametrize("arguments", [("not a name",), ("one.example", "two.example"), ("--jso",)])
def test_wrong_usage_is_status_64(arguments: tuple[str, ...], run: Run) -> None:
    ended = run("check_identity.py", *arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert len(ended.stderr.splitlines()) == 1


def test_a_device_that_reaches_nothing_still_learns_what_is_wrong(
    run: Run, alone: dict[str, str], tmp_path: Path
) -> None:
    assert run("create_selfsigned_id.py").returncode == 0
    ended = run("check_identity.py", "--json", **alone, DATA_PATH=str(tmp_path))
    items = {item["id"]: item["status"] for item in json.loads(ended.stdout)["items"]}
    assert ended.returncode == 8
    assert items["key.file"] == items["certificate.match"] == items["data.path"] == "ok"
    assert items["resolver.answers"] == items["broker.reachable"] == "fail"
    assert items["chain"] == items["key.published"] == "skip"


def test_of_another_device_nothing_could_be_checked(run: Run, alone: dict[str, str]) -> None:
    ended = run("check_identity.py", "bob._device.example.test", **alone)
    assert ended.returncode == 9
    assert ended.stdout.splitlines()[-1].startswith("not checked: ")


def test_a_missing_key_is_a_failure(run: Run, alone: dict[str, str]) -> None:
    ended = run("check_identity.py", "--json", **alone)
    items = {item["id"]: item for item in json.loads(ended.stdout)["items"]}
    # There is no certificate either, which is the same failure.
    assert (items["key.file"]["status"], items["certificate.file"]["status"]) == ("fail", "skip")
    assert "create_selfsigned_id.py" in items["key.file"]["hint"]
    assert items["broker.probe"]["status"] == "skip"
