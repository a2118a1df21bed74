"""A sender warns that recipients will refuse its messages if its own record is missing in DNS."""

import json
import time
from pathlib import Path

import pytest

from idlib.storage.outbox import NewOutgoingMessage, Outbox
from testbed.lab import BOGUS, UNSIGNED, Lab
from testbed.programs import CREATE_SELFSIGNED_ID, SENDER, Device, Program

CORRECT_AGAIN = "This device's record in DNS is correct again"
WARNING = "Recipients will refuse what this device sends: "
PUBLISH = f"publish the record that {SENDER.parents[2]}/maintenance/src/generate_tlsa.py prints"


def never_published(lab: Lab) -> tuple[Device, str]:
    device = lab.device_with_key("unpublished")
    return device, f"{device.name} does not exist in DNS; {PUBLISH}"


def with_a_new_key(lab: Lab) -> tuple[Device, str]:
    device = lab.published_device("renewed")
    assert device.run(CREATE_SELFSIGNED_ID, "--force").status == 0
    return device, f"the TLSA record of {device.name} has another key; {PUBLISH}"


def with_an_unusable_record(lab: Lab) -> tuple[Device, str]:
    device = lab.device_with_key("unusable")
    lab.knot.add_tlsa(device.name, "3 0 0 00")
    return device, f"the TLSA record of {device.name} is not usable: "


def misplaced(lab: Lab) -> tuple[Device, str]:
    device = lab.device_with_key("misplaced")
    lab.knot.add_tlsa(f"_443._tcp.{device.name}", device.tlsa_record())
    return device, (
        f"{device.name} has no TLSA record; there is one at _443._tcp.{device.name}; move it to {device.name}"
    )


def in_an_unsigned_zone(lab: Lab) -> tuple[Device, str]:
    device = lab.published_device("unsigned", UNSIGNED)
    return device, f"the DNS server {lab.unbound.address} did not authenticate its answer for {device.name}"


@pytest.mark.parametrize(
    "make", [never_published, with_a_new_key, with_an_unusable_record, misplaced, in_an_unsigned_zone]
)
def test_the_sender_warns_of_its_own_record_with_a_hint(
    make: object, lab: Lab, bob: Device, bob_receiver: Program
) -> None:
    assert callable(make)
    device, why = make(lab)
    result = device.send(bob, "hello", "--json")
    assert result.status == 0
    acknowledged, warned = result.stderr.splitlines()
    assert acknowledged.endswith(f"has acknowledged the message to {bob.name}.")
    assert f" WARNING {WARNING}{why}" in warned
    report = json.loads(result.stdout)
    assert report["result"] == "acknowledged"
    assert report["warning"].startswith(f"{WARNING}{why}")


def test_lines_cause_one_warning(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    device, why = never_published(lab)
    result = device.send(bob, "--lines", "--json", stdin="one\ntwo\nthree\n")
    assert result.status == 0
    assert result.stderr.count(f" WARNING {WARNING}{why}") == 1
    assert [json.loads(line)["warning"] for line in result.stdout.splitlines()] == 3 * [f"{WARNING}{why}"]


def test_the_warning_comes_before_the_wait_for_a_receipt(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    device, why = never_published(lab)
    result = device.send(bob, "hello", "--receipt", "--timeout", "2")
    assert result.status == 6
    assert f" WARNING {WARNING}{why}" in result.stderr.splitlines()[-2]
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_failing_dns_causes_no_warning(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    result = lab.published_device("bogus", BOGUS).send(bob, "hello", "--json")
    assert result.status == 0
    assert "WARNING" not in result.stderr
    assert json.loads(result.stdout)["warning"] is None


def test_a_misplaced_record_of_a_recipient_is_reported(lab: Lab, alice: Device) -> None:
    recipient, why = misplaced(lab)
    for options in (("hello",), ("--lines",)):
        result = alice.send(recipient, *options, stdin="hello\n")
        assert result.status == 2
        assert result.stderr.splitlines()[0] == f"Trouble retrieving certificate from DNS: {why}"


def test_the_resident_sender_warns_once_and_reports_the_end(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    device, why = never_published(lab)

    def put(number: int) -> None:
        with Outbox(Path(device.settings["DATA_PATH"])) as outbox:
            outbox.put(NewOutgoingMessage(bob.name, f"{device.name}-{number}", "hello", int(time.time()), None))

    with device.start(SENDER) as resident:
        for number in range(3):
            put(number)
            resident.wait_for_log(f"has acknowledged the message {device.name}-{number} to")
            resident.wait_for_log(f" WARNING {WARNING}{why}")
        lab.knot.add_tlsa(device.name, device.tlsa_record())
        lab.wait_for_record(device.name, device.tlsa_record())

        # Each connection looks once: a message that goes with the one before it causes no look-up.
        for number in range(3, 60):
            put(number)
            resident.wait_for_log(f"has acknowledged the message {device.name}-{number} to")
            if any(CORRECT_AGAIN in line for line in resident.stderr):
                break
        resident.wait_for_log(CORRECT_AGAIN)
        assert sum(WARNING in line for line in resident.stderr) == 1
