"""A recipient with epoch keys, whose records a stand-in for DNS returns."""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, marks
from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import EpochLookUp, LookUp
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.errors import DiscoveryError
from idlib.names import IdentityName
from idlib.settings import Settings, load
from idlib.storage.outgoing import NewOutgoingMessage

ALICE: Final = IdentityName("alice._device.example.com")
BOB: Final = IdentityName("bob._device.example.com")
HOUR: Final = 3600
DAY: Final = 24 * HOUR
KEY: Final = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
HALF: Final = EpochPrivateKey(bytes(range(32)))

Answer = list[bytes] | DiscoveryError


@dataclass
class Dns:
    """Answers each look-up with the present answer of its kind."""

    tlsa: Answer
    texts: Answer = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        record_type, answer = ("TXT", self.texts) if isinstance(wanted, EpochLookUp) else ("TLSA", self.tlsa)
        self.asked.append(record_type)
        if isinstance(answer, DiscoveryError):
            raise answer
        return AuthenticRecords(tuple(answer), 300, "made in a test")


def discovery_of(dns: Dns) -> Discovery:
    return Discovery(dns)


def tlsa(*extensions: x509.ExtensionType) -> bytes:
    subject = certificates.build_subject(BOB, country="US", state="CA", locality="San Francisco", organization="a")
    alternative = certificates.build_subject_alternative_name(BOB)
    certificate = certificates.build_self_signed_certificate(KEY, subject, alternative, datetime.now(UTC), *extensions)
    return b"\3\0\0" + certificate.public_bytes(Encoding.DER)


def record(lives_for: int = 9 * DAY, age: int = HOUR) -> EpochRecord:
    now = int(time.time())
    return EpochRecord(now - age, now + lives_for, HALF.public)


def txt(one: EpochRecord, key: PrivateKey = KEY) -> bytes:
    signed = SignedEpochRecord.create(one, BOB, key)
    return b"".join(bytes([len(string)]) + string for string in signed.to_strings())


MARKED: Final = tlsa(marks.EXTENSION)
UNMARKED: Final = tlsa()


def message(lifetime: int | None = None, *, was_sealed_to_epoch: bool = False) -> NewOutgoingMessage:
    identifier, now = "AAAAAAAAAAAAAAAAAAAAAA", int(time.time())
    return NewOutgoingMessage(str(BOB), identifier, "a text", now, lifetime, was_sealed_to_epoch=was_sealed_to_epoch)


def settings_of(directory: Path, **others: str) -> Settings:
    return load(
        {
            "IDENTITY_NAME": str(ALICE),
            "CRYPTO_PATH": str(directory),
            "DATA_PATH": str(directory / "data"),
            "APP_UID": str(os.geteuid()),
            **others,
        }
    )
