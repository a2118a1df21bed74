"""What one attempt to publish epoch records does, logs and keeps for `--health`."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from idlib import keys
from idlib.algorithms import PrivateKey
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.epochs.spool import spool_path, write_spool
from idlib.errors import ConfigurationError, ExitStatus, IdlibError, PublishingError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.publication import Publication
from idlib.settings import load
from messaging_maintenance import watch, watch_epochs
from messaging_maintenance.health import EPOCH_HEALTH_FILE_NAME, HEALTH_FILE_NAME, print_health
from messaging_maintenance.rotation.state import Way
from testbed.certificate_maker import ec_key
from tests.applications.maintenance.rotation.world import DAY, HOUR, NAME, World

IN_DNS = "ok: the record is in DNS"


class Attempts:
    """A device, its spool, and DNS, which remembers what was published."""

    def __init__(self, world: World, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.spool = spool
        self.published: list[Sequence[SignedEpochRecord]] = []
        self.failure: IdlibError | None = None
        monkeypatch.setattr(time, "time", lambda: world.wall)
        for name, value in {**world.environment, "DNS_PUBLISH": "command", "EPOCH_SPOOL": str(spool)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(watch_epochs, "read_environment", lambda names: load(os.environ, names))
        module = "messaging_maintenance.epoch_publishing"
        monkeypatch.setattr(f"{module}.open_publishing", lambda _: (world.publishing, world.zone))
        monkeypatch.setattr(f"{module}.epoch_publishing_from", lambda _: self)

    def publish(self, records: Sequence[SignedEpochRecord]) -> Publication:
        if self.failure is not None:
            raise self.failure
        rdatas = [record.to_text()[:100] for record in records]
        before = [record.to_text()[:100] for record in (self.published[-1] if self.published else ())]
        if before != rdatas:
            self.published.append(records)
        return Publication(Change(NAME, PublishedSet.of(60, before), PublishedSet.of(60, rdatas)), (), ())

    def record(self, number: int = 1, *, key: PrivateKey | None = None, until: float = DAY) -> SignedEpochRecord:
        key = key or keys.read_private_key(keys.key_path(self.world.directory, NAME))
        start = int(self.world.wall - 10 * DAY)
        epoch = EpochRecord(start, int(self.world.wall + until), EpochPrivateKey(bytes([number]) * 32).public)
        return SignedEpochRecord.create(epoch, NAME, key)

    def leave(self, *records: SignedEpochRecord) -> None:
        write_spool(self.spool, NAME, records)
        os.utime(spool_path(self.spool, NAME), (self.world.wall, self.world.wall))


@pytest.fixture
def attempts(
    device: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Attempts:
    caplog.set_level(logging.INFO)
    return Attempts(device, tmp_path / "spool", monkeypatch)


def log(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    caplog.clear()
    return lines


def health(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = print_health()
    return status, capsys.readouterr().out.rstrip("\n")


def keep_good_identity(world: World) -> None:
    (world.directory / HEALTH_FILE_NAME).write_text(
        f'{{"text": "{IN_DNS}", "since": {world.wall}, "checked": {world.wall}}}'
    )


def test_without_a_spool_nothing_happens(attempts: Attempts, caplog: pytest.LogCaptureFixture) -> None:
    assert watch_epochs.main() is ExitStatus.OK
    assert (attempts.published, log(caplog)) == ([], [])
    assert not (attempts.world.directory / EPOCH_HEALTH_FILE_NAME).exists()


def test_what_the_receiver_has_left_is_published_once(
    attempts: Attempts, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts.leave(attempts.record())
    assert watch_epochs.main() is ExitStatus.OK
    assert log(caplog) == [f"INFO Epoch records published: {NAME}, with a TTL of 60 s"]
    assert watch_epochs.main() is ExitStatus.OK
    assert log(caplog) == []
    assert len(attempts.published) == 1
    keep_good_identity(attempts.world)
    assert health(capsys) == (0, IN_DNS)


def test_a_failure_is_unhealthy_from_the_first_and_an_error_after_half_of_the_retention(
    attempts: Attempts, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts.leave(attempts.record(until=30 * DAY))
    attempts.failure = PublishingError("no name server answers", "check the network")
    assert watch_epochs.main() is ExitStatus.CHECK_FAILED
    line = "Publishing epoch records failed: no name server answers; check the network"
    assert log(caplog) == [f"WARNING {line}"]
    keep_good_identity(attempts.world)
    status, text = health(capsys)
    assert status != 0
    assert text == "publishing epoch records failed: no name server answers; check the network"
    attempts.world.wall += HOUR
    watch_epochs.main()
    assert log(caplog) == []
    attempts.world.wall += 4 * DAY
    for _ in range(2):
        watch_epochs.main()
        assert log(caplog) == [f"ERROR {line}"]
    attempts.failure = None
    assert watch_epochs.main() is ExitStatus.OK
    assert log(caplog)[-1] == "INFO Publishing epoch records succeeded again"
    attempts.leave(attempts.record(until=30 * DAY))
    keep_good_identity(attempts.world)
    assert health(capsys) == (0, IN_DNS)


def test_both_problems_are_shown_and_neither_replaces_the_other(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "read_environment", lambda names: load(os.environ, names))
    monkeypatch.setattr(
        "messaging_maintenance.publishing.open_publishing",
        lambda _: (attempts.world.publishing, attempts.world.zone),
    )
    monkeypatch.setenv("DNS_PUBLISH_COMMAND", "true")
    attempts.leave(attempts.record())
    there = attempts.world.records
    attempts.world.records = PublishedSet.of(0, ())
    watch.main()
    watch_epochs.main()
    status, text = health(capsys)
    first, second = text.splitlines()
    assert status != 0
    assert first.startswith("a record of the device's key is not in DNS")
    assert second.startswith("publishing epoch records failed: the epoch records are not published, because DNS has no")
    attempts.world.records = there
    watch_epochs.main()
    assert health(capsys) == (status, first)
    watch.main()
    assert health(capsys) == (0, IN_DNS)


def test_a_spool_that_is_gone_is_no_problem(attempts: Attempts, capsys: pytest.CaptureFixture[str]) -> None:
    attempts.leave(attempts.record())
    attempts.failure = PublishingError("no name server answers", "check the network")
    watch_epochs.main()
    spool_path(attempts.spool, NAME).unlink()
    keep_good_identity(attempts.world)
    assert health(capsys) == (0, IN_DNS)


def test_an_attempt_that_is_not_made_is_noticed(attempts: Attempts, capsys: pytest.CaptureFixture[str]) -> None:
    attempts.leave(attempts.record())
    attempts.world.wall += 1.4 * HOUR
    assert health(capsys)[0] == 0
    attempts.world.wall += 0.6 * HOUR
    status, text = health(capsys)
    assert (status != 0, text) == (True, "new epoch records have not been published for 2 hours: look at the log")
    watch_epochs.main()
    assert health(capsys)[0] == 0


def test_a_receiver_that_leaves_no_new_records_is_noticed(
    attempts: Attempts, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts.leave(attempts.record(until=9 * DAY))
    watch_epochs.main()
    attempts.world.wall += DAY + HOUR
    assert health(capsys)[0] == 0
    attempts.world.wall += HOUR
    status, text = health(capsys)
    assert status != 0
    assert text == (
        "the receiver has left no new epoch records for 26 hours: look at its log; if EPOCH_KEYS is off, remove"
        f" {spool_path(attempts.spool, NAME)}"
    )


def test_without_a_method_nothing_is_expected_of_the_service(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts.leave(attempts.record())
    attempts.world.wall += 10 * DAY
    monkeypatch.delenv("DNS_PUBLISH")
    keep_good_identity(attempts.world)
    assert health(capsys) == (0, IN_DNS)


def refusal(attempts: Attempts, caplog: pytest.LogCaptureFixture) -> str:
    """Attempt to publish, and return why nothing was published."""
    assert watch_epochs.main() is ExitStatus.CHECK_FAILED
    assert attempts.published == []
    (line,) = log(caplog)
    return line.removeprefix("WARNING Publishing epoch records failed: ")


def test_a_record_that_another_key_has_signed_lets_nothing_be_published(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    attempts.leave(attempts.record(1), attempts.record(2, key=PrivateKey(ec_key())))
    assert "has a record that is not signed by a key in the TLSA records of" in refusal(attempts, caplog)


def test_a_damaged_spool_lets_nothing_be_published(attempts: Attempts, caplog: pytest.LogCaptureFixture) -> None:
    attempts.leave(attempts.record())
    path = spool_path(attempts.spool, NAME)
    path.write_bytes(path.read_bytes()[:-5])
    assert "is damaged" in refusal(attempts, caplog)


def test_a_record_whose_key_is_destroyed_is_not_published(attempts: Attempts, caplog: pytest.LogCaptureFixture) -> None:
    attempts.leave(attempts.record(until=0))
    assert "has a record whose key was destroyed at" in refusal(attempts, caplog)


def test_a_record_for_another_name_is_not_published(attempts: Attempts, caplog: pytest.LogCaptureFixture) -> None:
    other = type(NAME)("bob._device.example.test")
    key = keys.read_private_key(keys.key_path(attempts.world.directory, NAME))
    attempts.leave(SignedEpochRecord.create(attempts.record().record, other, key))
    assert "is not signed by" in refusal(attempts, caplog)


def test_nothing_is_published_for_a_device_that_was_taken_out_of_dns(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    attempts.leave(attempts.record())
    attempts.world.records = PublishedSet.of(0, ())
    assert "if the device was stolen, leave it out" in refusal(attempts, caplog)


def test_a_stolen_key_signs_nothing_from_the_first_step_of_its_replacement(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    world = attempts.world
    attempts.leave(attempts.record(1))
    world.is_lossless = False
    before = world.records
    world.rotation.start(Way.COMPROMISED)
    # Whatever was published meanwhile.
    world.records = PublishedSet.of(60, [*before.rdatas, *world.records.rdatas])
    assert world.published() == {world.state.old_key, world.current}
    assert world.state.old_key != world.current
    assert "not signed by a key in the TLSA records" in refusal(attempts, caplog)
    attempts.leave(attempts.record(2))
    assert watch_epochs.main() is ExitStatus.OK
    assert len(attempts.published) == 1


def test_bad_settings_are_an_error(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCH_LENGTH", "soon")
    with pytest.raises(ConfigurationError):
        watch_epochs.main()
