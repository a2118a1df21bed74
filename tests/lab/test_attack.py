"""The messages of the lab's attacker are refused for the reason that the lab gives."""

import json
import time
from pathlib import Path

import pytest

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, decrypt, parse, seal, verify
from idlib.errors import ConfigurationError, Reason, Refusal
from idlib.keys import generate_private_key
from idlib.names import IdentityName
from idlib.settings import KeyType
from lab.attack import FORGERY, forge, read_overheard, tamper

ALICE = IdentityName("alice._device.example.test")
BOB = IdentityName("bob._device.example.test")


@pytest.fixture(scope="module")
def alice_key() -> PrivateKey:
    return generate_private_key(KeyType.RSA2048)


@pytest.fixture(scope="module")
def bob_key() -> PrivateKey:
    return generate_private_key(KeyType.RSA2048)


@pytest.fixture
def payload(alice_key: PrivateKey, bob_key: PrivateKey) -> bytes:
    return seal(
        "hello",
        sender=ALICE,
        signing_key=alice_key,
        recipient=BOB,
        encryption_key=bob_key.public,
        binding=Binding.new(BOB, int(time.time())),
    )


def test_a_tampered_message_differs_only_in_its_ciphertext_and_does_not_open(
    payload: bytes, bob_key: PrivateKey
) -> None:
    before, after = json.loads(payload), json.loads(tamper(payload))
    assert {member for member in before if before[member] != after[member]} == {"ciphertext"}
    with pytest.raises(Refusal) as refusal:
        decrypt(tamper(payload), BOB, [bob_key])
    assert refusal.value.reason is Reason.DECRYPTION_FAILED


def test_a_forged_message_opens_and_its_signature_is_invalid(alice_key: PrivateKey, bob_key: PrivateKey) -> None:
    message = parse(decrypt(forge(ALICE, BOB, bob_key.public), BOB, [bob_key]).signed)
    assert (message.sender, message.unverified_content.decode()) == (ALICE, FORGERY)
    with pytest.raises(Refusal) as refusal:
        verify(message, [alice_key.public])
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("payload", [b"", b"hello", b"[]", b"{}", b'{"ciphertext": 1}', b'{"ciphertext": ""}', b"\xff"])
def test_only_an_encrypted_message_can_be_tampered_with(payload: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not an encrypted message"):
        tamper(payload)


def test_the_hint_shows_what_to_do_if_no_message_was_overheard(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="send one"):
        read_overheard(tmp_path / "overheard")
