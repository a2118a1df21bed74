"""Programs on the published libraries and ours understand each other, in both directions."""

import json
from collections.abc import Callable
from pathlib import Path

import testbed
from testbed.lab import BOGUS, SECURE, UNSIGNED, Lab
from testbed.programs import Device, Program

_TESTBED = Path(testbed.__file__).parent
_PUBLISHED_PROGRAM = _TESTBED / "published_program.py"
_REFERENCE_RECEIVER = _TESTBED / "reference_receiver.py"


def test_our_receiver_prints_what_a_published_program_sends(
    world: Lab, receiver_of: Callable[[Device], Program]
) -> None:
    sender, recipient = world.published_device("published"), world.published_device("ours")
    receiver = receiver_of(recipient)
    result = sender.run(_PUBLISHED_PROGRAM, recipient.name, 'Grüße, "Welt"')
    assert result.status == 0, result
    assert json.loads(receiver.wait_for_message("Welt")) == f'{sender.name} says: Grüße, "Welt"'


def test_a_published_program_catches_the_error_for_an_unpublished_recipient(world: Lab) -> None:
    sender = world.published_device("published")
    result = sender.run(_PUBLISHED_PROGRAM, f"nobody._device.{SECURE}", "hello")
    assert result.status == 2
    assert result.stdout.startswith("Trouble retrieving certificate from DNS: ")


def test_a_program_that_uses_the_published_libraries_receives_what_we_send(world: Lab) -> None:
    sender, recipient = world.published_device("ours"), world.published_device("published")
    with recipient.start(_REFERENCE_RECEIVER) as receiver:
        receiver.wait_for_message("subscribed")
        result = sender.send(recipient, 'Grüße, "Welt" 🚀')
        assert result.status == 0, result
        assert json.loads(receiver.wait_for_message("says")) == f'{sender.name} says: Grüße, "Welt" 🚀'


def test_a_loopback_resolver_of_the_system_is_trusted_without_being_named(
    world: Lab, receiver_of: Callable[[Device], Program]
) -> None:
    sender, recipient = (world.published_device("plain").without_setting("DNS_RESOLVER") for _ in range(2))
    receiver = receiver_of(recipient)
    result = sender.send(recipient, "no resolver named")
    assert result.status == 0, result
    receiver.wait_for_message("no resolver named")
    for zone in (UNSIGNED, BOGUS):
        victim = world.published_device("victim", zone)
        assert sender.send(victim, "hello").status == 2
