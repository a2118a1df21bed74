"""What a check of the maintenance service makes of damaged files, wrong times and bad settings."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib import keys
from idlib.errors import ConfigurationError, ExitStatus, KeyFileError
from messaging_maintenance import watch
from messaging_maintenance.health import HEALTH_FILE_NAME, Health, print_health, problem_since
from tests.applications.maintenance.rotation.world import DAY, NAME, World


@pytest.fixture
def health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the health file."""
    monkeypatch.setenv("CRYPTO_PATH", str(tmp_path))
    monkeypatch.setenv("IDENTITY_NAME", NAME.text)
    return tmp_path / HEALTH_FILE_NAME


def keep(path: Path, text: str, *, since: float, checked: float) -> None:
    path.write_text(json.dumps({"text": text, "since": since, "checked": checked}))


def test_a_service_that_has_not_checked_yet_is_healthy(health: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not health.exists()
    assert print_health() is ExitStatus.OK
    assert capsys.readouterr().out == "ok: the identity has not been checked yet\n"


@pytest.mark.parametrize(
    "spoil", [Path.mkdir, os.mkfifo, lambda path: path.write_text("{"), lambda path: path.symlink_to(path)]
)
def test_a_health_that_cannot_be_read_is_not_healthy(
    health: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object]
) -> None:
    spoil(health)
    assert print_health() is ExitStatus.CONFIGURATION
    assert capsys.readouterr().out.startswith("the result of the last identity check cannot be read")


@pytest.mark.parametrize("directory", ["identity", "~nobody-has-this-name/identity", "", " "])
def test_a_directory_that_cannot_be_used_is_named_by_the_check_and_by_the_health(
    health: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    monkeypatch.chdir(health.parent)
    monkeypatch.setenv("CRYPTO_PATH", directory)
    with pytest.raises(ConfigurationError, match="Bad value of env var CRYPTO_PATH"):
        watch.main()
    assert print_health() is ExitStatus.CONFIGURATION
    assert capsys.readouterr().out.startswith("Bad value of env var CRYPTO_PATH")


@pytest.mark.parametrize("checked", [-3 * DAY, 3 * DAY])
def test_a_check_of_another_day_than_today_is_not_healthy(
    health: Path, capsys: pytest.CaptureFixture[str], checked: float
) -> None:
    keep(health, "ok: the record is in DNS", since=0, checked=time.time() + checked)
    assert print_health() is ExitStatus.CONFIGURATION
    assert "the last identity check ended" in capsys.readouterr().out


def test_a_problem_that_seems_to_begin_in_the_future_begins_now() -> None:
    now = time.time()
    assert problem_since(Health("bad", now - 5, now)) == now - 5
    assert problem_since(Health("bad", now + DAY, now)) <= time.time()


def test_a_key_from_the_future_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.create()
    future = time.time() + 3650 * DAY
    os.utime(keys.key_path(tmp_path, NAME), (future, future))
    with pytest.raises(KeyFileError, match=r"the key's file is from the future.*check the clock"):
        watch._rotate(world.rotation, world.identity, world.settings, 90 * DAY)
