"""The record of an epoch key, a TXT record at `_epoch.NAME` (docs/protocol.md, "Epoch keys in DNS"); no I/O."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from idlib import base64url, signatures
from idlib.algorithms import PrivateKey, PublicKey
from idlib.epochs.keys import KEY_ID_OCTETS, PUBLIC_OCTETS, EpochPublicKey
from idlib.errors import MalformedRecordError, UnsuitableKeyError
from idlib.names import IdentityName

PREFIX: Final = b"epoch1:"
# The only suite so far: X25519 with ML-KEM-768, used as the JWE algorithm HPKE-9-KE.
HPKE_9_KE: Final = 9
MAX_RECORDS: Final = 8

_VERSION: Final = 1
_MAX_LIFE_SECONDS: Final = 400 * 24 * 60 * 60
_MAX_TIME: Final = 2**32 - 1
_MAX_STRING_BYTES: Final = 255
_HEADER: Final = struct.Struct(">BBHII")
_BODY_BYTES: Final = _HEADER.size + PUBLIC_OCTETS
_SIGNATURE_BYTES: Final = frozenset(length for lengths in signatures.LENGTHS.values() for length in lengths)
LONGEST_TEXT: Final = len(PREFIX) + len(base64url.encode(bytes(_BODY_BYTES + max(_SIGNATURE_BYTES))))
# No JWS and no certificate starts with these bytes, so a signature of one is never a signature of another.
_PURPOSE: Final = b"dane-mqtt epoch 1"
_CREATE_ANEW: Final = "the name's owner must publish a new epoch record"


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What a device says about one of its epoch keys.

    Args:
        start: When senders may use the key from, in seconds since the epoch.
        until: When the private half is destroyed, in seconds since the epoch; later than `start`, by at most 400 days.
        key: The public half.
        suite: The number of the algorithms that the key is used with.

    Raises:
        MalformedRecordError: A value is out of its range.
    """

    start: int
    until: int
    key: EpochPublicKey
    suite: int = HPKE_9_KE

    def __post_init__(self) -> None:
        if self.suite != HPKE_9_KE:
            raise _malformed(f"its suite is {self.suite}, and only {HPKE_9_KE} is supported", "use newer software")
        if not 0 <= self.start < self.until <= _MAX_TIME:
            raise _malformed(f"its times are {self.start} and {self.until}, which is not a period of time")
        if self.until - self.start > _MAX_LIFE_SECONDS:
            raise _malformed(
                f"its key lives for {self.until - self.start} seconds, which is more than {_MAX_LIFE_SECONDS}"
            )

    @classmethod
    def from_octets(cls, octets: bytes) -> Self:
        """Return the record whose bytes these are.

        Raises:
            MalformedRecordError: The bytes are not a record of this version, or the key is not usable.
        """
        if not octets or octets[0] != _VERSION:
            raise _malformed(f"its version is not {_VERSION}", "use newer software")
        if len(octets) != _BODY_BYTES:
            raise _malformed(f"it has {len(octets)} bytes before its signature instead of {_BODY_BYTES}")
        _, suite, reserved, start, until = _HEADER.unpack_from(octets)
        if reserved:
            raise _malformed("its reserved bytes are not 0", "use newer software")
        try:
            key = EpochPublicKey(octets[_HEADER.size :])
        except UnsuitableKeyError as error:
            raise _malformed(error.fact, error.hint) from error
        return cls(start, until, key, suite)

    def to_octets(self) -> bytes:
        """Return the record's bytes, without a signature."""
        return _HEADER.pack(_VERSION, self.suite, 0, self.start, self.until) + self.key.octets

    def signed_octets(self, name: IdentityName) -> bytes:
        """Return the bytes that the device signs.

        Args:
            name: The device's name, without `_epoch`.
        """
        return b"\0".join((_PURPOSE, name.text.encode(), self.to_octets()))

    def key_id(self, name: IdentityName) -> str:
        """Return the key's id, which a message names as `kid`: 22 characters, whatever the signature.

        Args:
            name: The device's name, without `_epoch`.
        """
        return base64url.encode(hashlib.sha256(self.signed_octets(name)).digest()[:KEY_ID_OCTETS])


@dataclass(frozen=True, slots=True)
class SignedEpochRecord:
    """An epoch record with a signature, which need not be valid.

    Args:
        record: The record.
        signature: As many bytes as RS256 or ES256 produces.

    Raises:
        MalformedRecordError: The signature has another length.
    """

    record: EpochRecord
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.signature) not in _SIGNATURE_BYTES:
            raise _malformed(f"its signature cannot have {len(self.signature)} bytes")

    @classmethod
    def create(cls, record: EpochRecord, name: IdentityName, key: PrivateKey) -> Self:
        """Return the record, signed.

        Args:
            record: The record.
            name: The device's name, without `_epoch`.
            key: The device's private key.
        """
        return cls(record, signatures.sign(key, record.signed_octets(name)))

    @classmethod
    def from_text(cls, text: bytes) -> Self:
        """Return the record in a TXT record.

        Args:
            text: The character-strings of the TXT record, joined.

        Raises:
            MalformedRecordError: The text is not an epoch record of this version, or its key is not usable.
        """
        if not text.startswith(PREFIX):
            raise _malformed(f"it does not start with {PREFIX.decode()}")
        if len(text) > LONGEST_TEXT:
            raise _malformed(f"it has {len(text)} bytes, which is more than {LONGEST_TEXT}")
        try:
            octets = base64url.decode(text.removeprefix(PREFIX).decode("ascii"))
        except ValueError as error:
            raise _malformed("it is not base64url") from error
        return cls(EpochRecord.from_octets(octets[:_BODY_BYTES]), octets[_BODY_BYTES:])

    def to_text(self) -> bytes:
        """Return the text of the TXT record."""
        return PREFIX + base64url.encode(self.record.to_octets() + self.signature).encode()

    def to_strings(self) -> tuple[bytes, ...]:
        """Return the character-strings of the TXT record: its text, cut after every 255 bytes."""
        text = self.to_text()
        return tuple(text[start : start + _MAX_STRING_BYTES] for start in range(0, len(text), _MAX_STRING_BYTES))

    def is_signed_by(self, keys: Iterable[PublicKey], name: IdentityName) -> bool:
        """Return whether one of the keys has signed the record for this name.

        Args:
            keys: The keys in the device's usable TLSA records.
            name: The device's name, without `_epoch`.
        """
        octets = self.record.signed_octets(name)
        return any(
            len(self.signature) in signatures.LENGTHS[key.algorithms.signature]
            and signatures.is_valid(key, self.signature, octets)
            for key in keys
        )


@dataclass(frozen=True, slots=True)
class PublishedEpoch:
    """An epoch key that a device has published and signed.

    Args:
        record: The record.
        key_id: The key's id.
    """

    record: EpochRecord
    key_id: str


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """An epoch record that is not used.

    Args:
        reason: What is wrong with it, in one line.
        is_signed_by_another: The record has the right form, but its signature is by none of the keys in the device's
            TLSA records. Either may be outdated after a change of the key, so DNS is worth asking again.
    """

    reason: str
    is_signed_by_another: bool = False


@dataclass(frozen=True, slots=True)
class EpochRecords:
    """The epoch records of a name, judged one by one.

    Args:
        usable: Those of the right form and signature, whatever their times; each key once.
        skipped: The others.
    """

    usable: tuple[PublishedEpoch, ...]
    skipped: tuple[SkippedRecord, ...]


def read_epoch_records(name: IdentityName, texts: Iterable[bytes], keys: Sequence[PublicKey]) -> EpochRecords:
    """Return the epoch records among the TXT records at `_epoch.NAME`.

    Texts that do not start with `epoch1:` have another purpose and are ignored. Of the rest, only the first 8 in the
    order of their bytes are read, because each may take the verification of a signature.

    Args:
        name: The device's name, without `_epoch`.
        texts: The TXT records, each with its character-strings joined, in any order.
        keys: The keys in the device's usable TLSA records.
    """
    usable: dict[str, PublishedEpoch] = {}
    skipped: list[SkippedRecord] = []
    for text in sorted({text for text in texts if text.startswith(PREFIX)})[:MAX_RECORDS]:
        try:
            signed = SignedEpochRecord.from_text(text)
        except MalformedRecordError as error:
            skipped.append(SkippedRecord(str(error)))
            continue
        if signed.is_signed_by(keys, name):
            key_id = signed.record.key_id(name)
            usable[key_id] = PublishedEpoch(signed.record, key_id)
        else:
            skipped.append(
                SkippedRecord("it is not signed by a key in the name's TLSA records", is_signed_by_another=True)
            )
    return EpochRecords(tuple(usable.values()), tuple(skipped))


def _malformed(fact: str, hint: str = _CREATE_ANEW) -> MalformedRecordError:
    return MalformedRecordError(fact, hint)
