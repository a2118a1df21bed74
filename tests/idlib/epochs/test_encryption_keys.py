from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, marks, signatures
from idlib.algorithms import PrivateKey, PublicKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import EpochLookUp, LookUp
from idlib.epochs import EpochPrivateKey
from idlib.epochs.encryption_keys import EncryptionKeys, IdentityKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.epochs.selection import ChosenEpoch
from idlib.errors import (
    BogusError,
    DiscoveryError,
    EpochKeyUnavailableError,
    NoEpochRecordError,
    NoRecordError,
    NotSecureError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
)
from idlib.names import IdentityName

BOB: Final = IdentityName("bob._device.example.test")
NOW: Final = 1_900_000_000
HOUR: Final = 3600
DAY: Final = 24 * HOUR
KEY, NEW_KEY, STRANGER = (PrivateKey(ec.generate_private_key(ec.SECP256R1())) for _ in range(3))
RSA_KEY: Final = PrivateKey(rsa.generate_private_key(65537, 2048))
EPOCH: Final = EpochPrivateKey(bytes(range(32)))

Answer = list[bytes] | DiscoveryError


@dataclass
class Dns:
    """Answers each look-up with the next answer of its kind, and then with the last one again."""

    tlsa: Sequence[Answer]
    texts: Sequence[Answer] = ()
    asked: list[str] = field(default_factory=list)

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        record_type, answers = ("TXT", self.texts) if isinstance(wanted, EpochLookUp) else ("TLSA", self.tlsa)
        answer = answers[min(self.asked.count(record_type), len(answers) - 1)]
        self.asked.append(record_type)
        if isinstance(answer, DiscoveryError):
            raise answer
        return AuthenticRecords(tuple(answer), 300, "made in a test")


def tlsa(*extensions: x509.ExtensionType, key: PrivateKey = KEY) -> bytes:
    subject = certificates.build_subject(BOB, country="US", state="CA", locality="San Francisco", organization="a")
    alternative = certificates.build_subject_alternative_name(BOB)
    now = datetime.fromtimestamp(NOW, UTC)
    certificate = certificates.build_self_signed_certificate(key, subject, alternative, now, *extensions)
    return b"\3\0\0" + certificate.public_bytes(Encoding.DER)


def txt(
    until: int = NOW + 9 * DAY, key: PrivateKey = KEY, *, start: int = NOW - HOUR, name: IdentityName = BOB
) -> bytes:
    signed = SignedEpochRecord.create(EpochRecord(start, until, EPOCH.public), name, key)
    return b"".join(bytes([len(string)]) + string for string in signed.to_strings())


MARKED: Final = tlsa(marks.EXTENSION)
UNMARKED: Final = tlsa()
REPLACED: Final = tlsa(marks.EXTENSION, key=NEW_KEY)


def keys_of(dns: Dns, clock: Callable[[], float] = lambda: 0.0) -> EncryptionKeys:
    return EncryptionKeys(Discovery(dns, clock=clock, now=lambda: datetime.fromtimestamp(NOW, UTC)))


def found_in(dns: Dns, life_seconds: int = DAY) -> IdentityKey | ChosenEpoch:
    return keys_of(dns).find(BOB, NOW, life_seconds)


def why_not(dns: Dns) -> EpochKeyUnavailableError:
    with pytest.raises(EpochKeyUnavailableError) as caught:
        found_in(dns)
    assert caught.value.hint
    assert isinstance(caught.value, TemporaryDiscoveryError)
    return caught.value


def test_an_unmarked_name_is_written_to_with_its_identity_key_and_one_look_up() -> None:
    dns = Dns([[UNMARKED]], [[txt()]])
    key = found_in(dns)
    assert isinstance(key, IdentityKey)
    assert key.public_key.der == KEY.public.der
    assert dns.asked == ["TLSA"]


def test_a_marked_name_is_written_to_with_its_epoch_key() -> None:
    dns = Dns([[MARKED]], [[txt()]])
    chosen = found_in(dns)
    assert isinstance(chosen, ChosenEpoch)
    assert chosen.epoch.record.key == EPOCH.public
    assert chosen.epoch.key_id == EpochRecord(NOW - HOUR, NOW + 9 * DAY, EPOCH.public).key_id(BOB)
    assert (chosen.readable_until, chosen.life_seconds) == (NOW + 9 * DAY, DAY)
    assert dns.asked == ["TLSA", "TXT"]


def test_the_remaining_life_of_the_message_decides_between_two_keys() -> None:
    dns = Dns([[MARKED]], [[txt(NOW + 2 * DAY), txt(NOW + 9 * DAY)]])
    for life_seconds, until in ((DAY, NOW + 2 * DAY), (7 * DAY, NOW + 9 * DAY), (10 * DAY, NOW + 9 * DAY)):
        chosen = found_in(dns, life_seconds)
        assert isinstance(chosen, ChosenEpoch)
        assert chosen.readable_until == until


def test_an_unsupported_mark_waits_without_another_look_up() -> None:
    dns = Dns([[tlsa(x509.UnrecognizedExtension(marks.OID, b"\2\1\2"))]], [[txt()]])
    assert "in a form that is not supported" in why_not(dns).fact
    assert dns.asked == ["TLSA"]


@pytest.mark.parametrize(
    "error",
    [EpochLookUp(BOB).absence(None, "example.test", 5, name_exists=True), NotSecureError("not signed", "sign it", "a")],
)
def test_a_verdict_about_the_epoch_records_makes_the_message_wait(error: DiscoveryError) -> None:
    waiting = why_not(Dns([[MARKED]], [error]))
    assert (waiting.fact, waiting.hint, waiting.zone) == (error.fact, error.hint, error.zone)
    assert isinstance(waiting.__cause__, NoEpochRecordError | NotSecureError)


@pytest.mark.parametrize("kind", [BogusError, TemporaryDiscoveryError, UnprovenAbsenceError])
@pytest.mark.parametrize("record_type", ["TLSA", "TXT"])
def test_a_failure_of_dns_stays_what_it_is(kind: type[DiscoveryError], record_type: str) -> None:
    error = kind("the fact", "the hint")
    dns = Dns([error], []) if record_type == "TLSA" else Dns([[MARKED]], [error])
    with pytest.raises(kind, match="the fact; the hint") as caught:
        found_in(dns)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([b"\5hello"], "it has published no epoch record"),
        ([txt(NOW + HOUR - 1)], "its last epoch key is destroyed in less than an hour"),
        ([txt(NOW - 1, start=NOW - DAY)], "its last epoch key was destroyed at "),
        ([txt(start=NOW + DAY)], "its next epoch key starts at "),
        ([b"\x0aepoch1:AAAA"[:11]], "none of its 1 epoch records can be used"),
    ],
)
def test_without_a_live_record_the_message_waits_and_dns_is_not_asked_again(records: list[bytes], reason: str) -> None:
    dns = Dns([[MARKED]], [records])
    fact = why_not(dns).fact
    assert fact.startswith(f"{BOB} is marked as having epoch keys, but ")
    assert reason in fact
    assert dns.asked == ["TLSA", "TXT"]


@pytest.mark.parametrize(
    "dns",
    [
        pytest.param(Dns([[MARKED], [REPLACED]], [[txt(key=NEW_KEY)]]), id="outdated TLSA records"),
        pytest.param(Dns([[REPLACED]], [[txt()], [txt(key=NEW_KEY)]]), id="outdated TXT records"),
    ],
)
def test_both_types_are_looked_up_again_if_only_the_signature_fails(dns: Dns) -> None:
    keys = keys_of(dns)
    for _ in range(3):
        assert isinstance(keys.find(BOB, NOW, DAY), ChosenEpoch)
    assert dns.asked == ["TLSA", "TXT"] * 2


def test_they_are_looked_up_again_at_most_once_a_minute() -> None:
    dns = Dns([[MARKED]], [[txt(key=STRANGER)]])
    seconds = [0.0]
    keys = keys_of(dns, lambda: seconds[0])
    for minute in range(3):
        seconds[0] = minute * 60.0
        for _ in range(5):
            with pytest.raises(EpochKeyUnavailableError, match="not signed by a key in the name's TLSA records"):
                keys.find(BOB, NOW, DAY)
        assert dns.asked == ["TLSA", "TXT"] * (minute + 2)


def test_a_live_record_beside_one_with_a_foreign_signature_needs_no_other_look_up() -> None:
    dns = Dns([[MARKED]], [[txt(key=STRANGER), txt()]])
    assert isinstance(found_in(dns), ChosenEpoch)
    assert dns.asked == ["TLSA", "TXT"]


def test_the_record_of_another_name_is_not_used() -> None:
    dns = Dns([[MARKED]], [[txt(name=IdentityName("carol._device.example.test"))]])
    assert "not signed by a key" in why_not(dns).fact


def test_a_name_that_is_found_to_be_unmarked_in_the_second_look_up_is_unmarked() -> None:
    dns = Dns([[MARKED], [UNMARKED]], [[txt(key=STRANGER)]])
    assert isinstance(found_in(dns), IdentityKey)
    assert dns.asked == ["TLSA", "TXT", "TLSA"]


@pytest.mark.parametrize("error", [NoRecordError("gone"), TemporaryDiscoveryError("away")])
def test_the_error_of_the_second_look_up_is_reported(error: DiscoveryError) -> None:
    with pytest.raises(type(error), match=error.fact):
        found_in(Dns([[MARKED], error], [[txt(key=STRANGER)]]))


def test_the_key_of_any_usable_record_may_sign() -> None:
    others = [PrivateKey(ec.generate_private_key(ec.SECP256R1())) for _ in range(6)]
    bare = [b"\3\1\0" + key.public.der for key in (RSA_KEY, *others)]
    for signer in (KEY, RSA_KEY, *others):
        assert isinstance(found_in(Dns([[MARKED, *bare]], [[txt(key=signer)]])), ChosenEpoch)


def test_a_thousand_messages_cost_one_verification_and_two_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[bytes] = []
    is_valid = signatures.is_valid

    def count(key: PublicKey, signature: bytes, octets: bytes) -> bool:
        verified.append(signature)
        return is_valid(key, signature, octets)

    monkeypatch.setattr(signatures, "is_valid", count)
    dns = Dns([[MARKED]], [[txt()]])
    keys = keys_of(dns)
    for _ in range(1000):
        assert isinstance(keys.find(BOB, NOW, DAY), ChosenEpoch)
    assert len(verified) == 1
    assert dns.asked == ["TLSA", "TXT"]
