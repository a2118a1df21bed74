"""JOSE from primitives, independent of the tested code, so that a test can encrypt malformed content correctly."""

import base64
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.padding import PKCS7

from idlib.algorithms import PrivateKey, PublicKey
from idlib.epochs import EpochPrivateKey, EpochPublicKey
from idlib.errors import Reason
from idlib.names import IdentityName


class _Absent:
    def __repr__(self) -> str:
        return "absent"


# Its name is the same in every process, because pytest-xdist requires this of test ids.
ABSENT: Any = _Absent()
NOW = 1_800_000_000
# The kind of a recipient's epoch key; the key is the same in each run, and worth nothing.
EPOCH = "epoch"
EPOCH_KEY = EpochPrivateKey(bytes(range(32)))
EPOCH_KEY_ID = "AAECAwQFBgcICQoLDA0ODw"
_ENCAPSULATED_OCTETS = 1120
Parts = dict[str, Any]


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().replace("=", "")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def cbc_hs512(key: bytes, iv: bytes, plaintext: bytes, aad: bytes) -> tuple[bytes, bytes]:
    """RFC 7518, section 5.2.2.1."""
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    mac = hmac.HMAC(key[:32], hashes.SHA512())
    mac.update(aad + iv + ciphertext + struct.pack(">Q", len(aad) * 8))
    return ciphertext, mac.finalize()[:32]


def agree(
    ours: ec.EllipticCurvePrivateKey,
    theirs: ec.EllipticCurvePublicKey,
    algorithm: bytes,
    bits: int,
    apu: bytes = b"",
    apv: bytes = b"",
) -> bytes:
    return derive(ours.exchange(ec.ECDH(), theirs), algorithm, bits, apu, apv)


def derive(shared: bytes, algorithm: bytes, bits: int, apu: bytes = b"", apv: bytes = b"") -> bytes:
    """RFC 7518, section 4.6.2."""
    other = b"".join(struct.pack(">I", len(part)) + part for part in (algorithm, apu, apv)) + struct.pack(">I", bits)
    return ConcatKDFHash(hashes.SHA256(), bits // 8, other).derive(shared)


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    size = (key.key_size + 7) // 8
    names = {"secp256r1": "P-256", "secp384r1": "P-384"}
    x, y = (b64(number.to_bytes(size, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": names[key.curve.name], "x": x, "y": y}


def header_octets(header: Mapping[str, Any] | str | bytes) -> bytes:
    if isinstance(header, bytes):
        return header
    return (header if isinstance(header, str) else json.dumps(header)).encode()


def changed(mapping: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**mapping, **changes}.items() if value is not ABSENT}


def jws(key: PrivateKey, header: Mapping[str, Any] | str | bytes, payload: bytes) -> Parts:
    protected, body = b64(header_octets(header)), b64(payload)
    signing_input = f"{protected}.{body}".encode()
    if isinstance(key.native, rsa.RSAPrivateKey):
        signature = key.native.sign(signing_input, padding.PKCS1v15(), hashes.SHA256())
    else:
        numbers = decode_dss_signature(key.native.sign(signing_input, ec.ECDSA(hashes.SHA256())))
        signature = b"".join(number.to_bytes(32, "big") for number in numbers)
    return {"payload": body, "protected": protected, "signature": b64(signature)}


def encapsulate(key: EpochPublicKey, content_key: bytes, enc: str) -> tuple[bytes, bytes]:
    """Return the encapsulated secret and the encrypted key: HPKE-9-KE of draft-ietf-jose-hpke-pq-pqt-00."""
    suite = Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM)
    sealed = suite.encrypt(content_key, key.native, info=b"JOSE-HPKE rcpt\xff" + enc.encode() + b"\xff")
    return sealed[:_ENCAPSULATED_OCTETS], sealed[_ENCAPSULATED_OCTETS:]


def jwe(
    key: PublicKey | EpochPublicKey,
    header: Mapping[str, Any] | str | bytes,
    plaintext: bytes,
    *,
    enc: str = "A256CBC-HS512",
    content_key: bytes | None = None,
    ephemeral: ec.EllipticCurvePrivateKey | None = None,
    aad_suffix: bytes = b"",
    oaep_hash: hashes.HashAlgorithm | None = None,
) -> Parts:
    cek = os.urandom(64 if enc == "A256CBC-HS512" else 32) if content_key is None else content_key
    if isinstance(key, EpochPublicKey):
        encapsulated, encrypted_key = encapsulate(key, cek, enc)
        if isinstance(header, dict) and "ek" not in header:
            header = {**header, "ek": b64(encapsulated)}
    elif isinstance(key.native, rsa.RSAPublicKey):
        digest = oaep_hash or hashes.SHA256()
        encrypted_key = key.native.encrypt(cek, padding.OAEP(padding.MGF1(digest), digest, None))
    else:
        ephemeral = ephemeral or ec.generate_private_key(ec.SECP256R1())
        if isinstance(header, dict) and "epk" not in header:
            header = {**header, "epk": public_jwk(ephemeral.public_key())}
        encrypted_key = aes_key_wrap(agree(ephemeral, key.native, b"ECDH-ES+A256KW", 256), cek)
    protected = b64(header_octets(header))
    aad = protected.encode() + aad_suffix
    if enc == "A256CBC-HS512":
        iv = os.urandom(16)
        ciphertext, tag = cbc_hs512(cek.ljust(64, b"\0"), iv, plaintext, aad)
    else:
        iv = os.urandom(12)
        sealed = AESGCM(cek).encrypt(iv, plaintext, aad)
        ciphertext, tag = sealed[:-16], sealed[-16:]
    octets = {"encrypted_key": encrypted_key, "iv": iv, "ciphertext": ciphertext, "tag": tag}
    return {"protected": protected, **{name: b64(value) for name, value in octets.items()}}


def flattened(parts: Parts, **changes: Any) -> bytes:
    return json.dumps(changed(parts, changes)).encode()


def compact(parts: Parts) -> bytes:
    order = ("protected", "encrypted_key", "iv", "ciphertext", "tag", "payload", "signature")
    return ".".join(parts[name] for name in order if name in parts).encode()


@dataclass(frozen=True)
class Forge:
    """A sender and a recipient with a key of each type, who can write malformed messages."""

    alice: IdentityName
    bob: IdentityName
    sender_keys: dict[str, PrivateKey] = field(repr=False)
    reader_keys: dict[str, PrivateKey] = field(repr=False)
    epoch_key: EpochPublicKey = EPOCH_KEY.public
    epoch_key_id: str = EPOCH_KEY_ID

    def inner_header(self, kind: str = "RSA", **changes: Any) -> dict[str, Any]:
        header = {
            "alg": self.sender_keys[kind].algorithms.signature,
            "x5u": f"dns://{self.alice}?type=TLSA",
            "aud": self.bob.text,
            "iat": NOW,
            "jti": "AAAAAAAAAAAAAAAAAAAAAA",
        }
        return changed(header, changes)

    def inner(self, kind: str = "RSA", payload: bytes = b"hello", **changes: Any) -> Parts:
        return jws(self.sender_keys[kind], self.inner_header(kind, **changes), payload)

    def outer_header(self, kind: str = "RSA", **changes: Any) -> dict[str, Any]:
        header = {
            "alg": "HPKE-9-KE" if kind == EPOCH else self.reader_keys[kind].algorithms.key_management,
            "enc": "A256CBC-HS512",
            "typ": "JWE",
            "x5u": f"dns://{self.bob}?type=TLSA",
            **({"kid": self.epoch_key_id} if kind == EPOCH else {}),
        }
        return changed(header, changes)

    def outer(self, kind: str = "RSA", plaintext: bytes | None = None, **changes: Any) -> Parts:
        plaintext = flattened(self.inner()) if plaintext is None else plaintext
        enc = "A256GCM" if changes.get("enc") == "A256GCM" else "A256CBC-HS512"
        return jwe(self.public_key(kind), self.outer_header(kind, **changes), plaintext, enc=enc)

    def raw_outer(self, header: str | bytes, kind: str = "RSA") -> Parts:
        return jwe(self.public_key(kind), header, flattened(self.inner()))

    def public_key(self, kind: str) -> PublicKey | EpochPublicKey:
        return self.epoch_key if kind == EPOCH else self.reader_keys[kind].public

    def raw_inner(self, header: str | bytes, payload: bytes = b"hello") -> Parts:
        return jws(self.sender_keys["RSA"], header, payload)


Make = Callable[[Forge], bytes]
Case = tuple[str, Reason, Make]


def literal(payload: bytes) -> Make:
    return lambda _: payload
