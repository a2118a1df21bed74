"""The current programs work with files and messages of the first release, and the reverse."""

import json
import re
import sqlite3
import time
from pathlib import Path

import pytest

from idlib.epochs.halves import Halves, identity_fingerprint
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab
from testbed.messages import BrokerClient
from testbed.programs import CREATE_SELFSIGNED_ID, SEND_MESSAGE, SENDER, Device, Result
from testbed.releases import Release
from tests.integration.test_epoch_receiving import line, publish, publish_marked, spooled


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release("0.1.0", tmp_path_factory.mktemp("release"))


def created_by(release: Release, lab: Lab, label: str, **settings: str) -> Device:
    """Return a device with a key and a certificate that the release has created; its record is not published."""
    device = lab.device(label).with_settings(**settings)
    result = release.device(device).run(release.program(CREATE_SELFSIGNED_ID))
    assert result.status == 0, result
    return device


def made_by(release: Release, lab: Lab, label: str, **settings: str) -> Device:
    """Return a published device with a key and a certificate that the release has created."""
    device = created_by(release, lab, label, **settings)
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


def with_epochs(lab: Lab, device: Device) -> Device:
    """Return a device, not published yet, that is marked and will have epoch keys."""
    publish_marked(lab, device)
    spool = device.crypto_path.parent / "spool"
    return device.with_settings(EPOCH_KEYS="on", EPOCH_SPOOL=str(spool), OUTPUT_FORMAT="json")


@pytest.mark.parametrize("key_type", ["rsa2048", "p256"])
def test_a_sender_of_the_release_writes_to_the_identity_key_of_a_marked_device(
    release: Release, lab: Lab, key_type: str
) -> None:
    sender = made_by(release, lab, "sender", KEY_TYPE=key_type)
    old = release.device(sender)
    recipient = with_epochs(lab, lab.device_with_key("marked", settings={"KEY_TYPE": key_type}))
    with recipient.receiver() as receiver:
        publish(lab, recipient, spooled(recipient))
        assert old.run(release.send_message, recipient.name, "from the release").status == 0
        assert line(receiver, "from the release")["sealed"] == "identity"
        confirmed = old.run(release.send_message, recipient.name, "confirm this", "--receipt", "--json")
        assert results(confirmed) == ["printed"]
        assert sender.send(recipient, "from this version").status == 0
        assert line(receiver, "from this version")["sealed"] == "epoch"
        assert receiver.stop() == 0
        assert receiver.stderr[-1].endswith("sealed_identity=2 sealed_epoch=1")


def test_a_marked_sender_and_a_receiver_of_the_release(release: Release, lab: Lab) -> None:
    sender = with_epochs(lab, lab.device_with_key("marked-sender"))
    now, key = int(time.time()), read_private_key(sender.key_path)
    halves = Halves(Path(sender.settings["DATA_PATH"]) / "epochs", IdentityName(sender.name))
    halves.create(now - 3600, now + 9 * 86400, 0.0, identity_fingerprint(key.public))
    recipient = made_by(release, lab, "recipient")
    with release.start_receiver(recipient) as receiver:
        told = sender.send(recipient, "to the release", "--json")
        assert json.loads(told.stdout)["sealed"] == "identity"
        receiver.wait_for_message(f"{sender.name} says: to the release")
        # The release encrypts its receipt to the identity key.
        assert results(sender.send(recipient, "confirm this", "--receipt", "--json")) == ["printed"]


def test_a_device_that_returns_to_the_release_refuses_messages_to_its_epoch_keys(release: Release, lab: Lab) -> None:
    sender = lab.published_device("sender")
    recipient = with_epochs(lab, created_by(release, lab, "returning"))
    with recipient.receiver():
        publish(lab, recipient, spooled(recipient))
    with release.start_receiver(recipient) as receiver:
        assert sender.send(recipient, "to an epoch key").status == 0
        receiver.wait_for_refusal("outer-unsupported")
        assert release.device(sender).run(release.send_message, recipient.name, "to the identity key").status == 0
        receiver.wait_for_message("to the identity key")


def schema_version(device: Device, name: str) -> int:
    with sqlite3.connect(f"file:{Path(device.settings['DATA_PATH']) / name}?mode=ro", uri=True) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_messages_queued_by_the_release_go_to_the_epoch_key_of_a_marked_device(
    release: Release, lab: Lab, own_mosquitto: Mosquitto
) -> None:
    sender = made_by(release, lab, "sender", MQTT_PORT=str(own_mosquitto.port))
    recipient = with_epochs(lab, lab.device_with_key("marked", settings={"MQTT_PORT": str(own_mosquitto.port)}))
    with recipient.receiver() as receiver:
        publish(lab, recipient, spooled(recipient))
        own_mosquitto.stop()
        queue = ("--queue", "--timeout", "1")
        for number in range(2):
            queued = release.device(sender).run(release.send_message, recipient.name, f"queued {number}", *queue)
            assert queued.status == 0, queued
        assert schema_version(sender, "outbox.sqlite3") == 0
        own_mosquitto.start()
        with sender.start(SENDER):
            receiver.wait_for_message("queued 1", timeout=60)
        assert schema_version(sender, "outbox.sqlite3") == 3
        printed = [json.loads(text) for text in receiver.stdout]
        assert [(one["message"], one["sealed"]) for one in printed] == [("queued 0", "epoch"), ("queued 1", "epoch")]


def test_messages_that_wait_in_the_release_are_printed_by_a_receiver_with_epoch_keys(
    release: Release, lab: Lab, own_unbound: Unbound
) -> None:
    late, prompt = made_by(release, lab, "late"), lab.published_device("prompt")
    recipient = created_by(release, lab, "recipient").with_settings(DNS_RESOLVER=own_unbound.address)
    recipient = with_epochs(lab, recipient)
    with release.start_receiver(recipient) as receiver:
        own_unbound.stop()
        assert release.device(late).run(release.send_message, recipient.name, "waits").status == 0
        receiver.wait_for_log(f"waiting sender={late.name}", timeout=40)
        assert receiver.stop() == 0
    own_unbound.start()
    with recipient.receiver() as receiver:
        publish(lab, recipient, spooled(recipient))
        receiver.wait_for_message("waits", timeout=40)
        assert line(receiver, "waits")["sealed"] == "identity"
        assert prompt.send(recipient, "to the epoch key").status == 0
        assert line(receiver, "to the epoch key")["sealed"] == "epoch"
        assert receiver.stop() == 0
    assert schema_version(recipient, "waiting.sqlite3") == 2
    assert not (Path(recipient.settings["DATA_PATH"]) / "messages.sqlite3").exists()
