"""What the receiver does about its own epoch records in DNS: missing ones, and those of another device."""

import logging
from pathlib import Path

import pytest

from idlib.epochs.halves import Halves
from idlib.epochs.record import SignedEpochRecord
from idlib.epochs.spool import spool_path
from idlib.errors import DiscoveryError, TemporaryDiscoveryError
from tests.applications.messaging_receiver.epoch_receiver import (
    UPKEEP_SECONDS,
    OtherDevice,
    Receiver,
    as_txt,
    make_ahead,
    signed_by,
)
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS
from tests.idlib.clocked_device import DAY, HOUR


def test_a_record_that_is_in_dns_is_no_problem(receiver: Receiver) -> None:
    receiver.keep()
    receiver.publish()
    assert receiver.look() is None
    assert receiver.dns.asked == [BOB]


def test_a_missed_update_is_a_problem_after_the_time_that_caches_may_take(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.keep()
    assert receiver.look() is None
    receiver.publish()
    receiver.run_for(DAY + UPKEEP_SECONDS)

    receiver.run_for(HOUR)
    assert receiver.look() is None
    receiver.run_for(HOUR)
    assert receiver.look() == "own epoch record: DNS has an older one"
    assert "look at the log of the maintenance service" in caplog.text

    receiver.publish()
    with caplog.at_level(logging.INFO):
        assert receiver.look() is None
    assert "Own epoch record found" in caplog.text


def test_a_missed_update_of_a_short_epoch_is_a_problem_after_half_of_it(receiver: Receiver) -> None:
    receiver.start(EPOCH_LENGTH="1h", EPOCH_RETENTION="3h")
    receiver.keep()

    receiver.run_for(HOUR / 2 - UPKEEP_SECONDS)
    assert receiver.look() is None
    receiver.run_for(UPKEEP_SECONDS)
    assert receiver.look() == "own epoch record: it is not in DNS"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((), "it is not in DNS"),
        ((b"\x0bv=spf1 -all",), "it is not in DNS"),
        (TemporaryDiscoveryError("no answer"), "no answer"),
    ],
)
def test_what_is_wrong_with_the_records_in_dns_is_said(
    receiver: Receiver, answer: tuple[bytes, ...] | DiscoveryError, problem: str
) -> None:
    receiver.keep()
    receiver.run_for(2 * HOUR)
    receiver.dns.answer = answer

    assert receiver.look() == f"own epoch record: {problem}"


def test_a_key_in_dns_whose_half_is_elsewhere_is_said(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.keep()
    other = OtherDevice(tmp_path / "copy", receiver).publish_new()

    assert receiver.look() is None
    assert f"DNS has the epoch key {other}, whose private half is not here" in caplog.text

    receiver.run_for(2 * HOUR)
    assert "private half is not here" in (receiver.look() or "")
    assert caplog.text.count("messages to it cannot be opened") == 1


def test_a_key_in_dns_whose_half_is_elsewhere_makes_the_maintenance_service_publish_again_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    def version() -> tuple[int, int]:
        status = spool_path(receiver.directory / "spool", BOB).stat()
        return status.st_ino, status.st_mtime_ns

    receiver.keep()
    before = receiver.spooled_id(), version()
    receiver.publish()
    receiver.look()
    receiver.keep()
    assert before == (receiver.spooled_id(), version())

    OtherDevice(tmp_path / "copy", receiver).publish_new()
    receiver.look()
    receiver.keep()
    after = receiver.spooled_id(), version()
    assert after[0] == before[0]
    assert after[1] != before[1]

    receiver.look()
    receiver.keep()
    assert after == (receiver.spooled_id(), version())


def test_after_data_path_was_lost_the_record_is_replaced_once(receiver: Receiver) -> None:
    receiver.keep()
    receiver.publish()
    for file in receiver.epochs.iterdir():
        file.unlink()

    receiver.start()
    receiver.keep()
    assert receiver.look() is None
    receiver.publish()
    receiver.run_for(2 * HOUR)

    assert receiver.look() is None
    assert receiver.files() == {receiver.spooled_id()}


@pytest.mark.parametrize("after", [60.0, 23 * HOUR])
def test_if_a_second_device_publishes_nothing_more_is_published_until_a_restart(
    receiver: Receiver, tmp_path: Path, after: float
) -> None:
    other = OtherDevice(tmp_path / "copy", receiver)
    receiver.keep()
    mine = receiver.spooled_id()
    other.publish_new()
    assert receiver.look() is None
    receiver.publish()
    assert receiver.look() is None

    receiver.run_for(after)
    other.publish_new()

    problem = "epoch keys: another device publishes epoch keys for this name, so this one publishes no more"
    assert receiver.look() == problem
    receiver.keep()
    path = spool_path(receiver.directory / "spool", BOB)
    assert not path.exists()
    receiver.run_for(2 * DAY)
    assert receiver.look() == problem
    assert not path.exists()
    assert mine in receiver.upkeep.keys

    receiver.start()
    receiver.keep()
    assert receiver.problem() is None
    assert receiver.spooled_id()


@pytest.mark.parametrize("tlsa", ["there", "no answer"])
def test_records_of_someone_who_lacks_the_identity_key_do_not_stop_publishing(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture, tlsa: str
) -> None:
    if tlsa == "no answer":
        receiver.dns.tlsa = TemporaryDiscoveryError("no answer")
    halves = Halves(tmp_path / "strangers", BOB)
    receiver.keep()
    receiver.run_for(2 * HOUR)
    for _ in range(3):
        now = int(receiver.device.wall)
        receiver.dns.answer = (signed_by(KEYS[ALICE], halves.create(now, int(now + 9 * DAY), 0.0, bytes(32))),)
        assert receiver.look() == (
            "own epoch record: DNS has only records that are damaged or not signed by this device, which others skip"
        )
        receiver.run_for(HOUR)
    assert "private half is not here" not in caplog.text
    assert spool_path(receiver.directory / "spool", BOB).exists()
    receiver.publish()
    assert receiver.look() is None


def test_the_own_record_with_the_signature_of_another_is_missing(receiver: Receiver) -> None:
    receiver.keep()
    receiver.run_for(2 * HOUR)
    (kept,) = Halves(receiver.epochs, BOB).stock().halves
    receiver.dns.answer = (signed_by(KEYS[ALICE], kept),)
    assert "which others skip" in (receiver.look() or "")


def test_a_second_device_with_another_key_of_the_name_is_noticed(receiver: Receiver, tmp_path: Path) -> None:
    receiver.dns.tlsa = (b"\x03\x01\x00" + KEYS[ALICE].public.der,)
    halves = Halves(tmp_path / "copy", BOB)
    receiver.keep()
    for number in range(2):
        now = int(receiver.device.wall) + number
        receiver.dns.answer = (signed_by(KEYS[ALICE], halves.create(now, int(now + 9 * DAY), 0.0, bytes(32))),)
        receiver.look()
    assert (receiver.problem() or "").startswith("epoch keys: another device")


def test_a_spool_that_cannot_be_removed_is_a_problem_until_it_can(receiver: Receiver, tmp_path: Path) -> None:
    other = OtherDevice(tmp_path / "copy", receiver)
    receiver.keep()
    for _ in range(2):
        other.publish_new()
        receiver.look()
        receiver.device.run_for(60)
    path = spool_path(receiver.directory / "spool", BOB)
    path.unlink()
    path.mkdir()

    receiver.keep()
    assert "cannot be removed" in (receiver.problem() or "")

    path.rmdir()
    receiver.keep()
    assert (receiver.problem() or "").startswith("epoch keys: another device")


def test_all_keys_in_dns_that_are_of_this_device_are_accepted(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.start(EPOCH_LENGTH="7d")
    make_ahead(receiver, 4)
    receiver.keep()
    halves = Halves(receiver.epochs, BOB).stock().halves
    receiver.dns.answer = tuple(
        as_txt(SignedEpochRecord.create(kept.record, BOB, receiver.key).to_text()) for kept in halves
    )
    receiver.run_for(2 * HOUR)
    assert len(halves) == 4
    assert receiver.look() is None
    assert "private half is not here" not in caplog.text
