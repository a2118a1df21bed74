"""Known answers of RFC 7518 and RFC 7516, and what happens to anything that differs from them."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from idlib.envelope import content_encryption
from idlib.envelope.content_encryption import A256CBC_HS512, A256GCM, encrypt_cbc_hs512
from testbed.forge import cbc_hs512, unb64

PLAINTEXT = (
    b"A cipher system must not be required to be secret, and it must be able to fall into the hands of"
    b" the enemy without inconvenience"
)
AAD = b"The second principle of Auguste Kerckhoffs"
KEY = bytes(range(64))
IV = bytes.fromhex("1af38c2dc2b96ffdd86694092341bc04")
CIPHERTEXT = bytes.fromhex(
    "4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd822c301dd67c373bccb584ad3e9279c2"
    "e6d12a1374b77f077553df829410446b36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3"
    "a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950bbe2638d09dd7a4930930806d0703b1f6"
)
TAG = bytes.fromhex("4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5")


def test_a256cbc_hs512_as_rfc_7518_appendix_b_3() -> None:
    assert encrypt_cbc_hs512(KEY, IV, PLAINTEXT, AAD) == (CIPHERTEXT, TAG)
    assert A256CBC_HS512.decrypt(KEY, IV, CIPHERTEXT, TAG, AAD) == PLAINTEXT


def test_a256gcm_as_rfc_7516_appendix_a_1() -> None:
    vectors = json.loads((Path(__file__).parent / "rfc_vectors.json").read_text())
    protected, _, iv, ciphertext, tag = vectors["RFC 7516 A.1 RSA-OAEP"]["payload"].split(".")
    key = bytes.fromhex("b1a1f480548fe1733fb403ff6b9ad4f68a076e5b702e22692f82cb2e7aea40fc")
    plaintext = A256GCM.decrypt(key, unb64(iv), unb64(ciphertext), unb64(tag), protected.encode())
    assert plaintext == b"The true sign of intelligence is not knowledge but imagination."


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a256cbc_hs512_agrees_with_an_independent_implementation(plaintext: bytes, aad: bytes) -> None:
    key, iv = os.urandom(64), os.urandom(16)
    sealed = encrypt_cbc_hs512(key, iv, plaintext, aad)
    assert sealed == cbc_hs512(key, iv, plaintext, aad)
    assert A256CBC_HS512.decrypt(key, iv, *sealed, aad) == plaintext


@pytest.mark.parametrize("changed", range(5))
@given(st.data())
def test_a_changed_bit_of_any_input_of_a256cbc_hs512_is_refused(changed: int, data: st.DataObject) -> None:
    inputs = [KEY[:32], IV, CIPHERTEXT, TAG, AAD]
    place = data.draw(st.integers(0, len(inputs[changed]) * 8 - 1))
    octets = bytearray(inputs[changed])
    octets[place // 8] ^= 1 << place % 8
    inputs[changed] = bytes(octets)
    mac_key, *others = inputs
    assert A256CBC_HS512.decrypt(mac_key + KEY[32:], *others) is None


@pytest.mark.parametrize("tag", [b"", TAG[:16], TAG[:31], TAG + b"\0"])
def test_a_tag_of_another_length_is_refused(tag: bytes) -> None:
    assert A256CBC_HS512.decrypt(KEY, IV, CIPHERTEXT, tag, AAD) is None


@pytest.mark.parametrize("last", [0, 17, 255])
def test_wrong_padding_under_a_right_tag_is_refused(last: int) -> None:
    """Anyone who encrypts to the recipient can do this, and must not see a difference."""
    encryptor = Cipher(AES256(KEY[32:]), CBC(IV)).encryptor()
    ciphertext = encryptor.update(bytes(15) + bytes([last])) + encryptor.finalize()
    tag = content_encryption._cbc_tag(KEY, IV, ciphertext, AAD)
    assert A256CBC_HS512.decrypt(KEY, IV, ciphertext, tag, AAD) is None
