"""A message travels from one device to another through real daemons, and comes out as it went in."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.lab import SECURE, Lab
from testbed.messages import BrokerClient
from testbed.programs import Device, Program


def _trusting_the_resolver(lab: Lab, device: Device) -> Device:
    return device


def _pinning_the_ds_record(lab: Lab, device: Device) -> Device:
    return lab.pinned(device, lab.knot.ds(SECURE))


def _pinning_the_key_and_asking_the_authority(lab: Lab, device: Device) -> Device:
    pinned = lab.pinned(device, lab.knot.dnskey(SECURE))
    return pinned.with_settings(DNS_RESOLVER=f"{lab.knot.host}:{lab.knot.port}")


@pytest.mark.parametrize(
    "way", [_trusting_the_resolver, _pinning_the_ds_record, _pinning_the_key_and_asking_the_authority]
)
def test_a_message_arrives(
    way: Callable[[Lab, Device], Device], lab: Lab, alice: Device, receiver_of: Callable[[Device], Program]
) -> None:
    recipient = way(lab, lab.published_device("recipient"))
    receiver = receiver_of(recipient)
    result = way(lab, alice).send(recipient, "hello through real daemons")
    assert result.status == 0, result
    assert json.loads(receiver.wait_for_message("hello")) == f"{alice.name} says: hello through real daemons"


def test_a_message_arrives_with_mqtt_3_1_1(
    lab: Lab, alice: Device, bob: Device, tmp_path: Path, receiver_of: Callable[[Device], Program]
) -> None:
    receiver = receiver_of(bob.with_settings(MQTT_VERSION="3.1.1", DATA_PATH=str(tmp_path)))
    assert alice.with_settings(MQTT_VERSION="3.1.1").send(bob, "over MQTT 3.1.1").status == 0
    receiver.wait_for_message("over MQTT 3.1.1")


def test_the_broker_sees_neither_text_nor_sender(
    alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    anybody.listen(bob)
    assert alice.send(bob, "for your eyes only").status == 0
    payload = anybody.next_payload()
    envelope = json.loads(payload)
    assert b"for your eyes only" not in payload
    assert alice.name.encode() not in payload
    assert {"protected", "encrypted_key", "iv", "ciphertext", "tag"} == set(envelope)
    bob_receiver.wait_for_message("for your eyes only")


def test_the_recipients_name_is_read_without_case_and_trailing_dot(
    alice: Device, bob: Device, bob_receiver: Program
) -> None:
    assert alice.send(bob.name.upper() + ".", "to a shouted name").status == 0
    bob_receiver.wait_for_message("to a shouted name")
