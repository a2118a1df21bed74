"""What a thief of a device's disk can open of the recorded traffic: nothing from before the living epoch keys."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from idlib.envelope import decrypt, parse_decrypted
from idlib.epochs.halves import KeptHalf
from idlib.errors import Refusal, UnknownEpochKey
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.epoch_devices import epoch_device, living_halves, maintained, published_ids, turn_on
from testbed.lab import wait_until
from testbed.messages import BrokerClient
from testbed.programs import Device, Program
from testbed.rotation import RotationLab, start_maintenance
from testbed.shifted_clock import ShiftedClock

HOUR: Final = 3600
DAY: Final = 24 * HOUR
TTL: Final = 1
# Messages are sent on these days, and the disk is copied on the last.
TALKING_DAYS: Final = (1, 2, 3, 8, 11)
LAST_DAY: Final = 12


@dataclass(frozen=True)
class Recording:
    """What the eavesdropper has of a day, and what it cannot have: the text and the private half of that day."""

    day: int
    text: str
    payload: bytes
    half: KeptHalf


@dataclass
class Days:
    """Twelve days of a device with epoch keys, its receiver and its maintenance service."""

    lab: RotationLab
    clock: ShiftedClock
    bob: Device
    carol: Device
    receiver: Program
    listener: BrokerClient
    start: float

    def pass_to(self, day: int) -> None:
        """Let days pass, until the new epoch key is in DNS and the overdue ones are destroyed."""
        known = {kept.half.key_id for kept in living_halves(self.bob)}
        # An hour more than whole days, so that the key of the first day is overdue.
        self.clock.let_pass(self.start + (day - 1) * DAY + (day > 1) * HOUR - self.clock.passed)
        now = time.time() + self.clock.passed

        def is_done() -> bool:
            halves = [kept.half for kept in living_halves(self.bob)]
            return bool({half.key_id for half in halves} - known) and all(half.until > now for half in halves)

        if day > 1:
            wait_until(is_done, f"new epoch key on day {day}", 40)
        wait_until(
            lambda: published_ids(self.lab, self.bob) == (_newest(self.bob).half.key_id,), f"record of day {day}", 40
        )
        time.sleep(TTL + 1)

    def record(self, day: int) -> Recording:
        """Send a message, and return what the eavesdropper has recorded."""
        text = f"what was said on day {day}, and nobody may read later"
        sent = self.carol.send(self.bob, text)
        assert sent.status == 0, sent.stderr
        payload = self.listener.next_payload()
        self.receiver.wait_for_message(text)
        return Recording(day, text, payload, _newest(self.bob))


def _newest(device: Device) -> KeptHalf:
    return max(living_halves(device), key=lambda kept: kept.half.start)


@pytest.fixture
def days(rotation_lab: RotationLab, clock: ShiftedClock) -> Iterator[Days]:
    bob, carol = (epoch_device(rotation_lab, label, clock, ROTATE_TEST_SPEED="60") for label in ("bob", "carol"))
    service = maintained(bob, TTL)
    listener = BrokerClient(rotation_lab.lab.mosquitto)
    with bob.receiver() as receiver, start_maintenance(service):
        turn_on(service, clock)
        listener.listen(bob)
        yield Days(rotation_lab, clock, bob, carol, receiver, listener, clock.passed)
    listener.close()


def test_a_copied_disk_opens_only_what_was_sent_to_living_epoch_keys(days: Days, tmp_path: Path) -> None:
    recordings = []
    for day in TALKING_DAYS:
        days.pass_to(day)
        recordings.append(days.record(day))
    days.pass_to(LAST_DAY)
    stolen = _steal(days.bob, tmp_path / "stolen")
    opened = {recording.day: _open(recording, stolen) for recording in recordings}
    assert opened == {1: None, 2: None, 3: None, 8: recordings[3].text, 11: recordings[4].text}
    identity_alone = _without_halves(stolen)
    assert [_open(recording, identity_alone) for recording in recordings] == [None] * len(recordings)
    contents = b"".join(path.read_bytes() for path in sorted(stolen.crypto_path.parent.rglob("*")) if path.is_file())
    for recording in recordings[:3]:
        assert recording.half.key.seed not in contents
        assert recording.text.encode() not in contents
    # The search finds what is there.
    assert recordings[4].half.key.seed in contents


def _steal(device: Device, directory: Path) -> Device:
    """Copy the whole disk of a device."""
    for variable in ("DATA_PATH", "CRYPTO_PATH", "EPOCH_SPOOL"):
        place = Path(device.settings[variable])
        shutil.copytree(place, directory / place.name, ignore=shutil.ignore_patterns("*.socket"))
    return Device(
        device.name,
        directory / device.crypto_path.name,
        {"EPOCH_PATH": str(directory / Path(device.settings["DATA_PATH"]).name / "epochs")},
    )


def _without_halves(device: Device) -> Device:
    return device.with_settings(EPOCH_PATH=str(device.crypto_path / "none"))


def _open(recording: Recording, stolen: Device) -> str | None:
    """Return the text of a recorded message; None if the thief cannot open it."""
    name, keys = IdentityName(stolen.name), [read_private_key(stolen.key_path)]
    halves = {kept.half.key_id: kept.key for kept in living_halves(stolen)}
    try:
        return parse_decrypted(decrypt(recording.payload, name, keys, halves)).unverified_content.decode()
    except (Refusal, UnknownEpochKey):
        return None
