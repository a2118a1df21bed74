"""Target: the text of an epoch record. An input is the joined character-strings of one TXT record."""

from random import Random
from typing import Final

from fuzz.mutation import mutate_in_place
from fuzz.target import MutateOctets, Target, check_harmless
from fuzz.world import ALICE, MALLORY, keys, published
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import PREFIX, EpochRecord, SignedEpochRecord, read_epoch_records
from idlib.epochs.selection import ChosenEpoch, choose
from testbed.forge import b64, unb64

_NOW: Final = 1_800_000_000
_DAY: Final = 24 * 3600
_RECORDS: Final = [
    EpochRecord(_NOW - 3600, _NOW + life, EpochPrivateKey(bytes([life % 256]) * 32).public)
    for life in (9 * _DAY, 4 * 3600, 60)
]
_BESIDE: Final = SignedEpochRecord.create(_RECORDS[0], ALICE, keys(ALICE)["RSA"])


def _seeds() -> list[bytes]:
    signed = [
        SignedEpochRecord.create(record, ALICE, key)
        for record in _RECORDS
        for key in (*keys(ALICE).values(), keys(MALLORY)["P-256"])
    ]
    return [*(record.to_text() for record in signed), b"v=spf1 -all", PREFIX, PREFIX + b"AQ"]


def _check(octets: bytes) -> str:
    alone = read_epoch_records(ALICE, [octets], published(ALICE))
    assert len(alone.usable) + len(alone.skipped) == octets.startswith(PREFIX), (
        "a record is judged, another text ignored"
    )
    beside = read_epoch_records(ALICE, [octets, _BESIDE.to_text()], published(ALICE))
    assert _RECORDS[0] in [epoch.record for epoch in beside.usable], "a record hides no other"
    for skipped in alone.skipped:
        check_harmless(skipped.reason)
    if not alone.usable:
        return (
            ("skipped, of another" if alone.skipped[0].is_signed_by_another else "skipped")
            if alone.skipped
            else "foreign"
        )
    (epoch,) = alone.usable
    assert epoch.record in _RECORDS, "nothing is used that its owner has not signed"
    assert SignedEpochRecord.from_text(octets).to_text() == octets, "a record has one text"
    assert epoch.key_id == epoch.record.key_id(ALICE), "a key has its id"
    outcome = choose(alone, _NOW, 7 * _DAY)
    return outcome.shortening.name.lower() if isinstance(outcome, ChosenEpoch) else "not live"


def _mutate(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    """Change the record within its base64url, which random bytes rarely reach."""
    try:
        record = unb64(octets.removeprefix(PREFIX).decode())
    except ValueError:
        record = b""
    if not record or generator.random() < 0.2:
        return mutate_octets(octets, len(octets) + 64)
    return PREFIX + b64(mutate_in_place(record, generator, mutate_octets)).encode()


TARGET: Final = Target(_seeds, _check, _mutate)
