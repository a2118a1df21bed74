"""Creates epoch_vectors.json, once: `python -m tests.idlib.epochs.vectors` (the ES256 parts differ in each run)."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from idlib import certificates, marks
from idlib.algorithms import PrivateKey
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.names import IdentityName

PATH: Final = Path(__file__).with_name("epoch_vectors.json")
NAME: Final = IdentityName("alice._device.example.com")
NOW: Final = 1_800_000_000
START: Final = NOW - 3600
UNTIL: Final = START + 9 * 24 * 3600
_PROTOCOL: Final = Path(__file__).parents[3] / "docs" / "protocol.md"
_NEXT_VALUE: Final = x509.UnrecognizedExtension(marks.OID, b"\2\1\2")


def alice(kind: str) -> PrivateKey:
    """Return Alice's public test key in docs/protocol.md.

    Args:
        kind: The heading of the example, `rsa2048` or `p256`.
    """
    section = _PROTOCOL.read_text().partition(f"\n### {kind}\n")[2]
    pem = re.search(r"-----BEGIN.*?-----END[^\n]*", section, re.DOTALL)
    assert pem
    return PrivateKey(load_pem_private_key(pem[0].encode(), None))  # type: ignore[arg-type]  # PrivateKey checks it


def _certificate(key: PrivateKey, mark: x509.UnrecognizedExtension) -> str:
    subject = certificates.build_subject(
        NAME, country="US", state="CA", locality="San Francisco", organization="example"
    )
    alternative_name = certificates.build_subject_alternative_name(NAME)
    now = datetime.fromtimestamp(NOW, UTC)
    certificate = certificates.build_self_signed_certificate(key, subject, alternative_name, now, mark)
    return certificate.public_bytes(Encoding.DER).hex()


def _record(seed: bytes, key: PrivateKey) -> dict[str, Any]:
    record = EpochRecord(START, UNTIL, EpochPrivateKey(seed).public)
    signed = SignedEpochRecord.create(record, NAME, key)
    return {
        "name": NAME.text,
        "from": START,
        "until": UNTIL,
        "seed": seed.hex(),
        "body": record.to_octets().hex(),
        "signed": record.signed_octets(NAME).hex(),
        "kid": record.key_id(NAME),
        "signature": signed.signature.hex(),
        "strings": [string.decode() for string in signed.to_strings()],
    }


def _vectors() -> dict[str, Any]:
    rsa, p256 = alice("rsa2048"), alice("p256")
    return {
        "records": {kind: _record(bytes(range(32)), key) for kind, key in (("RS256", rsa), ("ES256", p256))},
        "certificates": {
            "marked, RSA": _certificate(rsa, marks.EXTENSION),
            "marked, P-256": _certificate(p256, marks.EXTENSION),
            "value 2": _certificate(p256, _NEXT_VALUE),
        },
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(_vectors(), indent=1) + "\n")
