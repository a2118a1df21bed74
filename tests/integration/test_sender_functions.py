"""The sender's function that the article lists, called as in a user's own program."""

import subprocess
import sys

import pytest

from testbed.messages import BrokerClient
from testbed.programs import SEND_MESSAGE, Device, Program

PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from messaging_sender.send_message import sign_and_encrypt
print(sign_and_encrypt(sys.argv[2], sys.argv[3], os.getuid(), sys.argv[4], sys.argv[5]))
"""


def sign_and_encrypt(device: Device, message: str, recipient: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            str(SEND_MESSAGE.parent),
            device.name,
            str(device.crypto_path),
            message,
            recipient,
        ],
        env=device.without_setting("IDENTITY_NAME").without_setting("CRYPTO_PATH").environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_returned_message_is_printed_by_the_recipient(
    alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    sealed = sign_and_encrypt(alice, "as in Listing 1", bob.name)
    assert sealed.returncode == 0, sealed.stderr
    anybody.publish(bob, sealed.stdout.strip().encode())
    assert bob_receiver.wait_for_message("as in Listing 1") == f'"{alice.name} says: as in Listing 1"'


@pytest.mark.parametrize(
    ("recipient", "error"),
    [("not a name", "MalformedNameError"), ("nobody._device.example.test", "NoRecordError")],
)
def test_a_recipient_that_cannot_be_found_is_an_error(recipient: str, error: str, alice: Device) -> None:
    refused = sign_and_encrypt(alice, "text", recipient)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"idlib.errors.{error}: ")


def test_an_empty_message_is_an_error(alice: Device, bob: Device) -> None:
    refused = sign_and_encrypt(alice, "", bob.name)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("idlib.errors.MessageError: ")
