"""Which keys receiver and sender accept: several records, zones that are not secure, and DNS outages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.daemons.process import free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import BOGUS, SECURE, UNSIGNED, Lab, another_key
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import CREATE_SELFSIGNED_ID, Device, Program

_TROUBLE = "Trouble retrieving certificate from DNS: "


def _second_key(device: Device, directory: Path) -> Device:
    """Return the same device with another key, not published."""
    directory.mkdir()
    other = Device(device.name, directory, {**device.settings, "CRYPTO_PATH": str(directory)}, device.entrance)
    assert other.run(CREATE_SELFSIGNED_ID).status == 0
    return other


def test_both_keys_are_accepted_during_a_rollover(lab: Lab, bob: Device, bob_receiver: Program, tmp_path: Path) -> None:
    old = lab.published_device("roll", ttl=1)
    assert old.send(bob, "signed by the old key").status == 0
    bob_receiver.wait_for_message("signed by the old key")
    new = _second_key(old, tmp_path / "new")
    record = new.tlsa_record()
    lab.knot.add_tlsa(new.name, record, 1)
    lab.wait_for_record(new.name, record)
    assert new.send(bob, "signed by the new key").status == 0
    bob_receiver.wait_for_message("signed by the new key")
    assert old.send(bob, "still signed by the old key").status == 0
    bob_receiver.wait_for_message("still signed by the old key")


def test_an_unusable_record_does_not_hide_a_usable_one(
    lab: Lab, alice: Device, receiver_of: Callable[[Device], Program]
) -> None:
    recipient = lab.published_device("crowded")
    for useless in ("3 0 1 " + "AB" * 32, "2 0 0 3000", "3 0 0 DEADBEEF"):
        lab.knot.add_tlsa(recipient.name, useless)
    receiver = receiver_of(recipient)
    assert alice.send(recipient, "in spite of the others").status == 0
    receiver.wait_for_message("in spite of the others")


@pytest.mark.parametrize("trust", ["resolver", "anchors"])
@pytest.mark.parametrize("zone", [SECURE, UNSIGNED, BOGUS])
def test_nothing_is_sent_to_a_name_without_an_authentic_record(
    zone: str, trust: str, lab: Lab, alice: Device, anybody: BrokerClient
) -> None:
    recipient = lab.device_with_key("victim", zone)
    if zone != SECURE:
        lab.knot.add_tlsa(recipient.name, recipient.tlsa_record())
    anybody.listen(recipient)
    anchors = [lab.knot.ds(SECURE), another_key(lab.knot.ds(BOGUS))]
    sender = lab.pinned(lab.device_with_key("sender"), *anchors) if trust == "anchors" else alice
    result = sender.send(recipient, "hello")
    assert result.status == 2
    assert result.stderr.startswith(_TROUBLE)
    anybody.publish(recipient, "the end")
    assert anybody.next_payload() == b"the end"


def test_dnssec_off_accepts_an_unsigned_zone_with_a_warning(lab: Lab, receiver_of: Callable[[Device], Program]) -> None:
    device = lab.published_device("open", UNSIGNED).with_settings(DNSSEC="off")
    receiver = receiver_of(device)
    result = device.send(device, "without DNSSEC")
    assert result.status == 0, result
    receiver.wait_for_message("without DNSSEC")
    assert any("DNSSEC" in line for line in receiver.stderr)


def test_a_sender_in_an_unsigned_zone_is_refused(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    sender = lab.published_device("stranger", UNSIGNED)
    seen = len(bob_receiver.stderr)
    assert sender.send(bob, "an unauthenticated message").status == 0
    bob_receiver.wait_for_refusal("sender-not-secure", after=seen)
    assert not any("an unauthenticated message" in line for line in bob_receiver.stdout)


def test_a_message_of_a_sender_without_a_record_waits_for_the_record(
    lab: Lab, bob: Device, bob_receiver: Program
) -> None:
    sender = lab.device_with_key("newcomer")
    assert sender.send(bob, "sent too early").status == 0
    bob_receiver.wait_for_log(f"waiting sender={sender.name} again in 15 s: {sender.name} does not exist in DNS")
    assert not any("sent too early" in line for line in bob_receiver.stdout)
    lab.knot.add_tlsa(sender.name, sender.tlsa_record())
    bob_receiver.wait_for_message(f"{sender.name} says: sent too early", timeout=90)


def test_a_message_from_a_bogus_zone_waits_and_delays_no_others(
    lab: Lab, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    sender = lab.published_device("broken", BOGUS)
    assert sender.send(bob, "from a broken zone").status == 0
    assert alice.send(bob, "after the broken zone").status == 0
    bob_receiver.wait_for_message("after the broken zone")
    assert not any("from a broken zone" in line for line in bob_receiver.stdout)
    assert not any("refused" in line and sender.name in line for line in bob_receiver.stderr)


def test_a_receiver_with_pinned_anchors_reaches_the_same_verdicts(
    lab: Lab, receiver_of: Callable[[Device], Program]
) -> None:
    good, stranger, broken = (lab.published_device("pinned", zone) for zone in (SECURE, UNSIGNED, BOGUS))
    recipient = lab.published_device("pinning")
    anchors = [lab.knot.ds(SECURE), another_key(lab.knot.ds(BOGUS))]
    receiver = receiver_of(lab.pinned(recipient, *anchors))
    for sender in (stranger, broken, good):
        assert sender.send(recipient, "an unauthenticated message").status == 0
    receiver.wait_for_refusal("sender-not-secure")
    receiver.wait_for_message("an unauthenticated message")
    assert receiver.stdout == [f'"{good.name} says: an unauthenticated message"']
    assert not any("refused" in line and broken.name in line for line in receiver.stderr)


@pytest.mark.parametrize("meanwhile", ["running", "restarted"])
def test_a_message_that_arrived_during_a_dns_outage_is_printed_afterwards(
    meanwhile: str, lab: Lab, alice: Device, own_unbound: Unbound, receiver_of: Callable[[Device], Program]
) -> None:
    recipient = lab.published_device("cut-off")
    shielded = recipient.with_settings(DNS_RESOLVER=own_unbound.address)
    receiver = receiver_of(shielded)
    assert alice.send(recipient, "while DNS works").status == 0
    receiver.wait_for_message("while DNS works")
    own_unbound.stop()
    unknown = lab.published_device("unknown")
    assert unknown.send(recipient, "while DNS is out").status == 0
    assert alice.send(recipient, "from a known sender").status == 0
    receiver.wait_for_message("from a known sender")
    assert not any("while DNS is out" in line for line in receiver.stdout)
    if meanwhile == "restarted":
        assert receiver.stop() == 0
    own_unbound.start()
    if meanwhile == "restarted":
        receiver = receiver_of(shielded)
    receiver.wait_for_message("while DNS is out", timeout=60)


def test_a_thousand_messages_from_one_sender_cost_one_query(lab: Lab, receiver_of: Callable[[Device], Program]) -> None:
    sender, recipient = lab.published_device("busy"), lab.published_device("asked")
    receiver = receiver_of(recipient)
    asked_before = lab.unbound.queries(recipient.name)
    lines = [f"message {number:04}" for number in range(1000)]
    result = sender.send(recipient, "--lines", stdin="".join(f"{line}\n" for line in lines), timeout=100)
    assert result.status == 0, result
    receiver.wait_for("all messages", lambda: len(receiver.stdout) >= 1000, 60)
    assert receiver.stdout == [f'"{sender.name} says: {line}"' for line in lines]
    # The sender looks up its own record once.
    assert lab.unbound.queries(sender.name) == 2
    assert lab.unbound.queries(recipient.name) == asked_before + 1


def test_the_sender_reports_missing_dns(alice: Device, bob: Device) -> None:
    result = alice.with_settings(DNS_RESOLVER=f"127.0.0.1:{free_port()}").send(bob, "hello")
    assert result.status == 2
    assert result.stderr.startswith(_TROUBLE)


def test_a_forged_signature_is_refused(
    lab: Lab, alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    mallory = lab.published_device("mallory")
    forged = signed("I am Alice", mallory, bob, x5u=f"dns://{alice.name}?type=TLSA")
    anybody.publish(bob, encrypted(forged, bob))
    bob_receiver.wait_for_refusal("signature-invalid")
    assert not any("I am Alice" in line for line in bob_receiver.stdout)
