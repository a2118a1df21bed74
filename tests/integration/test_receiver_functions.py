"""The receiver's functions that the article names, called as in a user's own program."""

import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, sign
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.lab import Lab
from testbed.programs import RECEIVER, Device

PROGRAM = """
import sys, queue
sys.path.insert(0, sys.argv[1])
import application
assert all(isinstance(one, queue.Queue) and one.maxsize == 1024 for one in (
    application.ENCRYPTED_MESSAGES, application.DECRYPTED_MESSAGES, application.AUTHENTICATED_MESSAGES))
assert callable(application.main) and callable(application.message_printer)
assert str(application.get_config().identity_name) == sys.argv[2]
print(repr(application.message_is_authentic(sys.stdin.read())))
"""


def authentic_text_of(content: str, device: Device) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(RECEIVER.parent), device.name],
        input=content,
        env=device.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def signed_by(key: PrivateKey, sender: str, recipient: str) -> str:
    reader = IdentityName(recipient)
    return sign("hello", sender=IdentityName(sender), signing_key=key, binding=Binding.new(reader, int(time.time())))


def test_the_text_of_an_authentic_message_is_returned(alice: Device, bob: Device) -> None:
    content = signed_by(read_private_key(alice.key_path), alice.name, bob.name)
    assert authentic_text_of(content, bob) == "'hello'\n"


@pytest.mark.parametrize(("content", "text"), [(b"a,b", "'a,b'"), (b"\xff", "''")])
def test_nothing_is_returned_for_content_that_is_not_a_text(
    content: bytes, text: str, alice: Device, bob: Device
) -> None:
    key, sender = read_private_key(alice.key_path), IdentityName(alice.name)
    binding = Binding.new(IdentityName(bob.name), int(time.time()))
    signed = sign(content, sender=sender, signing_key=key, binding=binding, content_type="text/csv")
    assert authentic_text_of(signed, bob) == f"{text}\n"


@pytest.mark.parametrize("content", ["", "{}", "not a message"])
def test_nothing_is_returned_for_a_malformed_message(content: str, bob: Device) -> None:
    assert authentic_text_of(content, bob) == "''\n"


def test_nothing_is_returned_for_a_forged_message_or_an_unknown_sender(lab: Lab, alice: Device, bob: Device) -> None:
    mallory = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    assert authentic_text_of(signed_by(mallory, alice.name, bob.name), bob) == "''\n"
    unpublished = lab.device("unpublished")
    assert authentic_text_of(signed_by(mallory, unpublished.name, bob.name), bob) == "''\n"


def test_nothing_is_returned_for_a_message_to_another_recipient(alice: Device, bob: Device) -> None:
    content = signed_by(read_private_key(alice.key_path), alice.name, "carol._device.example.test")
    assert authentic_text_of(content, bob) == "''\n"


def test_a_message_counts_as_encrypted_to_the_identity_key(alice: Device, bob: Device) -> None:
    content = signed_by(read_private_key(alice.key_path), alice.name, bob.name)
    assert authentic_text_of(content, bob.with_settings(REQUIRE_FORWARD_SECRECY=alice.name)) == "''\n"
    assert authentic_text_of(content, bob.with_settings(REQUIRE_FORWARD_SECRECY="other.example.com")) == "'hello'\n"
