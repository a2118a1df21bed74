"""Certificates and keys of every kind, good and bad, by the words with which the table of conditions names them."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY: Final = timedelta(days=1)
_SERVER_ONLY: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_CLIENT_TOO: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_ANY_USAGE: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
_RSA_ENCRYPTION: Final = "300d06092a864886f70d0101010500"
_DIGESTS: Final = {1: hashlib.sha256, 2: hashlib.sha512}

_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def rdata(record: str, name: str) -> bytes:
    """Return the data of a TLSA record.

    Args:
        record: Usage, selector and matching type, and what they are about: words of `_MAKERS`, `+junk` behind them for
            an octet too many; or `octets` and hexadecimal digits for the record's whole data.
        name: The device's, for certificates that hold it.
    """
    if record.startswith("octets"):
        return bytes.fromhex(record.removeprefix("octets"))
    usage, selector, matching, what = record.split(maxsplit=3)
    content = _content(what.removesuffix("+junk"), int(selector), name if what.startswith("issued") else "") + (
        b"\0" if what.endswith("+junk") else b""
    )
    digest = _DIGESTS.get(int(matching))
    return bytes((int(usage), int(selector), int(matching))) + (digest(content).digest() if digest else content)


def authority_pem() -> bytes:
    """Return the certificate of the certification authority that the lab's devices trust."""
    return _authority("trusted")[1].public_bytes(Encoding.PEM)


@cache
def _content(what: str, selector: int, name: str) -> bytes:
    certificate = _MAKERS[what](name)
    if isinstance(certificate, bytes):
        return certificate
    if selector == 1:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_bytes(Encoding.DER)


@cache
def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@cache
def _numberer() -> ed25519.Ed25519PrivateKey:
    """Return an issuer's key whose signatures are all of one length, so that a number decides the octets' order."""
    return ed25519.Ed25519PrivateKey.generate()


@cache
def _authority(common_name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(common_name, key.public_key(), common_name)
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return key, builder.add_extension(constraints, critical=True).sign(key, hashes.SHA256())


@cache
def _key(kind: str) -> _PublicKey:
    if kind.startswith("p"):
        curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind]
        return ec.generate_private_key(curve).public_key()
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate().public_key()
    if kind == "rsa8192":
        # Its factors are not needed, and finding them would take half a minute.
        return rsa.RSAPublicNumbers(65537, 2**8191 + 1).public_key()
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa"))).public_key()


def _builder(
    subject: str, key: _PublicKey, issuer: str, since: timedelta = -_DAY, until: timedelta = _DAY
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(1)
        .not_valid_before(_now() + since)
        .not_valid_after(_now() + until)
    )


def _certificate(
    kind: str = "p256",
    *,
    subject: str = "device",
    alternatives: Sequence[str] = (),
    usages: x509.ExtendedKeyUsage | None = None,
    since: timedelta = -_DAY,
    until: timedelta = _DAY,
    issuer: str = "trusted",
) -> x509.Certificate:
    builder = _builder(subject, _key(kind), issuer, since, until)
    if alternatives:
        names = x509.SubjectAlternativeName([x509.DNSName(alternative) for alternative in alternatives])
        builder = builder.add_extension(names, critical=False)
    if usages:
        builder = builder.add_extension(usages, critical=False)
    return builder.sign(_authority(issuer)[0], hashes.SHA256())


def _rsa_key_information(exponent: int) -> bytes:
    """Return the SubjectPublicKeyInfo of an RSA key that the library itself would refuse to write."""
    modulus = (2**2047 + 1).to_bytes(257)
    numbers = bytes.fromhex("02820101") + modulus + b"\2\1" + bytes((exponent,))
    key = bytes.fromhex("3082") + len(numbers).to_bytes(2) + numbers
    bits = bytes.fromhex("0382") + (len(key) + 1).to_bytes(2) + b"\0" + key
    algorithm = bytes.fromhex(_RSA_ENCRYPTION)
    return bytes.fromhex("3082") + (len(algorithm) + len(bits)).to_bytes(2) + algorithm + bits


def _numbered(kind: str, number: int) -> Callable[[str], x509.Certificate]:
    return lambda name: _builder(f"device {number:02}", _key(kind), "numberer").sign(_numberer(), None)


_MAKERS: Final[dict[str, Callable[[str], x509.Certificate | bytes]]] = {
    "p256": lambda name: _certificate(),
    "rsa": lambda name: _certificate("rsa2048"),
    "rsa4096": lambda name: _certificate("rsa4096"),
    "rsa1024": lambda name: _certificate("rsa1024"),
    "rsa8192": lambda name: _certificate("rsa8192"),
    "p384": lambda name: _certificate("p384"),
    "ed25519": lambda name: _certificate("ed25519"),
    "exponent 3": lambda name: _rsa_key_information(3),
    "exponent 1": lambda name: _rsa_key_information(1),
    "exponent 4": lambda name: _rsa_key_information(4),
    "nonsense": lambda name: b"no certificate",
    "long expired": lambda name: _certificate(since=-3 * _DAY, until=-_DAY, issuer="unknown"),
    "issued": lambda name: _certificate(alternatives=[name]),
    "issued in capitals": lambda name: _certificate(alternatives=[name.upper()]),
    "issued for two": lambda name: _certificate(alternatives=["other.example.test", name]),
    "issued to rsa": lambda name: _certificate("rsa2048", alternatives=[name]),
    "issued by a stranger": lambda name: _certificate(alternatives=[name], issuer="unknown"),
    "issued, expired": lambda name: _certificate(alternatives=[name], since=-3 * _DAY, until=-_DAY),
    "issued, not yet valid": lambda name: _certificate(alternatives=[name], since=_DAY, until=3 * _DAY),
    "issued for servers": lambda name: _certificate(alternatives=[name], usages=_SERVER_ONLY),
    "issued for clients": lambda name: _certificate(alternatives=[name], usages=_CLIENT_TOO),
    "issued for any use": lambda name: _certificate(alternatives=[name], usages=_ANY_USAGE),
    "issued for another": lambda name: _certificate(alternatives=["other.example.test"]),
    "issued with a wildcard": lambda name: _certificate(alternatives=["*." + name.partition(".")[2]]),
    "issued with a common name alone": lambda name: _certificate(subject=name),
    "issued for the target": lambda name: _certificate(alternatives=["holder." + name.partition(".")[2]]),
    **{f"large {number}": _numbered("rsa4096", number) for number in range(40)},
    **{f"small {number}": _numbered("p256", number) for number in range(70)},
}
