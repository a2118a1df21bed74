"""Receipts that are encrypted to our own epoch keys."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, seal_receipt
from idlib.epochs import IdentifiedEpochKey
from idlib.epochs.halves import Halves, KeptHalf
from idlib.errors import ExitStatus, KeyFileError, NoRecordError
from idlib.names import IdentityName
from idlib.settings import Settings
from messaging_sender.bounds import MAX_RECEIPT_OCTETS
from messaging_sender.own_halves import OwnHalves, check_own_halves
from messaging_sender.receipt_listener import ReceiptListener
from messaging_sender.sealing import Sealer
from testbed.programs import ROOT
from tests.applications.messaging_sender.marked import (
    ALICE,
    BOB,
    DAY,
    HOUR,
    KEY,
    MARKED,
    UNMARKED,
    Answer,
    Dns,
    discovery_of,
    settings_of,
)

IDENTIFIER: Final = "AAAAAAAAAAAAAAAAAAAAAA"


def create_half(settings: Settings, lives_for: int = DAY) -> KeptHalf:
    now = int(time.time())
    halves = Halves(settings.epoch_directory, settings.identity_name)
    return halves.create(now - 2 * HOUR, now + lives_for, 0.0, bytes(32))


def receipt(half: KeptHalf, reference: str = IDENTIFIER) -> bytes:
    key = IdentifiedEpochKey(half.half.key_id, half.key.public)
    binding = Binding.new(ALICE, int(time.time()))
    return seal_receipt(reference, sender=BOB, signing_key=KEY, encryption_key=key, binding=binding)


@pytest.fixture(params=["DATA_PATH", "EPOCH_PATH"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_of(tmp_path, **({"EPOCH_PATH": str(tmp_path / "halves")} if request.param == "EPOCH_PATH" else {}))


def listener_of(settings: Settings) -> ReceiptListener:
    sealer = Sealer(settings, KEY, discovery_of(Dns([UNMARKED])))
    return ReceiptListener(settings, sealer, BOB, IDENTIFIER)


def test_a_receipt_to_an_epoch_key_is_opened_with_a_half_that_was_created_meanwhile(settings: Settings) -> None:
    listener = listener_of(settings)
    half = create_half(settings)
    assert listener.is_receipt(receipt(half))
    assert not listener.is_receipt(receipt(half, "another message"))
    Halves(settings.epoch_directory, settings.identity_name).destroy(half.half)
    assert not listener.is_receipt(receipt(half))


def test_a_half_that_is_overdue_or_damaged_opens_nothing(settings: Settings) -> None:
    listener = listener_of(settings)
    assert not listener.is_receipt(receipt(create_half(settings, -1)))
    half = create_half(settings)
    (settings.epoch_directory / half.half.key_id).write_bytes(b"damaged")
    assert not listener.is_receipt(receipt(half))


def test_the_halves_are_listed_without_the_overdue_ones_and_stay_as_they_are(settings: Settings) -> None:
    assert len(OwnHalves(settings)) == 0
    assert not settings.epoch_directory.exists()
    half = create_half(settings)
    create_half(settings, -1)
    before = sorted(path.name for path in settings.epoch_directory.iterdir())
    assert list(OwnHalves(settings)) == [half.half.key_id]
    assert half.half.key_id in OwnHalves(settings)
    assert "x" * 22 not in OwnHalves(settings)
    assert sorted(path.name for path in settings.epoch_directory.iterdir()) == before


def check(settings: Settings, answer: Answer) -> None:
    # The records are Bob's, and the judgement of a `3 0 0` does not depend on the name.
    check_own_halves(settings, discovery_of(Dns(answer)))


def test_a_device_that_is_not_marked_needs_no_halves(settings: Settings) -> None:
    check(settings, [UNMARKED])
    check(settings, NoRecordError("there is no record"))


def test_a_marked_device_needs_a_living_half(settings: Settings) -> None:
    create_half(settings, -1)
    with pytest.raises(KeyFileError, match="has no living epoch key; set EPOCH_PATH to ") as caught:
        check(settings, [MARKED])
    assert caught.value.exit_status == ExitStatus.KEY
    create_half(settings)
    check(settings, [MARKED])


def test_a_half_that_cannot_be_read_is_named(settings: Settings) -> None:
    half = create_half(settings)
    (settings.epoch_directory / half.half.key_id).write_bytes(b"damaged")
    with pytest.raises(KeyFileError, match=f"could not open the receipt.*{half.half.key_id}' is damaged"):
        check(settings, [MARKED])


def test_a_directory_that_cannot_be_read_is_named(settings: Settings) -> None:
    settings.epoch_directory.parent.mkdir(exist_ok=True)
    settings.epoch_directory.write_text("a file")
    with pytest.raises(KeyFileError, match="cannot be read: Not a directory; set EPOCH_PATH to "):
        check(settings, [MARKED])


def test_a_receipt_with_the_longest_names_and_the_largest_keys_is_not_ignored(tmp_path: Path) -> None:
    longest = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 54))
    assert len(longest) == 246
    key = PrivateKey(rsa.generate_private_key(65537, 4096))
    half = create_half(settings_of(tmp_path))
    binding = Binding.new(IdentityName(longest), int(time.time()))
    for encryption_key in (IdentifiedEpochKey(half.half.key_id, half.key.public), key.public):
        payload = seal_receipt(
            "x" * 128,
            sender=IdentityName(longest),
            signing_key=key,
            encryption_key=encryption_key,
            binding=binding,
        )
        assert len(payload) <= MAX_RECEIPT_OCTETS


_LISTEN: Final = """
import sys
from pathlib import Path
from messaging_sender.own_halves import check_own_halves
from messaging_sender.receipt_listener import ReceiptListener
from messaging_sender.sealing import Sealer
from tests.applications.messaging_sender import marked
settings = marked.settings_of(Path(sys.argv[1]))
discovery = marked.discovery_of(marked.Dns([marked.UNMARKED]))
for name in [name for name in sys.modules if name.startswith("idlib.epochs")]:
    del sys.modules[name]
check_own_halves(settings, discovery)
ReceiptListener(settings, Sealer(settings, marked.KEY, discovery), marked.BOB, "id").is_receipt(b"noise")
print([name for name in sys.modules if name.startswith("idlib.epochs")])
"""


def test_a_device_without_epoch_keys_loads_nothing_of_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LISTEN, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
