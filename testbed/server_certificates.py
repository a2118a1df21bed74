"""Certificates of servers, in files, from a CA of the test."""

import ipaddress
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY: Final = timedelta(days=1)


class ServerAuthority:
    """A certification authority that issues certificates into a directory.

    Args:
        directory: An existing one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {directory.name}")])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._numbers = itertools.count(1)
        self.file = directory / "authority.pem"
        since = datetime.now(UTC) - 30 * _DAY
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self._write(self.file, self._key.public_key(), constraints, since, since + 60 * _DAY)

    def issue(self, *names: str, since: datetime | None = None, until: datetime | None = None) -> tuple[Path, Path]:
        """Return the files of a new certificate and of its key.

        Args:
            names: Host names and IP addresses.
            since: When it becomes valid; None for yesterday.
            until: When it expires; None for tomorrow.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        number = next(self._numbers)
        certificate, key_file = (self._directory / f"server-{number}.{kind}" for kind in ("crt", "key"))
        now = datetime.now(UTC)
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        self._write(certificate, key.public_key(), alternatives, since or now - _DAY, until or now + _DAY)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key_file

    def _write(
        self,
        path: Path,
        key: ec.EllipticCurvePublicKey,
        extension: x509.ExtensionType,
        since: datetime,
        until: datetime,
    ) -> None:
        is_authority = isinstance(extension, x509.BasicConstraints)
        subject = self._name if is_authority else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(since).not_valid_after(until)
        builder = builder.add_extension(extension, critical=is_authority)
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
