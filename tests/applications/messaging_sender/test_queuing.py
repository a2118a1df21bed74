"""What is checked before a message is queued."""

import os
import time
from pathlib import Path

import pytest

from idlib.errors import KeyFileError, MessageError
from idlib.keys import encode_private_key, generate_private_key, key_path, locked, write_new
from idlib.names import IdentityName
from idlib.settings import KeyType, Settings, load
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from messaging_sender.queuing import queue_message

ALICE = IdentityName("alice._device.example.com")
BOB = "bob._device.example.com"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a device with a key."""
    key = generate_private_key(KeyType.P256)
    with locked(tmp_path):
        write_new(key_path(tmp_path, ALICE), encode_private_key(key), os.geteuid())
    return load({"IDENTITY_NAME": ALICE.text, "CRYPTO_PATH": str(tmp_path), "DATA_PATH": str(tmp_path / "data")})


def message(text: str, age_seconds: int = 0, lifetime: int | None = None) -> NewOutgoingMessage:
    return NewOutgoingMessage(BOB, "x" * 22, text, int(time.time()) - age_seconds, lifetime)


def queued(settings: Settings) -> int:
    with Outbox(settings.data_path) as outbox:
        return outbox.waiting().number


@pytest.mark.parametrize("octets", [1, 33_000, 36_000])
def test_a_message_that_can_be_sent_is_queued(settings: Settings, octets: int) -> None:
    queue_message(settings, message("x" * octets))
    assert queued(settings) == 1


@pytest.mark.parametrize(
    ("bad", "fact"),
    [
        (message(""), "the message is empty"),
        (message("x" * 37_000), "the message is too large: .* bytes when signed and encrypted"),
        (message("x", 60, 60), "the message expired before it could be sent"),
    ],
)
def test_a_message_that_can_never_be_sent_is_not_queued(settings: Settings, bad: NewOutgoingMessage, fact: str) -> None:
    with pytest.raises(MessageError, match=fact):
        queue_message(settings, bad)
    assert queued(settings) == 0


def test_the_key_is_needed_only_for_a_message_near_the_limit(settings: Settings) -> None:
    key_path(settings.crypto_path, ALICE).unlink()
    queue_message(settings, message("x" * 33_000))
    with pytest.raises(KeyFileError):
        queue_message(settings, message("x" * 36_000))
    assert queued(settings) == 1
