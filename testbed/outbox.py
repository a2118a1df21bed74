"""Helpers of the tests of the outbox."""

import os
import time
from pathlib import Path

from idlib.storage.outbox import FILE_NAME, NewOutgoingMessage, Outbox
from testbed.programs import SENDER, Device

ACKNOWLEDGED = "has acknowledged the message"


def outbox_path(device: Device) -> Path:
    return Path(device.settings["DATA_PATH"]) / FILE_NAME


def waiting(device: Device) -> int:
    with Outbox(outbox_path(device).parent) as outbox:
        return outbox.waiting().number


def queue_one(device: Device, recipient: Device | str, text: str, *options: str) -> None:
    result = device.send(recipient, text, "--queue", "--timeout", "2", *options)
    assert result.status == 0, result
    assert f"is queued; {SENDER} will send it: " in result.stderr


def put(device: Device, recipient: str, text: str, queued_at: int | None = None, lifetime: int | None = None) -> None:
    at = int(time.time()) if queued_at is None else queued_at
    with Outbox(outbox_path(device).parent) as outbox:
        outbox.put(NewOutgoingMessage(recipient, os.urandom(8).hex(), text, at, lifetime))
