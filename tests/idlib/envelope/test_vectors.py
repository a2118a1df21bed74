"""Known answers: first for the forge, which the other tests rely on, then for the envelope."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from idlib.algorithms import PublicKey
from idlib.envelope import UnverifiedMessage, decrypt, parse, verify
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from testbed.forge import Forge, agree, b64, cbc_hs512, unb64

VECTORS = json.loads((Path(__file__).parent / "rfc_vectors.json").read_text())
SIGNED = {name: vector for name, vector in VECTORS.items() if "key" in vector}
OFF_PROFILE = {name: vector for name, vector in VECTORS.items() if "payload" in vector}


def p256_private(x: str, y: str, d: str) -> ec.EllipticCurvePrivateKey:
    public = ec.EllipticCurvePublicNumbers(int.from_bytes(unb64(x)), int.from_bytes(unb64(y)), ec.SECP256R1())
    return ec.EllipticCurvePrivateNumbers(int.from_bytes(unb64(d)), public).private_key()


def public_key(jwk: dict[str, str]) -> PublicKey:
    numbers = {name: int.from_bytes(unb64(jwk[name])) for name in ("n", "e", "x", "y") if name in jwk}
    if jwk["kty"] == "RSA":
        return PublicKey(rsa.RSAPublicNumbers(numbers["e"], numbers["n"]).public_key())
    return PublicKey(ec.EllipticCurvePublicNumbers(numbers["x"], numbers["y"], ec.SECP256R1()).public_key())


def test_the_forge_encrypts_content_as_rfc_7518_appendix_b_3() -> None:
    plaintext = (
        b"A cipher system must not be required to be secret, and it must be able to fall into the hands of"
        b" the enemy without inconvenience"
    )
    iv = bytes.fromhex("1af38c2dc2b96ffdd86694092341bc04")
    ciphertext, tag = cbc_hs512(bytes(range(64)), iv, plaintext, b"The second principle of Auguste Kerckhoffs")
    assert ciphertext[:16].hex() == "4affaaadb78c31c5da4b1b590d10ffbd"
    assert tag.hex() == "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5"


def test_the_forge_agrees_on_keys_as_rfc_7518_appendix_c() -> None:
    ephemeral = p256_private(
        "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
        "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
        "0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo",
    )
    static = p256_private(
        "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
        "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
        "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
    )
    derived = agree(ephemeral, static.public_key(), b"A128GCM", 128, b"Alice", b"Bob")
    assert b64(derived) == "VqqN6vgjbSBcIijNcacQGg"


@pytest.mark.parametrize("name", SIGNED)
def test_published_signatures_verify(name: str) -> None:
    vector = SIGNED[name]
    protected, payload, signature = vector["compact"].split(".")
    message = UnverifiedMessage(
        IdentityName("alice._device.example.test"),
        json.loads(unb64(protected))["alg"],
        None,
        f"{protected}.{payload}".encode(),
        unb64(signature),
        unb64(payload),
    )
    assert verify(message, [public_key(vector["key"])]) == unb64(payload)


@pytest.mark.parametrize("name", SIGNED)
def test_published_signatures_name_no_sender(name: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(SIGNED[name]["compact"])
    assert refusal.value.reason is Reason.SENDER_MALFORMED


@pytest.mark.parametrize("name", OFF_PROFILE)
def test_published_examples_outside_the_profile_are_refused(name: str, forge: Forge) -> None:
    vector = OFF_PROFILE[name]
    readers: dict[str, Callable[[str], object]] = {
        "JWS": parse,
        "JWE": lambda payload: decrypt(payload.encode(), forge.bob, list(forge.reader_keys.values())),
    }
    with pytest.raises(Refusal) as refusal:
        readers[vector["layer"]](vector["payload"])
    assert refusal.value.reason == vector["reason"]
