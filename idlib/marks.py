"""The mark in a certificate, which says that its device has epoch keys (docs/protocol.md, "Epoch keys in DNS")."""

from enum import Enum
from typing import Final

from cryptography import x509

# Made of the UUID af723901-9413-47a5-ba06-2fcd59fe83a6 (X.667, section 7), so no authority registers it.
OID: Final = x509.ObjectIdentifier("2.25.233207977326635908156566472649871360934")
_VALUE: Final = b"\x02\x01\x01"
EXTENSION: Final = x509.UnrecognizedExtension(OID, _VALUE)
_DER_OID: Final = bytes.fromhex("06146982def29cc0b2c19a9ecbba838bf9d5cffa8726")


class Mark(Enum):
    """What a certificate says about its device's epoch keys."""

    UNMARKED = "not marked, so others encrypt to the identity key"
    MARKED = "marked, so others encrypt to epoch keys only"
    UNSUPPORTED = "marked in a form that needs newer software, or the certificate is damaged"


def mark_of(certificate: x509.Certificate) -> Mark:
    """Return what a certificate says about its device's epoch keys.

    Args:
        certificate: One of a TLSA record of any usage.
    """
    try:
        value = certificate.extensions.get_extension_for_oid(OID).value
    except x509.ExtensionNotFound:
        return Mark.UNMARKED
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        # Otherwise a damaged extension beside the mark, or a second mark, would undo the first.
        return Mark.UNSUPPORTED if _DER_OID in certificate.tbs_certificate_bytes else Mark.UNMARKED
    is_known = isinstance(value, x509.UnrecognizedExtension) and value.value == _VALUE
    return Mark.MARKED if is_known else Mark.UNSUPPORTED
