"""The signature algorithms (`alg`) of a JWS: RS256 and ES256 (RFC 7518, sections 3.3 and 3.4)."""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from idlib.algorithms import P256_ALGORITHMS, RSA_ALGORITHMS, PrivateKey, PublicKey

_NUMBER_OCTETS: Final = 32
# The lengths of signatures in bytes, by the algorithms that the profile allows.
LENGTHS: Final = {
    RSA_ALGORITHMS.signature: range(256, 512 + 1),
    P256_ALGORITHMS.signature: range(2 * _NUMBER_OCTETS, 2 * _NUMBER_OCTETS + 1),
}

_SHA256: Final = hashes.SHA256()
_PADDING: Final = PKCS1v15()
_ECDSA: Final = ec.ECDSA(_SHA256)


def sign(key: PrivateKey, octets: bytes) -> bytes:
    """Return the signature of the bytes, by the algorithm of the key's type."""
    if isinstance(key.native, rsa.RSAPrivateKey):
        return key.native.sign(octets, _PADDING, _SHA256)
    numbers = decode_dss_signature(key.native.sign(octets, _ECDSA))
    return b"".join(number.to_bytes(_NUMBER_OCTETS) for number in numbers)


def is_valid(key: PublicKey, signature: bytes, octets: bytes) -> bool:
    """Return whether a signature of the key's type is by this key and over these bytes.

    Args:
        key: The signer's key.
        signature: Of a length in LENGTHS.
        octets: The bytes that are signed.
    """
    try:
        if isinstance(key.native, rsa.RSAPublicKey):
            if len(signature) != (key.native.key_size + 7) // 8:
                return False
            key.native.verify(signature, octets, _PADDING, _SHA256)
        else:
            numbers = (int.from_bytes(half) for half in (signature[:_NUMBER_OCTETS], signature[_NUMBER_OCTETS:]))
            key.native.verify(encode_dss_signature(*numbers), octets, _ECDSA)
    except InvalidSignature:
        return False
    return True
