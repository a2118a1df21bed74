"""Which messages the sender signs, and which it rejects."""

import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery, Found, PublishedKey
from idlib.errors import MessageError
from idlib.keys import encode_private_key, key_path, locked, replace_key
from idlib.names import IdentityName
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


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sealer:
    """Return the sealer of a device with key files, which finds a key of the recipient."""
    settings = load({"IDENTITY_NAME": ALICE, "CRYPTO_PATH": str(tmp_path), "APP_UID": str(os.geteuid())})
    replace_own_key(tmp_path)
    sealer = Sealer.from_settings(settings)
    recipient = PublishedKey("3 1 0", PrivateKey(ec.generate_private_key(ec.SECP256R1())).public.der)
    monkeypatch.setattr(sealer.discovery, "find", lambda name: Found(name, (recipient,), (), "made in a test"))
    return sealer


def replace_own_key(directory: Path) -> bytes:
    key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    with locked(directory):
        replace_key(directory, IdentityName(ALICE), encode_private_key(key), os.geteuid())
    return key.public.der


def test_a_key_that_was_replaced_signs_the_next_message(device: Sealer, tmp_path: Path) -> None:
    old = device.key.public.der
    device.seal(message(0, None))
    assert device.key.public.der == old
    new = replace_own_key(tmp_path)
    device.seal(message(0, None))
    assert device.key.public.der == new
    assert {key.public.der for key in device.own_keys()} == {new, old}


def test_a_key_that_is_damaged_leaves_the_old_one_in_use(
    device: Sealer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = device.key.public.der
    key_path(tmp_path, IdentityName(ALICE)).write_text("no key")
    for _ in range(2):
        device.seal(message(0, None))
    assert device.key.public.der == old
    assert [key.public.der for key in device.own_keys()] == [old]
    # Once, not for every message.
    assert caplog.text.count("Key not reloaded, the old one stays in use") == 1
    new = replace_own_key(tmp_path)
    device.seal(message(0, None))
    assert device.key.public.der == new
