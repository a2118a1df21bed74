"""What is not sent because it would come back."""

import json

import pytest

from idlib.errors import MessageError
from idlib.names import IdentityName
from idlib.output import json_line
from messaging_receiver.local_broker.loops import check_is_no_echo

ALICE = IdentityName("alice._device.example.com")
BOB = IdentityName("bob._device.example.com")
RECEIVED = json_line(ALICE, "text", identifier="a", sent_at=1, received_at=2.0, sealed="identity").encode()
SEALED = json.dumps({"protected": "e30", "encrypted_key": "AA", "iv": "AA", "ciphertext": "AA", "tag": "AA"}).encode()


def test_an_encrypted_message_is_not_sent() -> None:
    with pytest.raises(MessageError, match="it is an encrypted message"):
        check_is_no_echo(BOB, SEALED)


def test_a_received_message_is_not_sent_back_to_its_sender() -> None:
    with pytest.raises(MessageError, match="it is the object of a message from alice"):
        check_is_no_echo(ALICE, RECEIVED)


@pytest.mark.parametrize(
    "payload",
    [
        RECEIVED,
        b"The kettle is on.",
        b'{"temperature": 21.5}',
        b'{"sender": "bob._device.example.com"}',
        b"{",
        b"{}",
        b'{"a": ' * 100_000,
        b"{\xff}",
        b"[1, 2]",
    ],
    ids=["of another", "text", "object", "one member", "no JSON", "empty", "deep", "no UTF-8", "list"],
)
def test_anything_else_may_be_sent(payload: bytes) -> None:
    check_is_no_echo(BOB, payload)
