"""Which messages the sender signs, and which it rejects."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery, Found, PublishedKey
from idlib.envelope import SealedTo, decrypt, parse_decrypted, verify
from idlib.epochs.selection import Shortening
from idlib.errors import MessageError, UnknownEpochKey
from idlib.keys import encode_private_key, key_path, locked, replace_key
from idlib.names import IdentityName
from idlib.settings import load
from idlib.storage.outbox import NewOutgoingMessage
from messaging_sender.sealing import Sealer
from testbed.programs import ROOT
from tests.applications.messaging_sender import marked
from tests.applications.messaging_sender.marked import (
    DAY,
    HALF,
    HOUR,
    MARKED,
    UNMARKED,
    Dns,
    discovery_of,
    record,
    settings_of,
    txt,
)

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


def sealer_of(directory: Path, dns: Dns, **settings: str) -> Sealer:
    return Sealer(settings_of(directory, **settings), marked.KEY, discovery_of(dns))


def test_a_message_to_a_marked_recipient_opens_with_the_private_half_alone(tmp_path: Path) -> None:
    one = record()
    sealed = sealer_of(tmp_path, Dns([MARKED], [txt(one)])).seal(marked.message())
    opened = decrypt(sealed.payload, marked.BOB, (), {one.key_id(marked.BOB): HALF})
    assert opened.sealed_to is SealedTo.EPOCH is sealed.kind
    assert verify(parse_decrypted(opened), (marked.KEY.public,)) == b"a text"
    with pytest.raises(UnknownEpochKey):
        decrypt(sealed.payload, marked.BOB, (marked.KEY,), {})


def test_a_message_to_an_unmarked_recipient_opens_with_its_identity_key(tmp_path: Path) -> None:
    sealed = sealer_of(tmp_path, Dns([UNMARKED], [txt(record())])).seal(marked.message(lifetime=60))
    assert decrypt(sealed.payload, marked.BOB, (marked.KEY,)).sealed_to is SealedTo.IDENTITY is sealed.kind
    assert sealed.readable_until is None
    assert 58 <= sealed.expiry_seconds <= 60


@pytest.mark.parametrize(
    ("lives_for", "age", "shortening", "expected"),
    [
        (9 * DAY, HOUR, Shortening.NONE, 7 * DAY),
        (4 * HOUR, HOUR, Shortening.USUAL, 4 * HOUR),
        (4 * HOUR, 8 * DAY, Shortening.UNUSUAL, 4 * HOUR),
    ],
)
def test_the_broker_drops_a_message_when_its_key_is_destroyed(
    lives_for: int, age: int, shortening: Shortening, expected: int, tmp_path: Path
) -> None:
    sealed = sealer_of(tmp_path, Dns([MARKED], [txt(record(lives_for, age))])).seal(marked.message())
    assert sealed.epoch is not None
    assert sealed.epoch.shortening is shortening
    assert expected - 3 <= sealed.expiry_seconds <= expected


@pytest.mark.parametrize(
    ("answer", "use"), [(MARKED, "signatures by this key are accepted"), (UNMARKED, "encrypted to it")]
)
def test_the_description_says_which_key_is_used(
    answer: bytes, use: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        sealer_of(tmp_path, Dns([answer], [txt(record())])).describe(marked.BOB)
    line = next(one.getMessage() for one in caplog.records if one.getMessage().startswith("Record 3 0 0"))
    assert use in line
    is_announced = (
        f"{marked.BOB} is marked as having epoch keys: the message is encrypted to one of them." in caplog.text
    )
    assert is_announced == (answer is MARKED)


_SEAL = """
import sys
from pathlib import Path
from messaging_sender.sealing import Sealer
from tests.applications.messaging_sender import marked
dns = marked.Dns([marked.UNMARKED], [])
sealer = Sealer(marked.settings_of(Path(sys.argv[1])), marked.KEY, marked.discovery_of(dns))
for name in [name for name in sys.modules if name.startswith("idlib.epochs")]:
    del sys.modules[name]
sealer.seal(marked.message())
print([name for name in sys.modules if name.startswith("idlib.epochs") or name == "sqlite3"], dns.asked)
"""


def test_sealing_to_an_identity_key_imports_nothing_of_epoch_keys_and_asks_dns_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SEAL, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("[] ['TLSA']\n", "")
