"""Certificates with any contents that a test needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NAME = "alice._device.example.test"


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Authority:
    """A certification authority with its certificate."""

    extensions: Sequence[x509.ExtensionType] = (x509.BasicConstraints(ca=True, path_length=None),)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    since: datetime = NOW

    @property
    def certificate(self) -> x509.Certificate:
        builder = _builder(_name("authority"), self.key.public_key(), _name("authority"), self.since)
        for extension in self.extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        alternatives: Sequence[str] | None = (NAME,),
        extensions: Sequence[x509.ExtensionType] = (),
        since: datetime = NOW - timedelta(days=1),
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
        common_name: str = "device",
    ) -> x509.Certificate:
        """Issue a certificate that is valid for two days."""
        subject_key = key or ec_key()
        builder = _builder(_name(common_name), subject_key.public_key(), _name("authority"), since)
        if alternatives is not None:
            names = x509.SubjectAlternativeName([x509.DNSName(alternative) for alternative in alternatives])
            builder = builder.add_extension(names, critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: x509.Name,
    since: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(1)
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=2))
    )
