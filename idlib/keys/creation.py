"""Creates private keys, and encodes them for their files."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from idlib.settings import KeyType

if TYPE_CHECKING:
    from idlib.algorithms import PrivateKey

_PUBLIC_EXPONENT: Final = 65537
_RSA_BITS: Final = MappingProxyType({KeyType.RSA2048: 2048, KeyType.RSA3072: 3072})


def generate_private_key(key_type: KeyType) -> "PrivateKey":
    """Return a new private key of this type, without writing it to the disk."""
    # Imported late, here and below, because some programs only need the files' names, and to know that they exist.
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from idlib.algorithms import PrivateKey

    if key_type is KeyType.P256:
        return PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    return PrivateKey(rsa.generate_private_key(_PUBLIC_EXPONENT, _RSA_BITS[key_type]))


def encode_private_key(key: "PrivateKey") -> bytes:
    """Return the key in traditional PEM form; for RSA that is PKCS #1 (RFC 8017, appendix A.1.2)."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.native.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
