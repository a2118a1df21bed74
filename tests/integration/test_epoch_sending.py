"""Sending to devices with epoch keys through Knot, Unbound and Mosquitto; messages are opened with the private half."""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cryptography.x509 import ExtensionType
from paho.mqtt.client import Client, MQTTMessage

from idlib import certificates, marks
from idlib.envelope import Binding, SealedTo, decrypt, parse_decrypted, seal_receipt
from idlib.epochs import EpochPrivateKey, IdentifiedEpochKey
from idlib.epochs.halves import Halves, identity_fingerprint
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.errors import UnknownEpochKey
from idlib.keys import read_private_key
from idlib.names import IdentityName
from idlib.records import WHOLE_CERTIFICATE, render
from idlib.storage.outbox import Outbox, OutgoingMessage
from testbed.lab import SECURE, Lab
from testbed.messages import BrokerClient
from testbed.outbox import ACKNOWLEDGED, outbox_path, put, queue_one, waiting
from testbed.programs import SEND_MESSAGE, SENDER, Device

HOUR: Final = 3600
DAY: Final = 24 * HOUR
TROUBLE: Final = "Trouble retrieving certificate from DNS: "
REQUIRED_HINT: Final = (
    "the name's owner must set EPOCH_KEYS=on and publish a marked certificate; or take the name out of"
    " REQUIRE_FORWARD_SECRECY"
)
# So short that the resolver asks again at once.
TTL: Final = 1


@dataclass(frozen=True)
class EpochDevice:
    """A device whose certificate is marked, and its epoch key."""

    lab: Lab
    device: Device
    half: EpochPrivateKey
    record: EpochRecord

    @property
    def name(self) -> str:
        return self.device.name

    @property
    def key_id(self) -> str:
        return self.record.key_id(IdentityName(self.name))

    @property
    def until(self) -> str:
        return f"{datetime.fromtimestamp(self.record.until, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def publish(self) -> None:
        key = read_private_key(self.device.key_path)
        text = SignedEpochRecord.create(self.record, IdentityName(self.name), key).to_text()
        self.lab.knot.add_txt(f"_epoch.{self.name}", text, TTL)
        self.lab.wait_for_name(f"_epoch.{self.name}")

    def withdraw(self) -> None:
        self.lab.knot.remove_txt(f"_epoch.{self.name}")
        time.sleep(TTL + 1)

    def mark(self, *extensions: ExtensionType) -> None:
        self.lab.knot.replace_tlsa(self.name, [_record(self.device, *extensions)], TTL)
        time.sleep(TTL + 1)

    def opened(self, payload: bytes) -> str:
        """Return a text that only the private half opens."""
        name, identity_key = IdentityName(self.name), read_private_key(self.device.key_path)
        with pytest.raises(UnknownEpochKey):
            decrypt(payload, name, (identity_key,))
        opened = decrypt(payload, name, (identity_key,), {self.key_id: self.half})
        assert opened.sealed_to is SealedTo.EPOCH
        return parse_decrypted(opened).unverified_content.decode()


def _record(device: Device, *extensions: ExtensionType) -> str:
    key, name = read_private_key(device.key_path), IdentityName(device.name)
    subject = certificates.build_subject(name, country="US", state="CA", locality="San Francisco", organization="a")
    alternative = certificates.build_subject_alternative_name(name)
    certificate = certificates.build_self_signed_certificate(key, subject, alternative, datetime.now(UTC), *extensions)
    return str(render(certificate, WHOLE_CERTIFICATE))


def marked_device(lab: Lab, lives_for: int = 9 * DAY, age: int = HOUR) -> EpochDevice:
    device, half, now = lab.device_with_key("marked"), EpochPrivateKey(secrets.token_bytes(32)), int(time.time())
    lab.knot.add_tlsa(device.name, _record(device, marks.EXTENSION), TTL)
    return EpochDevice(lab, device, half, EpochRecord(now - age, now + lives_for, half.public))


class Listener(BrokerClient):
    """Also notes after how many seconds the broker may drop each message."""

    def __init__(self, lab: Lab) -> None:
        self.expiries: list[int] = []
        super().__init__(lab.mosquitto)

    def _on_message(self, client: Client, data: object, message: MQTTMessage) -> None:
        assert message.properties is not None
        self.expiries.append(vars(message.properties)["MessageExpiryInterval"])
        super()._on_message(client, data, message)


@pytest.fixture
def listener(lab: Lab) -> Iterator[Listener]:
    client = Listener(lab)
    yield client
    client.close()


@pytest.fixture
def carol(lab: Lab) -> Device:
    """Return a sender with an outbox of its own."""
    return lab.published_device("carol")


@pytest.mark.parametrize("way", ["trusted", "pinned"])
@pytest.mark.parametrize("options", [(), ("--lines",), ("--queue",)])
def test_a_message_to_a_marked_device_is_encrypted_to_its_epoch_key(
    lab: Lab, carol: Device, listener: Listener, way: str, options: tuple[str, ...]
) -> None:
    bob = marked_device(lab)
    bob.publish()
    listener.listen(bob.device)
    sender = lab.pinned(carol, lab.knot.ds(SECURE)) if way == "pinned" else carol
    text = () if "--lines" in options else ("hello",)
    sent = sender.send(bob.name, *text, "--json", *options, stdin="hello\n")
    assert sent.status == 0, sent.stderr
    told = json.loads(sent.stdout)
    assert (told["result"], told["sealed"], told["readable_until"]) == ("acknowledged", "epoch", bob.until)
    line = f" INFO Messages to {bob.name} are encrypted to its epoch key {bob.key_id} and can be read until {bob.until}"
    assert sent.stderr.count(line + "\n") == 1
    assert bob.opened(listener.next_payload()) == "hello"
    assert 7 * DAY - 10 <= listener.expiries[0] <= 7 * DAY


def test_without_json_nothing_about_the_key_is_on_stdout_and_verbose_names_it(
    lab: Lab, carol: Device, listener: Listener
) -> None:
    bob = marked_device(lab)
    bob.publish()
    listener.listen(bob.device)
    sent = carol.send(bob.name, "hello", "--verbose")
    assert (sent.status, sent.stdout) == (0, "")
    assert f"{bob.name} is marked as having epoch keys: the message is encrypted to one of them." in sent.stderr
    assert bob.key_id in sent.stderr


@pytest.mark.parametrize(("age", "level", "until"), [(HOUR, "INFO", "until"), (8 * DAY, "WARNING", "only until")])
def test_the_broker_drops_a_message_when_its_key_is_destroyed(
    lab: Lab, carol: Device, listener: Listener, age: int, level: str, until: str
) -> None:
    bob = marked_device(lab, 2 * HOUR, age)
    bob.publish()
    listener.listen(bob.device)
    sent = carol.send(bob.name, "hello")
    assert sent.status == 0
    assert f" {level} Messages to {bob.name} are encrypted" in sent.stderr
    assert f" and can be read {until} {bob.until}: the recipient's keys " in sent.stderr
    assert bob.opened(listener.next_payload()) == "hello"
    assert 2 * HOUR - 30 <= listener.expiries[0] <= 2 * HOUR


def test_without_an_epoch_record_nothing_is_sent_until_it_is_back(lab: Lab, carol: Device, listener: Listener) -> None:
    bob = marked_device(lab)
    bob.publish()
    listener.listen(bob.device)
    assert carol.send(bob.name, "before").status == 0
    assert bob.opened(listener.next_payload()) == "before"
    bob.withdraw()
    failed = carol.send(bob.name, "never", "--json")
    assert failed.status == 2
    assert f"{TROUBLE}{bob.name} is marked as having epoch keys, and " in failed.stderr
    told = json.loads(failed.stdout)
    assert (told["result"], told["sealed"], told["readable_until"]) == ("failed", None, None)
    assert carol.send(bob.name, "--lines", stdin="never\n").status == 2
    queue_one(carol, bob.name, "queued")
    with carol.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {bob.name} wait: {bob.name} is marked as having epoch keys, and ")
        assert listener.payloads_so_far() == []
        bob.publish()
        resident.wait_for_log(ACKNOWLEDGED, timeout=60)
        resident.wait_for_log(f"Messages to {bob.name} are encrypted to its epoch key {bob.key_id}")
        resident.wait_for("an empty outbox", lambda: waiting(carol) == 0)
    assert [bob.opened(payload) for payload in listener.payloads_so_far()] == ["queued"]


def _first(device: Device, recipient: str) -> OutgoingMessage:
    with Outbox(outbox_path(device).parent) as outbox:
        found = outbox.next_to(recipient, 0)
    assert found is not None
    return found


@pytest.mark.parametrize("way", ["send", "--lines", "deliver"])
def test_a_text_that_was_encrypted_to_an_epoch_key_is_not_sent_to_an_identity_key(
    lab: Lab, carol: Device, listener: Listener, way: str
) -> None:
    bob = marked_device(lab)
    bob.publish()
    # Bob has no subscriber yet, so the broker drops each copy and the text stays queued.
    match way:
        case "send":
            queue_one(carol, bob.name, "text")
        case "--lines":
            assert carol.send(bob.name, "--lines", "--queue", stdin="text\n").status == 0
        case "deliver":
            put(carol, bob.name, "text")
            assert not _first(carol, bob.name).was_sealed_to_epoch
            with carol.start(SENDER) as resident:
                resident.wait_for_log(f"Messages to {bob.name} wait: the broker")
                resident.kill()
    assert _first(carol, bob.name).was_sealed_to_epoch
    bob.mark()
    listener.listen(bob.device)
    with carol.start(SENDER) as resident:
        resident.wait_for_log(
            f"Messages to {bob.name} wait: the message was encrypted to an epoch key before, and {bob.name} has no"
        )
        assert listener.payloads_so_far() == []
        bob.mark(marks.EXTENSION)
        resident.wait_for_log(ACKNOWLEDGED, timeout=60)
    assert [bob.opened(payload) for payload in listener.payloads_so_far()] == ["text"]


@pytest.mark.parametrize("way", ["--lines", "--queue"])
def test_nothing_is_sent_to_the_identity_key_of_a_name_that_was_marked_before(
    lab: Lab, carol: Device, listener: Listener, way: str
) -> None:
    bob = marked_device(lab)
    bob.publish()
    listener.listen(bob.device)
    text = () if way == "--lines" else ("text",)
    assert carol.send(bob.name, *text, way, stdin="text\n").status == 0
    assert bob.opened(listener.next_payload()) == "text"
    bob.mark()
    why = f"{bob.name} is not marked as having epoch keys any more, and was at "
    if way == "--lines":
        failed = carol.send(bob.name, way, stdin="text\n")
        assert failed.status == 2
        assert f"{TROUBLE}{why}" in failed.stderr
    queued = carol.send(bob.name, *text, *{way, "--queue"}, stdin="text\n")
    assert queued.status == 0
    assert why in queued.stderr
    with carol.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {bob.name} wait: {why}")
    assert listener.payloads_so_far() == []
    assert waiting(carol) == 1


@pytest.mark.parametrize("options", [(), ("--lines",), ("--queue",), ("--receipt",)])
def test_forward_secrecy_that_is_required_keeps_messages_from_a_device_without_epoch_keys(
    lab: Lab, carol: Device, listener: Listener, options: tuple[str, ...]
) -> None:
    bob = lab.published_device("bob")
    listener.listen(bob)
    demanding = carol.with_settings(REQUIRE_FORWARD_SECRECY=f"*._device.{SECURE}")
    text = () if "--lines" in options else ("hello",)
    refused = demanding.send(bob, *text, *options, stdin="hello\n")
    assert refused.status == 2
    assert [line for line in refused.stderr.splitlines() if "Error: " in line] == [
        f"Error: {bob.name} has no epoch keys, and REQUIRE_FORWARD_SECRECY names it; {REQUIRED_HINT}"
    ]
    assert listener.payloads_so_far() == []
    assert carol.send(bob, "hello").status == 0


def test_the_resident_sender_keeps_messages_from_such_a_device_too(lab: Lab, carol: Device, listener: Listener) -> None:
    bob = lab.published_device("bob")
    listener.listen(bob)
    put(carol, bob.name, "text")
    with carol.with_settings(REQUIRE_FORWARD_SECRECY="all").start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {bob.name} wait: {bob.name} has no epoch keys, and REQUIRE_FORWARD_SECRECY")
    assert listener.payloads_so_far() == []
    assert waiting(carol) == 1


def test_a_receipt_that_is_encrypted_to_our_epoch_key_is_opened(lab: Lab, listener: Listener) -> None:
    alice, bob = marked_device(lab), lab.published_device("bob")
    key, now = read_private_key(alice.device.key_path), int(time.time())
    halves = Halves(Path(alice.device.settings["DATA_PATH"]) / "epochs", IdentityName(alice.name))
    half = halves.create(now - HOUR, now + DAY, 0.0, identity_fingerprint(key.public))
    listener.listen(bob)
    with alice.device.start(SEND_MESSAGE, bob.name, "confirm this", "--receipt") as program:
        opened = decrypt(listener.next_payload(), IdentityName(bob.name), (read_private_key(bob.key_path),))
        binding = parse_decrypted(opened).binding
        assert binding is not None
        receipt = seal_receipt(
            binding.identifier,
            sender=IdentityName(bob.name),
            signing_key=read_private_key(bob.key_path),
            encryption_key=IdentifiedEpochKey(half.half.key_id, half.key.public),
            binding=Binding.new(IdentityName(alice.name), int(time.time())),
        )
        listener.publish(alice.device, receipt)
        assert program.wait_for_end() == 0
        program.wait_for_log(f"{bob.name} has printed the message.")


def test_a_marked_device_that_cannot_read_its_halves_sends_nothing_with_receipt(lab: Lab, listener: Listener) -> None:
    alice, bob = marked_device(lab), lab.published_device("bob")
    listener.listen(bob)
    failed = alice.device.send(bob, "confirm this", "--receipt", "--json")
    assert failed.status == 4
    path = Path(alice.device.settings["DATA_PATH"]) / "epochs"
    assert (
        "this device could not open the receipt, which is encrypted to its epoch key:"
        f" '{path}' has no living epoch key; set EPOCH_PATH to the directory of the receiver's epoch keys, and run this"
        " program as the receiver's user; or send without --receipt"
    ) in failed.stderr
    assert json.loads(failed.stdout)["result"] == "failed"
    assert listener.payloads_so_far() == []
    assert alice.device.send(bob, "without").status == 0
