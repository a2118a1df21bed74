import json
from collections import Counter
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import decrypt, encrypt
from idlib.errors import Reason, Refusal, UnsuitableKeyError
from idlib.names import IdentityName
from testbed.forge import Forge, Parts, b64, compact, flattened, jwe, unb64

KINDS = ["RSA", "P-256"]


def refusal_of(payload: bytes, reader: IdentityName, keys: list[PrivateKey]) -> Reason:
    with pytest.raises(Refusal) as refusal:
        decrypt(payload, reader, keys)
    return refusal.value.reason


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RSA-OAEP-256"), ("P-256", "ECDH-ES+A256KW")])
def test_the_form_of_a_message(forge: Forge, kind: str, algorithm: str) -> None:
    parts = json.loads(encrypt("x", recipient=forge.bob, encryption_key=forge.reader_keys[kind].public))
    assert parts.keys() == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    header = json.loads(unb64(parts["protected"]))
    epk = header.pop("epk", None)
    assert header == {
        "alg": algorithm,
        "enc": "A256CBC-HS512",
        "typ": "JWE",
        "x5u": "dns://bob._device.example.test?type=TLSA",
    }
    assert (epk is None) == (kind == "RSA")
    if epk:
        assert epk.keys() == {"kty", "crv", "x", "y"}
        assert (epk["kty"], epk["crv"]) == ("EC", "P-256")


@pytest.mark.parametrize("kind", KINDS)
def test_two_equal_messages_have_only_the_header_in_common(forge: Forge, kind: str) -> None:
    first, second = (
        json.loads(encrypt("x", recipient=forge.bob, encryption_key=forge.reader_keys[kind].public)) for _ in range(2)
    )
    assert all(first[name] != second[name] for name in ("encrypted_key", "iv", "ciphertext", "tag"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("enc", ["A256CBC-HS512", "A256GCM"])
@pytest.mark.parametrize("write", [flattened, compact])
def test_messages_of_other_programs_are_decrypted(
    forge: Forge, kind: str, enc: str, write: Callable[[Parts], bytes]
) -> None:
    payload = write(forge.outer(kind, b"a signed message", enc=enc))
    assert decrypt(payload, forge.bob, list(forge.reader_keys.values())).signed == "a signed message"


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_parameters_and_members_are_ignored(forge: Forge, kind: str) -> None:
    parts = forge.outer(kind, b"x", typ=5, kid="k", jwk={"kty": "oct"}, x5c=7, cty="JWS", nonsense=[1e300])
    payload = flattened(parts, nonsense={"header": 1})
    assert decrypt(payload, forge.bob, [forge.reader_keys[kind]]).signed == "x"


@pytest.mark.parametrize(
    "uri",
    [
        "dns:bob._device.example.test?type=TLSA",
        "dns:///bob._device.example.test?type=tlsa",
        "dns://192.0.2.1/BOB._device.example.test.?class=IN;type=TLSA",
    ],
)
def test_every_form_of_the_recipients_uri_is_accepted(forge: Forge, uri: str) -> None:
    assert decrypt(flattened(forge.outer(plaintext=b"x", x5u=uri)), forge.bob, [forge.reader_keys["RSA"]])


def test_a_previous_key_still_decrypts(
    forge: Forge, other_rsa_key: PrivateKey, rsa3072_key: PrivateKey, private_key_operations: Counter[str]
) -> None:
    keys = [rsa3072_key, other_rsa_key, forge.reader_keys["P-256"], forge.reader_keys["RSA"]]
    assert decrypt(flattened(forge.outer(plaintext=b"x")), forge.bob, keys).signed == "x"
    assert private_key_operations == {"RSA-OAEP-256": 2}


def test_a_message_that_fits_no_key_costs_no_private_key_operation(
    forge: Forge, rsa3072_key: PrivateKey, private_key_operations: Counter[str]
) -> None:
    for keys in ([], [rsa3072_key], [forge.reader_keys["P-256"]]):
        assert refusal_of(flattened(forge.outer()), forge.bob, keys) is Reason.DECRYPTION_FAILED
    assert not private_key_operations


def test_a_ciphertext_is_read_only_if_a_key_fits(
    forge: Forge, other_rsa_key: PrivateKey, rsa3072_key: PrivateKey, private_key_operations: Counter[str]
) -> None:
    payload = flattened(forge.outer(), ciphertext="!")
    for keys in ([rsa3072_key], [forge.reader_keys["P-256"]], []):
        assert refusal_of(payload, forge.bob, keys) is Reason.DECRYPTION_FAILED
    assert refusal_of(payload, forge.bob, [rsa3072_key, other_rsa_key]) is Reason.OUTER_MALFORMED
    assert not private_key_operations


def test_all_failures_of_decryption_look_the_same(
    forge: Forge, other_rsa_key: PrivateKey, private_key_operations: Counter[str]
) -> None:
    key = forge.reader_keys["RSA"]
    parts, header = forge.outer(), forge.outer_header()
    assert isinstance(key.public.native, rsa.RSAPublicKey)
    modulus = key.public.native.public_numbers().n
    payloads = [
        flattened(parts, encrypted_key=b64(bytes(256))),
        flattened(parts, encrypted_key=b64(modulus.to_bytes(256))),
        flattened(parts, encrypted_key=b64(b"\xff" * 256)),
        flattened(parts, encrypted_key=forge.outer()["encrypted_key"]),
        flattened(parts, encrypted_key=jwe(other_rsa_key.public, header, b"x")["encrypted_key"]),
        flattened(parts, tag=b64(bytes(32))),
        flattened(parts, iv=b64(bytes(16))),
        flattened(parts, ciphertext=b64(bytes(16))),
        flattened(parts, protected=forge.outer(kid="other")["protected"]),
        flattened(jwe(key.public, header, b"x", content_key=bytes(32))),
        flattened(jwe(key.public, header, b"x", content_key=b"")),
        flattened(jwe(key.public, header, b"x", aad_suffix=b".YWFk")),
        flattened(jwe(key.public, header, b"x", oaep_hash=hashes.SHA1())),
    ]
    facts = set()
    for payload in payloads:
        with pytest.raises(Refusal) as refusal:
            decrypt(payload, forge.bob, [key])
        facts.add((refusal.value.reason, refusal.value.fact))
    assert facts == {(Reason.DECRYPTION_FAILED, "no key of bob._device.example.test decrypts the message")}
    assert private_key_operations == {"RSA-OAEP-256": len(payloads)}


def test_all_failures_of_key_agreement_look_the_same(forge: Forge, private_key_operations: Counter[str]) -> None:
    key = forge.reader_keys["P-256"]
    parts, header = forge.outer("P-256"), forge.outer_header("P-256")
    payloads = [
        flattened(parts, encrypted_key=b64(bytes(72))),
        flattened(parts, encrypted_key=forge.outer("P-256")["encrypted_key"]),
        flattened(parts, protected=forge.outer("P-256")["protected"]),
        flattened(parts, tag=b64(bytes(32))),
        flattened(jwe(forge.sender_keys["P-256"].public, header, b"x")),
    ]
    for payload in payloads:
        assert refusal_of(payload, forge.bob, [key]) is Reason.DECRYPTION_FAILED
    assert private_key_operations == {"ECDH-ES+A256KW": len(payloads)}
    short = jwe(key.public, header, b"x", content_key=bytes(32))
    assert refusal_of(flattened(short), forge.bob, [key]) is Reason.DECRYPTION_FAILED
    assert private_key_operations.total() == len(payloads)


def test_the_digest_does_not_depend_on_the_serialization(forge: Forge) -> None:
    parts = forge.outer(plaintext=b"x")
    keys = [forge.reader_keys["RSA"]]
    copies = [flattened(parts), compact(parts), flattened(parts, nonsense=1), b" " + flattened(parts) + b"\n"]
    assert len({decrypt(copy, forge.bob, keys).digest for copy in copies}) == 1
    assert decrypt(flattened(forge.outer(plaintext=b"x")), forge.bob, keys).digest not in {
        decrypt(copy, forge.bob, keys).digest for copy in copies
    }


def test_a_key_that_cannot_be_used_for_encryption_is_reported(forge: Forge) -> None:
    even = PublicKey.__new__(PublicKey)
    object.__setattr__(even, "algorithms", forge.reader_keys["RSA"].algorithms)
    object.__setattr__(even, "native", rsa.RSAPublicNumbers(65537, 2**2048 - 2).public_key())
    with pytest.raises(UnsuitableKeyError):
        encrypt("x", recipient=forge.bob, encryption_key=even)


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_message_or_a_refusal(forge: Forge, octets: bytes) -> None:
    assert refusal_of(octets, forge.bob, list(forge.reader_keys.values())) in {
        Reason.OUTER_MALFORMED,
        Reason.OUTER_UNSUPPORTED,
    }


parameters = st.dictionaries(
    st.sampled_from(["alg", "enc", "x5u", "epk", "typ", "zip", "crit", "apu", "kid"]),
    st.sampled_from(
        ["RSA-OAEP-256", "ECDH-ES+A256KW", "A256CBC-HS512", "A256GCM", "dns:bob._device.example.test?type=TLSA"]
    )
    | st.none()
    | st.integers()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "d"]), st.sampled_from(["EC", "P-256", b64(bytes(32))])),
)


@settings(deadline=None)
@given(parameters, st.lists(st.binary(max_size=80).map(b64), min_size=4, max_size=4))
def test_any_header_is_a_message_or_a_refusal(forge: Forge, header: dict[str, object], parts: list[str]) -> None:
    protected = b64(json.dumps(header).encode())
    names = ("encrypted_key", "iv", "ciphertext", "tag")
    payload = flattened({"protected": protected, **dict(zip(names, parts, strict=True))})
    assert isinstance(refusal_of(payload, forge.bob, list(forge.reader_keys.values())), Reason)
