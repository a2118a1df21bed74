"""jwcrypto, a separate implementation of JOSE, opens our messages, and we open its messages."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from idlib.envelope import Binding, decrypt, encrypt, parse, sign, verify
from testbed.forge import NOW, Forge

KINDS = st.sampled_from(["RSA", "P-256"])
TEXTS = st.text(min_size=1, max_size=400)


@settings(deadline=None)
@given(KINDS, TEXTS)
def test_jwcrypto_decrypts_what_we_encrypt(forge: Forge, kind: str, plaintext: str) -> None:
    key = forge.reader_keys[kind]
    token = JWE()
    token.deserialize(encrypt(plaintext, recipient=forge.bob, encryption_key=key.public).decode())
    token.decrypt(JWK.from_pyca(key.native))
    assert token.payload.decode() == plaintext


@settings(deadline=None)
@given(KINDS, st.sampled_from(["A256CBC-HS512", "A256GCM"]), TEXTS)
def test_we_decrypt_what_jwcrypto_encrypts(forge: Forge, kind: str, enc: str, plaintext: str) -> None:
    key = forge.reader_keys[kind]
    header = {"alg": key.algorithms.key_management, "enc": enc, "x5u": forge.bob.uri}
    token = JWE(plaintext.encode(), protected=json.dumps(header))
    token.add_recipient(JWK.from_pyca(key.public.native))
    # Its flattened serialization puts epk outside the protected header.
    payload = token.serialize(compact=True).encode()
    assert decrypt(payload, forge.bob, list(forge.reader_keys.values())).signed == plaintext


@settings(deadline=None)
@given(KINDS, TEXTS)
def test_jwcrypto_verifies_what_we_sign(forge: Forge, kind: str, text: str) -> None:
    key = forge.sender_keys[kind]
    token = JWS()
    token.deserialize(sign(text, sender=forge.alice, signing_key=key, binding=Binding(forge.bob, NOW, "id")))
    token.verify(JWK.from_pyca(key.public.native))
    assert token.payload.decode() == text


@settings(deadline=None)
@given(KINDS, TEXTS)
def test_we_verify_what_jwcrypto_signs(forge: Forge, kind: str, text: str) -> None:
    key = forge.sender_keys[kind]
    token = JWS(text.encode())
    header = json.dumps({"alg": key.algorithms.signature, "x5u": forge.alice.uri})
    token.add_signature(JWK.from_pyca(key.native), protected=header)
    for signed in (token.serialize(compact=True), token.serialize()):
        assert verify(parse(signed), [key.public]).decode() == text
