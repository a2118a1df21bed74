"""Receiving with epoch keys: the receiver creates a key, its record is in DNS, and messages are encrypted to it."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from idlib import base64url, certificates, marks
from idlib.algorithms import PublicKey
from idlib.discovery import Discovery
from idlib.envelope import Binding, SealedTo, decrypt, parse_receipt, seal, verify_receipt
from idlib.epochs import KEY_ID_OCTETS, SEED_OCTETS, EpochPrivateKey, IdentifiedEpochKey
from idlib.epochs.encryption_keys import EncryptionKeys
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.epochs.selection import ChosenEpoch
from idlib.keys import read_private_key
from idlib.names import IdentityName
from idlib.records import WHOLE_CERTIFICATE, render
from idlib.settings import load
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import RECEIVER, ROOT, SUBSCRIBED, Device, Program

IMPATIENT: Final = ROOT / "tests/integration/impatient_receiver.py"
DAY: Final = 24 * 3600

Start = Callable[..., Program]


def publish_marked(lab: Lab, device: Device) -> None:
    """Publish a certificate of the device's key that has the mark."""
    name, key = IdentityName(device.name), read_private_key(device.key_path)
    subject = certificates.build_subject(name, country="US", state="CA", locality="San Francisco", organization="a")
    alternative = certificates.build_subject_alternative_name(name)
    certificate = certificates.build_self_signed_certificate(
        key, subject, alternative, datetime.now(UTC), marks.EXTENSION
    )
    lab.knot.add_tlsa(device.name, str(render(certificate, WHOLE_CERTIFICATE)))


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts receivers, which end with the test."""
    started: list[Program] = []

    def begin(device: Device, program: Path = RECEIVER, **settings: str) -> Program:
        started.append(device.with_settings(**settings).start(program))
        started[-1].wait_for_log(SUBSCRIBED)
        return started[-1]

    yield begin
    for program in started:
        program.close()


@pytest.fixture
def bob(lab: Lab) -> Device:
    """Return a new device with epoch keys, whose TLSA record is in DNS and has the mark."""
    device = lab.device_with_key("bob-with-epochs")
    directory = device.crypto_path.parent
    publish_marked(lab, device)
    return device.with_settings(EPOCH_KEYS="on", EPOCH_SPOOL=str(directory / "spool"), OUTPUT_FORMAT="json")


def spooled(device: Device) -> bytes:
    """Return what the receiver wants to have published, once it is there: one record."""
    path = Path(device.settings["EPOCH_SPOOL"]) / f"{device.name}.epochs"
    wait_until(path.exists, "spool")
    (text,) = path.read_bytes().splitlines()
    return text


def publish(lab: Lab, device: Device, text: bytes) -> None:
    """Do what the maintenance service does with what is in the spool."""
    lab.knot.add_txt(f"_epoch.{device.name}", text, ttl=1)
    lab.wait_for_name(f"_epoch.{device.name}")


def key_from_dns(device: Device) -> IdentifiedEpochKey:
    """Return the key that a sender finds."""
    name = IdentityName(device.name)
    discovery = Discovery.from_settings(load({**device.settings, "IDENTITY_NAME": "tester.example.test"}))
    chosen = EncryptionKeys(discovery).find(name, int(time.time()), DAY)
    assert isinstance(chosen, ChosenEpoch)
    return IdentifiedEpochKey(chosen.epoch.key_id, chosen.epoch.record.key)


def message(
    text: str,
    sender: Device,
    recipient: Device,
    key: PublicKey | IdentifiedEpochKey | None = None,
    *,
    ask_for_receipt: bool = False,
) -> bytes:
    name = IdentityName(recipient.name)
    return seal(
        text,
        sender=IdentityName(sender.name),
        signing_key=read_private_key(sender.key_path),
        recipient=name,
        encryption_key=key or read_private_key(recipient.key_path).public,
        binding=Binding.new(name, int(time.time())),
        ask_for_receipt=ask_for_receipt,
    )


def line(receiver: Program, text: str) -> Any:
    return json.loads(receiver.wait_for_message(text))


def health(device: Device) -> str:
    return device.run(RECEIVER, "--health").stdout.strip()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_messages_to_the_key_in_dns_are_printed_also_after_kill_9(
    lab: Lab, alice: Device, bob: Device, anybody: BrokerClient, start: Start, workers: str
) -> None:
    receiver = start(bob, RECEIVER_WORKERS=workers)
    text = spooled(bob)
    publish(lab, bob, text)
    key = key_from_dns(bob)
    anybody.publish(bob, message("to the epoch", alice, bob, key))
    anybody.publish(bob, message("to the identity", alice, bob))
    assert line(receiver, "to the epoch")["sealed"] == "epoch"
    assert line(receiver, "to the identity")["sealed"] == "identity"

    unknown = IdentifiedEpochKey(base64url.encode(secrets.token_bytes(KEY_ID_OCTETS)), key.public)
    anybody.publish(bob, message("to another", alice, bob, unknown))
    assert unknown.key_id in receiver.wait_for_refusal("epoch-gone")

    # What was printed a moment before kill -9 may be printed again.
    time.sleep(1)
    receiver.kill()
    anybody.publish(bob, message("while it was dead", alice, bob, key))
    receiver = start(bob, RECEIVER_WORKERS=workers)
    assert line(receiver, "while it was dead")["sealed"] == "epoch"
    assert spooled(bob) == text
    assert not any("is created" in one for one in receiver.stderr)
    assert receiver.stop() == 0
    assert receiver.stderr[-1].endswith("printed=1 refused=0 sealed_identity=0 sealed_epoch=1")


def test_a_receiver_that_cannot_read_its_epoch_keys_connects_once_it_can(
    lab: Lab, alice: Device, bob: Device, anybody: BrokerClient, start: Start
) -> None:
    receiver = start(bob)
    publish(lab, bob, spooled(bob))
    key = key_from_dns(bob)
    receiver.kill()
    epochs = Path(bob.settings["DATA_PATH"]) / "epochs"
    elsewhere = epochs.rename(epochs.with_name("elsewhere"))
    epochs.write_text("in the way")

    with closing(bob.start(RECEIVER)) as receiver:
        receiver.wait_for_log(f"epoch keys: the directory of epoch keys '{epochs}' cannot be read: Not a directory")
        anybody.publish(bob, message("to a key that cannot be read", alice, bob, key))
        assert health(bob).startswith("epoch keys: ")
        epochs.unlink()
        elsewhere.rename(epochs)
        assert line(receiver, "to a key that cannot be read")["sealed"] == "epoch"
        assert not any("epoch-gone" in one for one in receiver.stderr)


def test_a_message_that_waits_for_dns_is_known_to_be_encrypted_to_an_epoch_key_after_a_restart(
    lab: Lab, bob: Device, anybody: BrokerClient, start: Start
) -> None:
    sender = lab.device_with_key("not-yet-published")
    receiver = start(bob)
    publish(lab, bob, spooled(bob))
    anybody.publish(bob, message("before my record", sender, bob, key_from_dns(bob)))
    receiver.wait_for_log("waiting sender=")
    receiver.kill()
    lab.knot.add_tlsa(sender.name, sender.tlsa_record())
    receiver = start(bob, REQUIRE_FORWARD_SECRECY="all")
    receiver.wait_for("message", lambda: len(receiver.stdout) == 1, 60)
    assert line(receiver, "before my record")["sealed"] == "epoch"


def test_the_list_of_those_that_must_use_epoch_keys_is_read_again(
    lab: Lab, alice: Device, bob: Device, anybody: BrokerClient, start: Start, tmp_path: Path
) -> None:
    required = tmp_path / "required"
    required.write_text("nobody.example.com\n")
    receiver = start(bob, REQUIRE_FORWARD_SECRECY=f"@{required}")
    publish(lab, bob, spooled(bob))
    anybody.publish(bob, message("still accepted", alice, bob))
    receiver.wait_for_message("still accepted")
    required.write_text(f"{alice.name}\n")
    time.sleep(3)
    anybody.publish(bob, message("to the identity", alice, bob))
    assert "REQUIRE_FORWARD_SECRECY" in receiver.wait_for_refusal("not-forward-secret")
    anybody.publish(bob, message("to the epoch", alice, bob, key_from_dns(bob)))
    assert line(receiver, "to the epoch")["sealed"] == "epoch"


def test_a_receipt_to_a_marked_sender_is_encrypted_to_its_epoch_key_or_not_sent(
    lab: Lab, bob: Device, anybody: BrokerClient, start: Start
) -> None:
    carol = lab.device_with_key("carol-with-epochs")
    publish_marked(lab, carol)
    receiver = start(bob)
    anybody.listen(carol)
    anybody.publish(bob, message("without a record", carol, bob, ask_for_receipt=True))
    receiver.wait_for_message("without a record")
    receiver.wait_for_log(f"No receipt to {carol.name}: ")
    assert anybody.payloads_so_far() == []

    # The absence is remembered for a moment.
    dave = lab.device_with_key("dave-with-epochs")
    publish_marked(lab, dave)
    epoch, now = EpochPrivateKey(secrets.token_bytes(SEED_OCTETS)), int(time.time())
    record = EpochRecord(now - 3600, now + 9 * DAY, epoch.public)
    name = IdentityName(dave.name)
    publish(lab, dave, SignedEpochRecord.create(record, name, read_private_key(dave.key_path)).to_text())
    anybody.listen(dave)
    anybody.publish(bob, message("with a record", dave, bob, ask_for_receipt=True))
    printed = line(receiver, "with a record")
    opened = decrypt(anybody.next_payload(), name, [], {record.key_id(name): epoch})
    assert opened.sealed_to is SealedTo.EPOCH
    receipt = parse_receipt(opened.signed)
    assert verify_receipt(receipt, [read_private_key(bob.key_path).public]) == printed["id"]


def test_a_second_device_with_the_same_identity_is_noticed(lab: Lab, bob: Device, start: Start, tmp_path: Path) -> None:
    receiver = start(bob, IMPATIENT)
    mine = spooled(bob)
    publish(lab, bob, mine)
    wait_until(lambda: health(bob).startswith("ok: "), "health")

    for number in (1, 2):
        copy = bob.with_settings(DATA_PATH=str(tmp_path / str(number)), EPOCH_SPOOL=str(tmp_path / f"spool-{number}"))
        with copy.receiver():
            publish(lab, bob, spooled(copy))
        if number == 1:
            receiver.wait_for_log("whose private half is not here")
            assert health(bob).startswith("ok: ")
    receiver.wait_for_log("another device publishes epoch keys for this name")
    wait_until(lambda: "another device publishes epoch keys" in health(bob), "health")
    spool = Path(bob.settings["EPOCH_SPOOL"]) / f"{bob.name}.epochs"
    wait_until(lambda: not spool.exists(), "no spool")
