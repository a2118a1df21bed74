"""Files of certification authorities, and those that PKIX-EE records may come from (RFC 6698, section 2.1.1)."""

import contextlib
import re
import ssl
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import Store

from idlib.errors import ConfigurationError, quoted
from idlib.files import read_regular
from idlib.pem import Kind, describe, read_certificates

# Ten times the size of a file with all CAs of a system.
_MAX_BYTES: Final = 4 * 1024 * 1024
_CERTIFICATE: Final = re.compile(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def read_authorities(path: Path) -> Store:
    """Return the authorities in a file.

    Args:
        path: A file of certificates in PEM form.

    Raises:
        ConfigurationError: The file cannot be read or holds no certificate.
    """
    return Store(list(read_certificates_of("PKIX_CA_FILE", path)))


def read_certificates_of(variable: str, path: Path) -> Sequence[x509.Certificate]:
    """Return the certificates in a file, at least one.

    Args:
        variable: The setting that names the file.
        path: A file of certificates in PEM form.

    Raises:
        ConfigurationError: The file cannot be read or holds no certificate.
    """
    try:
        contents = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise _bad(variable, path, f"cannot be read: {error.strerror}") from error
    found = read_certificates(contents)
    if found.broken:
        raise _bad(variable, path, f"holds a certificate that cannot be read: {found.broken[0]}")
    if not found.readable:
        finding = describe(contents, Kind.CERTIFICATE)
        raise _bad(variable, path, f"holds no certificate in PEM form: {finding.what}; {finding.remedy}")
    return found.readable


def _bad(variable: str, path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"Bad value of env var {variable}: {quoted(path)} {what}")


def read_system_authorities() -> Store | None:
    """Return the authorities that this system trusts, or None if there are none."""
    # It is None if OpenSSL does not know a file, despite the type; a directory cannot be read either.
    path = Path(ssl.get_default_verify_paths().cafile or "/")
    certificates = []
    # An old authority that is not well-formed by today's rules must not make the others unusable.
    with contextlib.suppress(OSError), warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for pem in _CERTIFICATE.findall(path.read_bytes()):
            with contextlib.suppress(ValueError, x509.InvalidVersion):
                certificates.append(x509.load_pem_x509_certificate(pem))
    return Store(certificates) if certificates else None
