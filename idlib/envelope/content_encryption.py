"""The content encryption algorithms (`enc`) of a JWE (RFC 7518, section 5)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.padding import PKCS7

_CBC_TAG_OCTETS: Final = 32
_CBC_HALF_KEY_OCTETS: Final = 32
_SHA512: Final = hashes.SHA512()
_BLOCK_PADDING: Final = PKCS7(128)


@dataclass(frozen=True, slots=True, eq=False)
class ContentEncryption:
    """An `enc`, with the lengths in bytes that it requires (RFC 7518, sections 5.2.5 and 5.3).

    Args:
        decrypt: Returns the plaintext of (key, initialization vector, ciphertext, tag, additional authenticated data),
            or None if the tag or the padding is wrong.
    """

    name: str
    key_octets: int
    iv_octets: int
    tag_octets: int
    block_octets: int
    decrypt: Callable[[bytes, bytes, bytes, bytes, bytes], bytes | None]


def encrypt_cbc_hs512(key: bytes, iv: bytes, plaintext: bytes, aad: bytes) -> tuple[bytes, bytes]:
    """Return the ciphertext and the tag of A256CBC-HS512 (RFC 7518, section 5.2.2.1).

    Args:
        key: 64 bytes, used once.
        iv: 16 random bytes.
        plaintext: Any bytes.
        aad: The additional authenticated data.
    """
    padder, encryptor = _BLOCK_PADDING.padder(), Cipher(AES256(key[_CBC_HALF_KEY_OCTETS:]), CBC(iv)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    return ciphertext, _cbc_tag(key, iv, ciphertext, aad)


def _decrypt_cbc_hs512(key: bytes, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes | None:
    if not bytes_eq(tag, _cbc_tag(key, iv, ciphertext, aad)):
        return None
    decryptor, unpadder = Cipher(AES256(key[_CBC_HALF_KEY_OCTETS:]), CBC(iv)).decryptor(), _BLOCK_PADDING.unpadder()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        return None


def _cbc_tag(key: bytes, iv: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    mac = HMAC(key[:_CBC_HALF_KEY_OCTETS], _SHA512)
    mac.update(aad + iv)
    mac.update(ciphertext)
    mac.update((len(aad) * 8).to_bytes(8))
    return mac.finalize()[:_CBC_TAG_OCTETS]


def _decrypt_gcm(key: bytes, iv: bytes, ciphertext: bytes, tag: bytes, aad: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(iv, ciphertext + tag, aad)
    except InvalidTag:
        return None


A256CBC_HS512: Final = ContentEncryption("A256CBC-HS512", 64, 16, _CBC_TAG_OCTETS, 16, _decrypt_cbc_hs512)
A256GCM: Final = ContentEncryption("A256GCM", 32, 12, 16, 1, _decrypt_gcm)
