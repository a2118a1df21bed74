"""--receipt: valid and invalid confirmations that the recipient has printed the message."""

import base64
import contextlib
import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jwcrypto.jwe import JWE

from chaos.proxy import Proxy
from idlib.envelope import Binding, seal
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab
from testbed.messages import BrokerClient, encrypted, private_jwk, signed
from testbed.programs import CREATE_SELFSIGNED_ID, SEND_MESSAGE, Device, Program


def test_it_ends_with_0_once_the_recipient_has_printed_it(alice: Device, bob: Device, bob_receiver: Program) -> None:
    result = alice.send(bob, "confirm this", "--receipt", "--json")
    assert result.status == 0, result
    assert f"{bob.name} has printed the message." in result.stderr
    assert json.loads(result.stdout)["result"] == "printed"
    assert any("confirm this" in line for line in bob_receiver.stdout)


def test_it_works_with_mqtt_3_1_1_and_keys_of_another_type(lab: Lab) -> None:
    asking = lab.device("asking").with_settings(MQTT_VERSION="3.1.1", KEY_TYPE="p256")
    answering = lab.device("answering").with_settings(MQTT_VERSION="3.1.1", KEY_TYPE="rsa3072")
    for device in (asking, answering):
        assert device.run(CREATE_SELFSIGNED_ID).status == 0
        lab.knot.add_tlsa(device.name, device.tlsa_record())
    with answering.receiver():
        assert asking.send(answering, "hello", "--receipt").status == 0


def test_the_receiver_continues_to_print_while_receipts_cannot_be_published(lab: Lab, own_mosquitto: Mosquitto) -> None:
    asking = lab.published_device("asking").with_settings(MQTT_PORT=str(own_mosquitto.port))
    answering = lab.published_device("answering").with_settings(MQTT_PORT=str(own_mosquitto.port))
    with answering.receiver() as receiver:
        client = BrokerClient(own_mosquitto)
        for number in range(50):
            message = signed(f"number {number}", asking, answering, rcpt=True)
            client.publish(answering, encrypted(message, answering))
        own_mosquitto.stop()
        client.close()
        receiver.wait_for_log("is lost")
        own_mosquitto.start()
        assert asking.send(answering, "afterwards").status == 0
        receiver.wait_for_message("afterwards", timeout=40)
        receiver.wait_for("every message", lambda: len(receiver.stdout) == 51)
        assert receiver.stop() == 0


def test_6_the_recipient_is_not_running(lab: Lab, alice: Device) -> None:
    away = lab.published_device("away")
    with away.receiver() as receiver:
        receiver.stop()
    result = alice.send(away, "nobody home", "--receipt", "--timeout", "2", "--json")
    assert result.status == 6
    assert (
        f"Error: {away.name} did not confirm within 2 s: it is offline, or it refused the message (see its log)\n"
        in result.stderr
    )
    assert json.loads(result.stdout)["result"] == "acknowledged"


def test_the_senders_own_receiver_drops_the_receipt(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    device = lab.published_device("both")
    with device.receiver() as own:
        assert device.send(bob, "from a device that listens", "--receipt").status == 0
        own.wait_for_refusal("receipt")
        assert own.stdout == []
        # And its session continues: no message of it was acknowledged.
        assert bob.send(device, "an ordinary message").status == 0
        own.wait_for_message("an ordinary message")


def test_a_receipt_is_found_among_other_messages_to_the_device(
    lab: Lab, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    device = lab.published_device("busy")
    with device.start(SEND_MESSAGE, bob.name, "amid noise", "--receipt") as program:
        for number in range(100):
            anybody.publish(device, b"noise" if number % 2 else encrypted(signed("other", bob, device), device))
        assert program.wait_for_end(30) == 0


class Asking:
    """Requests receipts at a high rate, with any number of names that have the same key.

    Args:
        lab: The lab that publishes the names.
        number: How many they are.
        reader: The recipient.
    """

    def __init__(self, lab: Lab, number: int, reader: Device) -> None:
        device = lab.device_with_key("asking")
        self.names = [lab.device("asking").name for _ in range(number)]
        lab.knot.add_tlsa_to_all(self.names, device.tlsa_record())
        self._key = read_private_key(device.key_path)
        self._reader = IdentityName(reader.name)
        self._readers_key = read_private_key(reader.key_path).public

    def message(self, name: str) -> bytes:
        """Return a new message from one of the names."""
        return seal(
            "hello",
            sender=IdentityName(name),
            signing_key=self._key,
            recipient=self._reader,
            encryption_key=self._readers_key,
            binding=Binding.new(self._reader, int(time.time())),
            ask_for_receipt=True,
        )


@contextlib.contextmanager
def all_the_time(lab: Lab, asking: Asking, answering: Device) -> Iterator[None]:
    """Request 40 receipts a second, with each name in turn."""
    client, is_over = BrokerClient(lab.mosquitto), threading.Event()

    def ask() -> None:
        for name in itertools.cycle(asking.names):
            client.publish(answering, asking.message(name))
            if is_over.wait(1 / 40):
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        client.close()


def test_a_proven_sender_gets_receipts_while_strangers_request_many(lab: Lab, anybody: BrokerClient) -> None:
    answering = lab.published_device("answering")
    strangers, alice = Asking(lab, 200, answering), Asking(lab, 1, answering)
    (name,) = alice.names
    anybody.listen(replace(answering, name=name))
    # To the broker and back take 100 ms.
    with Proxy(lab.mosquitto.port, there=0.05, back=0.05) as proxy:
        answering = answering.with_settings(MQTT_PORT=str(proxy.port), ALLOWED_SENDERS=f"{name},*")
        with answering.receiver() as receiver, all_the_time(lab, strangers, answering):
            receiver.wait_for("strangers' messages", lambda: len(receiver.stdout) > 200)
            for _ in range(19):
                anybody.publish(answering, alice.message(name))
            for _ in range(19):
                assert b"ciphertext" in anybody.next_payload()


def test_receipts_to_a_distant_broker_do_not_wait_for_each_other(lab: Lab, anybody: BrokerClient) -> None:
    answering = lab.published_device("answering")
    asking = Asking(lab, 4, answering)
    for name in asking.names:
        anybody.listen(replace(answering, name=name))
    with Proxy(lab.mosquitto.port, there=0.5, back=0.5) as proxy:
        answering = answering.with_settings(MQTT_PORT=str(proxy.port), ALLOWED_SENDERS=",".join(asking.names))
        with answering.receiver():
            for name in asking.names * 15:
                anybody.publish(answering, asking.message(name))
            assert anybody.next_payload()
            since = time.monotonic()
            for _ in range(59):
                assert anybody.next_payload()
            # One after another they would take a minute.
            assert time.monotonic() - since < 20


def receipt(signer: Device, reader: Device, reference: str, payload: str = "", **header: Any) -> str:
    return encrypted(signed(payload, signer, reader, typ="receipt+jws", ref=reference, **header), reader)


@pytest.fixture
def published(lab: Lab, anybody: BrokerClient) -> Any:
    """Send with --receipt to a recipient that is away; return the identifier of the message."""

    def read(recipient: Device) -> str:
        outer = JWE()
        outer.deserialize(anybody.next_payload().decode(), key=private_jwk(recipient))
        protected = json.loads(outer.payload)["protected"]
        header = json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4)))
        assert header["rcpt"] is True
        return str(header["jti"])

    return read


@pytest.mark.parametrize(
    "hostile",
    ["by another", "other message", "for another", "unbound", "with a payload", "expired", "a message", "old", "good"],
)
def test_an_invalid_receipt_is_dropped(
    hostile: str, lab: Lab, alice: Device, anybody: BrokerClient, published: Any
) -> None:
    recipient, other = lab.published_device("recipient"), lab.published_device("other")
    anybody.listen(recipient)
    now = int(time.time())
    with alice.start(SEND_MESSAGE, recipient.name, "prove it", "--receipt", "--timeout", "3") as program:
        identifier = published(recipient)
        made = {
            "by another": lambda: receipt(other, alice, identifier),
            "other message": lambda: receipt(recipient, alice, "another"),
            "for another": lambda: receipt(recipient, alice, identifier, aud=other.name),
            "unbound": lambda: receipt(recipient, alice, identifier, aud=None, iat=None, jti=None),
            "with a payload": lambda: receipt(recipient, alice, identifier, "text"),
            "expired": lambda: receipt(recipient, alice, identifier, iat=now - 10, exp=now - 1),
            "a message": lambda: encrypted(signed("yes", recipient, alice, ref=identifier), alice),
            "old": lambda: receipt(recipient, alice, identifier, iat=now - 15 * 86400),
            "good": lambda: receipt(recipient, alice, identifier),
        }[hostile]()
        anybody.publish(alice, made)
        assert program.wait_for_end(20) == (0 if hostile == "good" else 6), program.stderr


@pytest.mark.parametrize("moment", ["before it asks", "while it waits"])
def test_a_receipt_sealed_to_our_previous_key_is_accepted(
    moment: str, lab: Lab, anybody: BrokerClient, published: Any, tmp_path: Path
) -> None:
    asking, recipient = lab.published_device("asking"), lab.published_device("recipient")
    before = replace(asking, crypto_path=tmp_path / "before")
    shutil.copytree(asking.crypto_path, before.crypto_path)

    def replace_key() -> None:
        assert asking.run(CREATE_SELFSIGNED_ID, "--force").status == 0
        assert asking.key_path.read_bytes() != before.key_path.read_bytes()

    anybody.listen(recipient)
    if moment == "before it asks":
        replace_key()
    with asking.start(SEND_MESSAGE, recipient.name, "prove it", "--receipt") as program:
        identifier = published(recipient)
        if moment == "while it waits":
            replace_key()
        anybody.publish(asking, receipt(recipient, before, identifier))
        assert program.wait_for_end(40) == 0, program.stderr


def test_a_repeated_message_gets_no_second_receipt(lab: Lab, bob: Device, anybody: BrokerClient) -> None:
    asking = lab.published_device("asking")
    recipient = lab.published_device("answering")
    anybody.listen(asking)
    with recipient.receiver() as receiver:
        repeated = encrypted(signed("twice", asking, recipient, rcpt=True), recipient)
        anybody.publish(recipient, repeated)
        assert anybody.next_payload()
        anybody.publish(recipient, repeated)
        receiver.wait_for_refusal("replay")
        # The next payload belongs to the next message: nothing came between.
        anybody.publish(recipient, encrypted(signed("last", asking, recipient, rcpt=True, jti="last"), recipient))
        assert b"ciphertext" in anybody.next_payload()
        time.sleep(1)
        assert anybody.number_of_payloads() == 0


@pytest.mark.parametrize("options", [("--receipt", "--queue"), ("--receipt", "--lines")])
def test_receipt_cannot_be_combined_with_queue_or_lines(options: tuple[str, ...], alice: Device, bob: Device) -> None:
    assert alice.send(bob, "hello", *options).status == 64
