"""Ten days in which the maintenance service cannot publish epoch records: it is loud, and then nothing is lost."""

import json
import time
from pathlib import Path
from typing import Final

import pytest

from testbed.epoch_devices import epoch_device, living_halves, maintained, published_ids, turn_on
from testbed.lab import wait_until
from testbed.messages import BrokerClient
from testbed.outbox import put, waiting
from testbed.programs import MAINTENANCE, RECEIVER, ROOT, SENDER, SUBSCRIBED, Device, Result
from testbed.rotation import TTL_SECONDS, RotationLab, start_maintenance
from testbed.shifted_clock import ShiftedClock

IMPATIENT: Final = ROOT / "tests/integration/impatient_receiver.py"
HOUR: Final = 3600
DAY: Final = 24 * HOUR
TTL: Final = 1


def health(device: Device, program: Path) -> Result:
    return device.run(program, "--health")


@pytest.mark.timeout(240)
def test_ten_days_without_publishing_are_loud_and_lose_nothing(
    rotation_lab: RotationLab, clock: ShiftedClock, tmp_path: Path
) -> None:
    lock = tmp_path / "publishing-is-broken"
    bob = epoch_device(rotation_lab, "bob", clock, ROTATE_TEST_SPEED="60", OUTPUT_FORMAT="json")
    working = bob.settings["DNS_PUBLISH_COMMAND"]
    bob = bob.with_settings(DNS_PUBLISH_COMMAND=f"test ! -e {lock} && {working}")
    service = maintained(bob, TTL)
    carol = epoch_device(rotation_lab, "carol", clock)
    eavesdropper = BrokerClient(rotation_lab.lab.mosquitto)
    with bob.start(IMPATIENT) as receiver, start_maintenance(service) as maintenance, carol.start(SENDER) as resident:
        receiver.wait_for_log(SUBSCRIBED)
        turn_on(service, clock)
        # The resolver still has the certificate without the mark.
        time.sleep(TTL_SECONDS + 1)
        assert carol.send(bob, "before").status == 0
        assert json.loads(receiver.wait_for_message("before"))["sealed"] == "epoch"
        wait_until(lambda: health(bob, RECEIVER).stdout.startswith("ok: "), "healthy receiver", 40)
        wait_until(lambda: health(service, MAINTENANCE).status == 0, "healthy maintenance service", 40)
        (last,) = published_ids(rotation_lab, bob)
        eavesdropper.listen(bob)

        lock.touch()
        # The next key is due, and the maintenance service fails at once.
        clock.let_pass(DAY + HOUR)
        maintenance.wait_for_log("WARNING Publishing epoch records failed: ", 40)
        told = health(service, MAINTENANCE)
        assert told.status != 0
        assert "publishing epoch records failed: " in told.stdout
        # The receiver waits for as long as caches may take.
        clock.let_pass(2 * HOUR)
        receiver.wait_for_log("own epoch record: DNS has an older one; look at the log of the maintenance service", 60)
        assert health(bob, RECEIVER).stdout.startswith("own epoch record: DNS has an older one")

        clock.let_pass(4 * DAY)
        maintenance.wait_for_log("ERROR Publishing epoch records failed: ", 40)
        assert published_ids(rotation_lab, bob) == (last,)
        # The last key that is in DNS lives on, but no longer for as long as a message may take.
        sent = carol.send(bob, "in time")
        assert sent.status == 0
        assert "can be read only until " in sent.stderr
        assert json.loads(receiver.wait_for_message("in time"))["sealed"] == "epoch"

        clock.let_pass(5 * DAY)
        receiver.wait_for_log(f"The epoch key {last} is destroyed", 60)
        heard = eavesdropper.payloads_so_far()
        failed = carol.send(bob, "never sent")
        assert failed.status == 2
        assert "its last epoch key was destroyed at " in failed.stderr
        put(carol, bob.name, "queued", int(time.time() + clock.passed))
        resident.wait_for_log(f"Messages to {bob.name} wait: {bob.name} is marked as having epoch keys, but", 60)
        assert eavesdropper.payloads_so_far() == []
        assert len(heard) == 1
        assert health(bob, RECEIVER).stdout.startswith("own epoch record: ")
        assert "publishing epoch records failed: " in health(service, MAINTENANCE).stdout

        lock.unlink()
        maintenance.wait_for_log("Publishing epoch records succeeded again", 60)
        newest = max((kept.half for kept in living_halves(bob)), key=lambda half: half.start)
        assert published_ids(rotation_lab, bob) == (newest.key_id,)
        assert json.loads(receiver.wait_for_message("queued", 60))["sealed"] == "epoch"
        resident.wait_for("an empty outbox", lambda: waiting(carol) == 0)
        wait_until(lambda: health(bob, RECEIVER).stdout.startswith("ok: "), "healthy receiver", 60)
        # For the rest, too little real time has passed: files have the times of the kernel.
        assert "publishing epoch records failed" not in health(service, MAINTENANCE).stdout
        assert [json.loads(line)["message"] for line in receiver.stdout] == ["before", "in time", "queued"]
    eavesdropper.close()
