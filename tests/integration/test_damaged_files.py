"""Damaged files under DATA_PATH, with real programs: readable rows are used, and no message is printed twice."""

import base64
import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import SENDER, Device, Program

PAGE: Final = 4096
MOVED: Final = "A damaged file was moved aside"
LEAD: Final = 300


def data_path(device: Device) -> Path:
    return Path(device.settings["DATA_PATH"])


def overwrite(path: Path, pages: list[int]) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


def some_pages(path: Path, seed: int) -> list[int]:
    """Return the first page, which SQLite always needs, and four others."""
    total = path.stat().st_size // PAGE
    return [1, *random.Random(seed).sample(range(2, total + 1), min(4, total - 1))]


def payloads(sender: Device, recipient: Device, label: str, number: int, age: int) -> list[str]:
    issued_at = int(time.time()) - age
    return [encrypted(signed(f"{label} {each}", sender, recipient, iat=issued_at), recipient) for each in range(number)]


def publish(client: BrokerClient, device: Device, messages: list[str]) -> None:
    for message in messages:
        client.publish(device, message)


def moved(receiver: Program) -> list[str]:
    return [line for line in receiver.stderr if MOVED in line]


@pytest.mark.parametrize("seed", range(3))
def test_pages_overwritten_while_the_receiver_is_stopped_repeat_and_lose_no_message(
    seed: int, lab: Lab, alice: Device, anybody: BrokerClient
) -> None:
    device = lab.published_device("worn")
    old = payloads(alice, device, "old", 40, 1000)
    with device.receiver() as receiver:
        publish(anybody, device, old)
        receiver.wait_for("old messages", lambda: len(receiver.stdout) == 40)
        assert receiver.stop() == 0
    for name in ("replay.sqlite3", "waiting.sqlite3"):
        path = data_path(device) / name
        overwrite(path, some_pages(path, seed))
        os.utime(path, (time.time() - 2 * LEAD, time.time() - 2 * LEAD))
    for number in range(3):
        assert alice.send(device, f"queued meanwhile {number}").status == 0
    with device.receiver() as receiver:
        assert len(moved(receiver)) == 2
        receiver.wait_for_message("queued meanwhile 2")
        publish(anybody, device, old)
        assert alice.send(device, "the end").status == 0
        receiver.wait_for_message("the end")
        assert [line.rpartition("says: ")[2].strip('"') for line in receiver.stdout] == [
            *(f"queued meanwhile {number}" for number in range(3)),
            "the end",
        ]
        assert not [line for line in receiver.stderr if "Traceback" in line or "has lost the session" in line]
        assert receiver.stop() == 0
    with device.receiver() as receiver:
        assert not moved(receiver)


def test_pages_overwritten_while_the_receiver_runs_are_repaired_in_place(
    lab: Lab, alice: Device, anybody: BrokerClient
) -> None:
    device = lab.published_device("wearing")
    with device.receiver() as receiver:
        old = payloads(alice, device, "old", 40, 10)
        publish(anybody, device, old)
        receiver.wait_for("old messages", lambda: len(receiver.stdout) == 40)
        for name in ("replay.sqlite3", "waiting.sqlite3"):
            path = data_path(device) / name
            with closing(sqlite3.connect(path)) as connection:
                # Make the receiver read known pages from the file again.
                wait_until(
                    lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "empty log"
                )
            overwrite(path, list(range(1, path.stat().st_size // PAGE + 1)))
        new = payloads(alice, device, "new", 5, -5)
        publish(anybody, device, [*old, *new])
        receiver.wait_for_message("new 4", 40)
        receiver.wait_for("lines on both files", lambda: len(moved(receiver)) >= 1)
        assert len(receiver.stdout) == 45
        assert not [line for line in receiver.stderr if "Traceback" in line]
        assert receiver.stop() == 0
    with device.receiver() as receiver:
        publish(anybody, device, [*old, *new])
        time.sleep(3)
        assert not receiver.stdout


def test_the_readable_messages_of_a_damaged_outbox_are_delivered(
    lab: Lab, alice: Device, own_mosquitto: Mosquitto
) -> None:
    there = {"MQTT_PORT": str(own_mosquitto.port)}
    device = lab.published_device("expecting").with_settings(**there)
    sender = lab.published_device("hoarding").with_settings(**there)
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    own_mosquitto.stop()
    texts = [f"<{number}> {'x' * 1500}" for number in range(12)]
    for text in texts:
        assert sender.send(device, "--queue", "--timeout", "2", text).status == 0
    path = data_path(sender) / "outbox.sqlite3"
    contents = path.read_bytes()
    pages = [1, contents.index(b"<5>") // PAGE + 1]
    lost = {
        text
        for text in texts
        if {contents.index(text.encode()) // PAGE + 1, (contents.index(text.encode()) + len(text)) // PAGE + 1}
        & set(pages)
    }
    assert 0 < len(lost) < 6
    overwrite(path, pages)
    own_mosquitto.start()
    with device.receiver() as receiver, sender.start(SENDER) as program:
        program.wait_for_log(MOVED)
        receiver.wait_for("readable messages", lambda: len(receiver.stdout) == len(texts) - len(lost), 40)
        assert {line.rpartition("says: ")[2].strip('"') for line in receiver.stdout} == set(texts) - lost


def test_no_part_of_a_queued_or_deferred_message_is_left_on_the_disk(
    lab: Lab, own_mosquitto: Mosquitto, own_unbound: Unbound
) -> None:
    there = {"MQTT_PORT": str(own_mosquitto.port)}
    sender = lab.published_device("secretive").with_settings(**there)
    device = lab.published_device("discreet").with_settings(**there, DNS_RESOLVER=own_unbound.address)
    # Base64 encodes three bytes at a time.
    text = "a secret that is not for the disk " * 30
    traces = {b"a secret that", base64.urlsafe_b64encode(text.encode())[:60]}
    with device.receiver() as receiver, sender.start(SENDER) as resident:
        own_mosquitto.stop()
        assert sender.send(device, "--queue", "--timeout", "2", text).status == 0
        assert traces_in(sender, traces) != []
        own_unbound.stop()
        own_mosquitto.start()
        resident.wait_for_log("has acknowledged", 60)
        receiver.wait_for_log("waiting sender=", 60)
        # The line is logged just before the message is stored.
        wait_until(lambda: traces_in(device, traces) != [], "text on the disk")
        own_unbound.start()
        receiver.wait_for_message("a secret that", 60)
        for each in (sender, device):
            wait_until(lambda each=each: traces_in(each, traces) == [], "end of the text on the disk")  # type: ignore[misc]
        assert resident.stop() == receiver.stop() == 0
    assert traces_in(sender, traces) == traces_in(device, traces) == []


def traces_in(device: Device, traces: set[bytes]) -> list[str]:
    """Return the files under a device's DATA_PATH that contain one of the texts."""
    return [
        path.name
        for path in data_path(device).rglob("*")
        if path.is_file() and any(trace in path.read_bytes() for trace in traces)
    ]
