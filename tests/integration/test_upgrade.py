"""The current programs work with files and messages of the first release, and the reverse."""

import json
import re
from pathlib import Path

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab
from testbed.messages import BrokerClient
from testbed.programs import CREATE_SELFSIGNED_ID, SEND_MESSAGE, SENDER, Device, Result
from testbed.releases import Release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release("0.1.0", tmp_path_factory.mktemp("release"))


def made_by(release: Release, lab: Lab, label: str, **settings: str) -> Device:
    """Return a published device with a key and a certificate that the release has created."""
    device = lab.device(label).with_settings(**settings)
    result = release.device(device).run(release.program(CREATE_SELFSIGNED_ID))
    assert result.status == 0, result
    lab.knot.add_tlsa(device.name, device.tlsa_record())
    return device


def results(sent: Result) -> list[str]:
    return [json.loads(line)["result"] for line in sent.stdout.splitlines()]


def test_the_programs_come_from_the_archive(release: Release, lab: Lab, tmp_path: Path) -> None:
    device = release.device(lab.device("found"))
    script = tmp_path / "where.py"
    script.write_text("import idlib\nprint(idlib.__file__)\n")
    assert device.run(script).stdout.startswith(device.settings["PYTHONPATH"])
    assert release.send_message.is_file()
    assert release.send_message != SEND_MESSAGE


@pytest.mark.parametrize("key_type", ["rsa2048", "p256"])
def test_a_sender_of_the_release_to_a_current_receiver(release: Release, lab: Lab, key_type: str) -> None:
    sender = made_by(release, lab, "sender", KEY_TYPE=key_type)
    recipient = lab.published_device("recipient", settings={"KEY_TYPE": key_type})
    old = release.device(sender)
    with recipient.receiver() as receiver:
        assert old.run(release.send_message, recipient.name, "a text: ü").status == 0
        receiver.wait_for_message(f"{sender.name} says: a text: ü")
        confirmed = old.run(release.send_message, recipient.name, "confirm this", "--receipt", "--json")
        assert results(confirmed) == ["printed"]
        lines = old.run(release.send_message, recipient.name, "--lines", "--json", stdin="one\ntwo\nthree\n")
        assert results(lines) == ["acknowledged"] * 3
        receiver.wait_for_message("three")
        texts = [json.loads(line).partition(" says: ")[2] for line in receiver.stdout]
        assert texts == ["a text: ü", "confirm this", "one", "two", "three"]


@pytest.mark.parametrize("key_type", ["rsa2048", "p256"])
def test_a_current_sender_to_a_receiver_of_the_release(release: Release, lab: Lab, key_type: str) -> None:
    sender = lab.published_device("sender", settings={"KEY_TYPE": key_type})
    recipient = made_by(release, lab, "recipient", KEY_TYPE=key_type)
    with release.start_receiver(recipient) as receiver:
        assert sender.send(recipient, "a text: ü").status == 0
        receiver.wait_for_message(f"{sender.name} says: a text: ü")
        assert results(sender.send(recipient, "confirm this", "--receipt", "--json")) == ["printed"]
        lines = sender.send(recipient, "--lines", "--json", stdin="one\ntwo\nthree\n")
        assert results(lines) == ["acknowledged"] * 3
        receiver.wait_for_message("three")
        texts = [json.loads(line).partition(" says: ")[2] for line in receiver.stdout]
        assert texts == ["a text: ü", "confirm this", "one", "two", "three"]


def test_a_receiver_continues_after_that_of_the_release(release: Release, lab: Lab, own_unbound: Unbound) -> None:
    sender = made_by(release, lab, "sender")
    late = made_by(release, lab, "late")
    recipient = made_by(release, lab, "recipient", DNS_RESOLVER=own_unbound.address)
    eavesdropper = BrokerClient(lab.mosquitto)
    eavesdropper.listen(recipient)
    with release.start_receiver(recipient) as receiver:
        assert release.device(sender).run(release.send_message, recipient.name, "printed before").status == 0
        receiver.wait_for_message("printed before")
        own_unbound.stop()
        for number in range(3):
            assert release.device(late).run(release.send_message, recipient.name, f"waits {number}").status == 0
        receiver.wait_for_log(f"waiting sender={late.name}", timeout=40)
        assert receiver.stop() == 0
        assert not any("waits" in line for line in receiver.stdout)
    # The broker keeps this one in the session of the release's receiver.
    assert sender.send(recipient, "sent meanwhile").status == 0
    heard = [eavesdropper.next_payload() for _ in range(5)]
    own_unbound.start()
    with recipient.receiver() as receiver:
        receiver.wait_for_message("waits 2", timeout=40)
        receiver.wait_for_message("sent meanwhile", timeout=40)
        for payload in heard:
            eavesdropper.publish(recipient, payload)
        assert sender.send(recipient, "the end").status == 0
        receiver.wait_for_message("the end", timeout=40)
        assert receiver.stop() == 0
        texts = sorted(json.loads(line).partition(" says: ")[2] for line in receiver.stdout)
        assert texts == ["sent meanwhile", "the end", "waits 0", "waits 1", "waits 2"]
        # More than the five if the release's receiver was stopped before the broker had an acknowledgement.
        refused = re.search(r" refused_replay=([0-9]+) ", receiver.stderr[-1])
        assert refused is not None, receiver.stderr[-1]
        assert int(refused[1]) >= 5, receiver.stderr[-1]
    eavesdropper.close()


def test_messages_queued_by_the_release_are_delivered(release: Release, lab: Lab, own_mosquitto: Mosquitto) -> None:
    sender = made_by(release, lab, "sender", MQTT_PORT=str(own_mosquitto.port))
    recipient = lab.published_device("recipient", settings={"MQTT_PORT": str(own_mosquitto.port)})
    with recipient.receiver() as receiver:
        own_mosquitto.stop()
        queue = ("--queue", "--timeout", "1")
        queued = release.device(sender).run(release.send_message, recipient.name, "queued", *queue)
        assert queued.status == 0, queued
        lines = release.device(sender).run(
            release.send_message, recipient.name, "--lines", *queue, stdin="first\nsecond\n"
        )
        assert lines.status == 0, lines
        own_mosquitto.start()
        with sender.start(SENDER) as resident:
            receiver.wait_for_message("second", timeout=60)
            resident.wait_for("three acknowledgements", lambda: sum("acknowledged" in s for s in resident.stderr) >= 3)
        texts = [json.loads(line).partition(" says: ")[2] for line in receiver.stdout]
        assert sorted(texts) == ["first", "queued", "second"]
