"""Devices with epoch keys for which time passes faster than for the daemons of the lab."""

import sys
from pathlib import Path
from typing import Final

from idlib.epochs.halves import Halves, KeptHalf
from idlib.epochs.record import SignedEpochRecord
from idlib.errors import ExitStatus
from idlib.names import IdentityName
from idlib.publishing.epoch_publication import epoch_texts
from idlib.publishing.name_servers import read_from
from idlib.publishing.record_types import epoch_place
from idlib.settings import ServerAddress
from testbed.lab import wait_until
from testbed.programs import EPOCH_ID, Device
from testbed.rotation import RotationLab
from testbed.shifted_clock import ShiftedClock

# A minute more than the negative TTL of the lab's zones, and what the receiver needs to notice it.
_REMEMBERED_SECONDS: Final = 3660.0


def epoch_device(lab: RotationLab, label: str, clock: ShiftedClock, **settings: str) -> Device:
    """Return a new device whose TLSA record is in DNS, without the mark, and whose receiver will create epoch keys.

    Args:
        lab: Where it is.
        label: The first part of its name.
        clock: The clock that its programs see.
        settings: Environment variables that differ from the usual.
    """
    # A dynamic update of the service itself would be rejected, because its clock is wrong.
    publish = f"env -u PYTHONPATH {sys.executable} -m testbed.publish_command {lab.lab.knot.port} {lab.key_file}"
    device = lab.published(label, DNS_PUBLISH="command", DNS_PUBLISH_COMMAND=publish, **clock.settings, **settings)
    data = Path(device.settings["DATA_PATH"])
    return device.with_settings(
        EPOCH_KEYS="on", EPOCH_PATH=str(data / "epochs"), EPOCH_SPOOL=str(data.with_name("epoch-records"))
    )


def maintained(device: Device, ttl: int) -> Device:
    """Return the device as its maintenance service sees it.

    Args:
        device: The device.
        ttl: The TTL of its epoch records in real seconds, because the resolver does not share its clock.
    """
    # The TTL is a quarter of EPOCH_LENGTH.
    return device.with_settings(EPOCH_LENGTH=f"{4 * ttl}s")


def turn_on(device: Device, clock: ShiftedClock) -> None:
    """Mark the certificate of a device whose maintenance service and receiver run, as the operator does.

    Args:
        device: The device, as its maintenance service sees it.
        clock: Its clock; an hour passes, in which a resolver may remember that there was no epoch record.
    """
    wait_until(lambda: Path(device.settings["EPOCH_SPOOL"]).is_dir(), "epoch record to publish")
    first = device.run(EPOCH_ID, "on")
    assert first.status == ExitStatus.TOO_EARLY, first
    clock.let_pass(_REMEMBERED_SECONDS)
    second = device.run(EPOCH_ID, "on")
    assert second.status == 0, second


def published_ids(lab: RotationLab, device: Device) -> tuple[str, ...]:
    """Return the ids of the epoch keys of a device that its name server has records of."""
    name, server = IdentityName(device.name), ServerAddress(lab.lab.knot.host, lab.lab.knot.port)
    texts = epoch_texts(read_from(server, epoch_place(name)).rdatas)
    return tuple(SignedEpochRecord.from_text(text).record.key_id(name) for text in texts)


def living_halves(device: Device) -> tuple[KeptHalf, ...]:
    """Return the private halves that are on the disk of a device."""
    return Halves(Path(device.settings["EPOCH_PATH"]), IdentityName(device.name)).stock().halves
