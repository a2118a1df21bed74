"""Messages that the broker answers with a failure (MQTT 5, section 3.4.2.1): reported as refused, and never queued."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from idlib.storage.outbox import NewOutgoingMessage, Outbox
from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import SEND_MESSAGE, SENDER, Device

OPTIONS = [(), ("--queue",)]


class Guarded:
    """A broker that does not allow publishing to some devices.

    Args:
        directory: An existing directory for its files.
    """

    def __init__(self, directory: Path) -> None:
        self._acl = directory / "acl"
        self._acl.write_text("topic readwrite #\n")
        self.broker = Mosquitto(directory, extra=f"acl_file {self._acl}\nlog_type debug\n")

    def deny(self, *devices: Device) -> None:
        """Forbid publishing to these devices, and allow it to all others, from now on."""
        self._acl.write_text("".join(["topic readwrite #\n", *(f"topic deny {device.name}\n" for device in devices)]))
        self.broker.reload()

    def wait_for_denial(self) -> None:
        """Wait until it has denied something."""
        wait_until(lambda: "Denied PUBLISH" in self.broker.log.read_text(), "denial")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path)
    with guarded.broker:
        yield guarded


@pytest.fixture
def denied(lab: Lab, guarded: Guarded) -> Device:
    device = lab.published_device("denied")
    guarded.deny(device)
    return device


@pytest.fixture
def sender(lab: Lab, guarded: Guarded) -> Device:
    return lab.published_device("sender").with_settings(MQTT_PORT=str(guarded.broker.port))


@pytest.fixture
def listener(guarded: Guarded) -> Iterator[BrokerClient]:
    with closing(BrokerClient(guarded.broker)) as client:
        yield client


@pytest.fixture
def recipient(lab: Lab, listener: BrokerClient) -> Device:
    """Return a device whose messages are recorded."""
    device = lab.published_device("recipient")
    listener.listen(device)
    return device


def data(device: Device) -> Path:
    return Path(device.settings["DATA_PATH"])


@pytest.mark.parametrize("options", OPTIONS)
def test_3_the_broker_refuses_the_message(options: tuple[str, ...], sender: Device, denied: Device) -> None:
    result = sender.send(denied, "hello", "--json", *options)
    assert result.status == 3
    # Mosquitto 2.0.11 closes the connection right after, which may be reported first.
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: the broker ")
    assert " refuses the message: Not authorized; " in line
    report = json.loads(result.stdout)
    assert report["result"] == "failed"
    assert f"Error: {report['reason']}" == line
    assert not data(sender).exists()


@pytest.mark.parametrize("options", OPTIONS)
def test_lines_continue_after_one_that_the_broker_refuses(
    options: tuple[str, ...], sender: Device, recipient: Device, guarded: Guarded, listener: BrokerClient
) -> None:
    with sender.start(SEND_MESSAGE, recipient.name, "--lines", "--json", *options) as program:
        program.write("first\n")
        assert listener.next_payload()
        guarded.deny(recipient)
        program.write("second\n")
        guarded.wait_for_denial()
        guarded.deny()
        program.write_all("third\n")
        assert program.wait_for_end() == 3
    objects = [json.loads(line) for line in program.stdout]
    assert [one["result"] for one in objects] == ["acknowledged", "failed", "acknowledged"]
    assert " refuses the message: Not authorized; " in objects[1]["reason"]
    assert any(line.endswith(f"Line 2 was not sent: {objects[1]['reason']}") for line in program.stderr)
    assert program.stderr[-1].endswith(f"acknowledged 2 messages to {recipient.name}: lines 1, 3")
    assert not data(sender).exists()


def test_a_refused_message_in_the_outbox_does_not_delay_other_recipients(
    sender: Device, recipient: Device, denied: Device
) -> None:
    with Outbox(data(sender)) as outbox:
        for name in (denied.name, recipient.name):
            outbox.put(NewOutgoingMessage(name, os.urandom(8).hex(), "text", int(time.time()), None))
        with sender.start(SENDER) as resident:
            resident.wait_for_log(f"Messages to {denied.name} wait: the broker ")
            resident.wait_for(
                "acknowledgement", lambda: any(f"to {recipient.name}" in line for line in resident.stderr)
            )
            resident.wait_for("empty outbox", lambda: outbox.recipients() == (denied.name,))
            assert any("refuses the message: Not authorized" in line for line in resident.stderr)
