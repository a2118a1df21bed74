"""What one check of the maintenance service does, logs and keeps for `--health`."""

import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from idlib import keys
from idlib.errors import ConfigurationError, CredentialError, ExitStatus, PublishingError
from idlib.publishing.change import PublishedSet
from idlib.settings import load
from messaging_maintenance import watch
from messaging_maintenance.health import HEALTH_FILE_NAME, print_health
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import DAY, HOUR, NAME, World

SECRET: Final = "hunter2-token"
VANISHED: Final = "a record of the device's key is not in DNS"


class Service:
    """The maintenance service of a device: its environment, its clock and its log."""

    def __init__(
        self, world: World, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.world = world
        self.hooks = directory / "hooks"
        self._caplog = caplog
        self._monkeypatch = monkeypatch
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(time, "time", lambda: world.wall)
        # Logging to the real stderr would replace what collects the log.
        monkeypatch.setattr(watch, "read_environment", lambda names: load(os.environ, names))
        monkeypatch.setattr(
            "messaging_maintenance.publishing.open_publishing", lambda _: (world.publishing, world.zone)
        )
        self.set(**world.environment, DNS_PUBLISH="command", DNS_PUBLISH_COMMAND=f"true {SECRET}")

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def unset(self, name: str) -> None:
        self._monkeypatch.delenv(name)

    def create(self) -> None:
        self.world.create()
        key = keys.key_path(self.world.directory, NAME)
        os.utime(key, (self.world.wall, self.world.wall))

    def check(self) -> list[str]:
        """Check once, and return what was logged, with the levels."""
        self._caplog.clear()
        watch.main()
        lines = [f"{record.levelname} {record.getMessage()}" for record in self._caplog.records]
        assert SECRET not in "".join(lines)
        assert SECRET not in (self.world.directory / HEALTH_FILE_NAME).read_text()
        return lines


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Service:
    directory = tmp_path / "identity"
    directory.mkdir()
    return Service(World(directory, monkeypatch), tmp_path, monkeypatch, caplog)


@pytest.fixture
def device(service: Service) -> Service:
    """Return a service whose device has an identity and a published record."""
    service.create()
    return service


def health(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = print_health()
    return status, capsys.readouterr().out.rstrip("\n")


def test_before_the_first_check_the_service_is_healthy(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert health(capsys) == (0, "ok: the identity has not been checked yet")


def test_without_an_identity_there_is_nothing_to_check(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert service.check() == []
    assert health(capsys) == (0, "ok: there is no identity yet")
    assert service.world.changes == []


def test_nothing_is_logged_while_all_is_well(device: Service, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert device.check() == []
    assert health(capsys) == (0, "ok: the record is in DNS")
    assert device.world.changes == []


def test_a_missing_record_is_a_warning_and_after_3_days_an_error(
    device: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    there = device.world.records
    device.world.records = PublishedSet.of(0, ())
    (line,) = device.check()
    assert line.startswith(f"WARNING Identity check failed: {VANISHED}; ")
    device.world.wall += 3 * DAY
    (line,) = device.check()
    assert line.startswith("WARNING ")
    device.world.wall += 1
    (line,) = device.check()
    assert line.startswith(f"ERROR Identity check failed: {VANISHED}; ")
    status, text = health(capsys)
    assert status != 0
    assert text.startswith(VANISHED)
    device.world.records = there
    assert device.check() == ["INFO Identity check succeeded again: the record is in DNS"]
    assert health(capsys) == (0, "ok: the record is in DNS")
    device.world.records = PublishedSet.of(0, ())
    (line,) = device.check()
    assert line.startswith("WARNING ")


def test_an_outage_is_unhealthy_only_if_it_lasts_and_is_not_logged_at_every_check(
    device: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> PublishedSet:
        raise PublishingError("no name server answers", "check the network")

    failed = "Identity check failed: no name server answers; check the network"
    monkeypatch.setattr(device.world, "read", fail)
    assert device.check() == [f"WARNING {failed}"]
    assert health(capsys) == (0, "ok: a problem that is not urgent yet: no name server answers; check the network")
    device.world.wall += DAY / 2
    assert device.check() == []
    device.world.wall += DAY / 2 + 1
    assert device.check() == [f"WARNING {failed}"]
    assert health(capsys) == (ExitStatus.CONFIGURATION, "no name server answers; check the network")
    device.world.wall += DAY / 2
    assert device.check() == []
    device.world.wall += 2 * DAY
    for _ in range(2):
        assert device.check() == [f"ERROR {failed}"]


def test_failures_to_change_a_key_become_urgent_when_it_is_overdue(
    device: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    device.set(ROTATE_EVERY="90d")
    device.world.pass_time(91 * DAY)
    device.world.fault = PublishingError("the server is down", "start it")
    assert device.check() == ["WARNING Identity check failed: the server is down; start it"]
    assert health(capsys)[0] == 0
    os.utime(keys.key_path(device.world.directory, NAME), (device.world.wall - 119 * DAY,) * 2)
    assert device.check() == ["ERROR Identity check failed: the server is down; start it"]
    assert health(capsys)[0] != 0


def test_a_certificate_that_ends_soon_is_reported_louder_as_time_runs_out(
    device: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    end = device.world.identity.get_local_cert_obj().not_valid_after_utc.timestamp()
    device.world.wall = end - 31 * DAY
    assert device.check() == []
    device.world.wall = end - 29 * DAY
    (line,) = device.check()
    assert line.startswith("WARNING Identity check failed: the certificate is valid until 20")
    assert line.endswith("dane-messenger identity rotate start")
    assert health(capsys)[0] == 0
    device.world.wall = end - 6 * DAY
    (line,) = device.check()
    assert line.startswith("WARNING ")
    assert health(capsys)[0] != 0
    device.world.wall = end - DAY
    (line,) = device.check()
    assert line.startswith("ERROR ")
    device.set(ROTATE_EVERY="90d")
    assert not any("certificate" in line for line in device.check())


def test_a_missing_record_is_restored_only_if_that_is_wanted(device: Service) -> None:
    there = device.world.records
    device.world.records = PublishedSet.of(0, ())
    device.set(RESTORE_RECORD="on", ROTATE_HOOK=f'echo "$ROTATE_STEP" >> {device.hooks}')
    assert device.check() == [f"WARNING Record restored: DNS did not have every record of {NAME}"]
    assert device.world.records == there
    assert device.hooks.read_text() == "restored\n"
    assert device.check() == []


def test_a_rejected_credential_is_reported(device: Service, capsys: pytest.CaptureFixture[str]) -> None:
    device.world.records = PublishedSet.of(0, ())
    device.world.fault = CredentialError("the server rejects the credential", "create another one")
    device.set(RESTORE_RECORD="on")
    expected = "the server rejects the credential; create another one"
    assert device.check() == [f"WARNING Identity check failed: {expected}"]
    assert health(capsys) == (ExitStatus.CONFIGURATION, expected)


def test_bad_settings_make_the_service_unhealthy(device: Service, capsys: pytest.CaptureFixture[str]) -> None:
    device.set(ROTATE_EVERY="soon")
    with pytest.raises(ConfigurationError):
        watch.main()
    status, text = health(capsys)
    assert status == ExitStatus.CONFIGURATION
    assert "ROTATE_EVERY" in text


def test_a_check_that_is_2_days_old_makes_the_service_unhealthy(
    device: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    device.check()
    device.world.wall += 2 * DAY
    assert health(capsys) == (0, "ok: the record is in DNS")
    device.world.wall += HOUR
    assert health(capsys) == (ExitStatus.CONFIGURATION, "the last identity check ended 49 hours ago")


def test_a_key_is_changed_when_that_is_due(device: Service, capsys: pytest.CaptureFixture[str]) -> None:
    device.set(ROTATE_EVERY="90d", ROTATE_HOOK=f'echo "$ROTATE_STEP $IDENTITY_NAME" >> {device.hooks}')
    assert device.check() == []
    assert health(capsys) == (0, "ok: the key is due to be changed in 90 days")
    device.world.pass_time(90 * DAY + 1)
    lines = device.check()
    assert "INFO Rotation started: the record of the next key is published" in lines
    assert device.hooks.read_text() == f"start {NAME}\n"
    assert device.world.state.stage is Stage.PUBLISHED
    assert health(capsys) == (0, "ok: a rotation was started")
    assert device.check() == []
    assert health(capsys) == (0, "ok: a rotation is at the stage published")


def test_a_key_with_a_certificate_from_a_ca_is_left_to_the_operator(
    device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.set(ROTATE_EVERY="90d")
    device.world.pass_time(91 * DAY)
    end = datetime.fromtimestamp(device.world.wall + 300 * DAY, UTC)
    other = type("Certificate", (), {"issuer": "a CA", "subject": "the device", "not_valid_after_utc": end})
    monkeypatch.setattr("idlib.bootstrap.Bootstrap.get_local_cert_obj", lambda _: other)
    monkeypatch.setattr(
        "messaging_maintenance.rotation.records.records_to_publish",
        lambda *_: [],
    )
    (line,) = device.check()
    assert line.startswith("WARNING Identity check failed: the key is due to be changed, but its certificate is from")
    assert device.world.next is None


def test_rotations_need_a_method_to_publish(device: Service) -> None:
    device.set(ROTATE_EVERY="90d")
    device.unset("DNS_PUBLISH")
    (line,) = device.check()
    assert line.startswith("WARNING Identity check failed: ")
    assert "ROTATE_EVERY needs DNS_PUBLISH" in line


def test_a_stolen_device_is_not_put_back_into_dns(device: Service) -> None:
    device.world.is_lossless = False
    device.world.rotation.start(Way.COMPROMISED)
    device.world.records = PublishedSet.of(0, ())
    device.set(RESTORE_RECORD="on")
    (line,) = device.check()
    assert VANISHED in line
    assert device.world.records.rdatas == ()


@pytest.mark.parametrize(
    ("hook", "failure"),
    [("exit 3", "ended with status 3"), ("sleep 60", "did not end within 0.2 s at the step restored and was killed")],
)
def test_a_hook_that_fails_is_reported_and_the_step_stays_taken(
    device: Service, hook: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_HOOK_SECONDS", 0.2)
    there = device.world.records
    device.world.records = PublishedSet.of(0, ())
    device.set(RESTORE_RECORD="on", ROTATE_HOOK=f"{hook} # {SECRET}")
    restored, line = device.check()
    assert restored.startswith("WARNING Record restored: ")
    assert line.startswith("WARNING Identity check failed: ROTATE_HOOK ")
    assert failure in line
    assert device.world.records == there


def test_a_hook_that_is_killed_leaves_no_process_behind(device: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_HOOK_SECONDS", 0.5)
    device.world.records = PublishedSet.of(0, ())
    device.set(RESTORE_RECORD="on", ROTATE_HOOK=f"(sleep 1; echo late >> {device.hooks}) & sleep 60")
    assert "did not end within 0.5 s" in device.check()[-1]
    threading.Event().wait(1)
    assert not device.hooks.exists()


def test_what_a_hook_prints_goes_to_stderr(device: Service, capfd: pytest.CaptureFixture[str]) -> None:
    device.world.records = PublishedSet.of(0, ())
    device.set(RESTORE_RECORD="on", ROTATE_HOOK="echo printed; cat")
    device.check()
    out, err = capfd.readouterr()
    assert out == ""
    assert "printed" in err
