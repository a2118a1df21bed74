"""Which messages the sender signs, and which it rejects."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.errors import MessageError
from idlib.settings import load
from idlib.storage.outbox import NewOutgoingMessage
from messaging_sender.sealing import Sealer

ALICE = "alice._device.example.com"
BOB = "bob._device.example.com"


@pytest.fixture
def sealer() -> Sealer:
    settings = load({"IDENTITY_NAME": ALICE})
    key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    return Sealer(settings, key, Discovery.from_settings(settings))


def message(age_seconds: int, lifetime: int | None) -> NewOutgoingMessage:
    return NewOutgoingMessage(BOB, "AAAAAAAAAAAAAAAAAAAAAA", "text", int(time.time()) - age_seconds, lifetime)


def test_an_expired_message_is_reported_with_a_hint(sealer: Sealer) -> None:
    with pytest.raises(MessageError, match="expired before it could be sent; give more seconds with --expires"):
        sealer.check(message(60, 60))


@pytest.mark.parametrize("lifetime", [None, 3600])
def test_a_message_that_has_not_expired_is_accepted(sealer: Sealer, lifetime: int | None) -> None:
    sealer.check(message(60, lifetime))
