"""Inner layers that an attacker could send: signed with its own key or not at all, and correctly encrypted."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from jwcrypto.jwk import JWK

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, decrypt, parse, seal, verify
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from testbed.forge import ABSENT, NOW, Case, Forge, Make, b64, compact, flattened, jwe, jws, literal, unb64

MALFORMED, UNSUPPORTED = Reason.INNER_MALFORMED, Reason.INNER_UNSUPPORTED
SENDER, BINDING, SIGNATURE = Reason.SENDER_MALFORMED, Reason.BINDING_MALFORMED, Reason.SIGNATURE_INVALID


def inner(payload: bytes = b"hello", **changes: Any) -> Make:
    """Put other parameters into the JWS protected header."""
    return lambda forge: flattened(forge.inner(payload=payload, **changes))


def inner_members(**changes: Any) -> Make:
    return lambda forge: flattened(forge.inner(), **changes)


def inner_header_text(edit: Callable[[str], str | bytes]) -> Make:
    return lambda forge: flattened(forge.raw_inner(edit(json.dumps(forge.inner_header()))))


INNER: list[Case] = [
    ("nothing", MALFORMED, literal(b" ")),
    ("a bare text", MALFORMED, literal(b"hello")),
    ("no UTF-8", MALFORMED, literal(b"\xff\xfe")),
    ("null", MALFORMED, literal(b"null")),
    ("an array", MALFORMED, literal(b"[]")),
    ("an empty object", MALFORMED, literal(b"{}")),
    ("deep arrays", MALFORMED, literal(b'{"payload":' + b"[" * 20_000)),
    ("a flattened JWE", MALFORMED, lambda f: flattened(f.outer())),
    ("a compact JWE", MALFORMED, lambda f: compact(f.outer())),
    ("a JWS and a JWE at once", MALFORMED, lambda f: flattened({**f.outer(), **f.inner()})),
    (
        "an empty signature",
        SIGNATURE,
        lambda f: compact({**f.inner(), "signature": ""}),
    ),
    ("two compact parts", MALFORMED, lambda f: compact(f.inner()).rsplit(b".", 1)[0]),
    ("four compact parts", MALFORMED, lambda f: compact(f.inner()) + b".AA"),
    ("a line end after compact", MALFORMED, lambda f: compact(f.inner()) + b"\n"),
    *(
        (f"{name} is missing", MALFORMED, inner_members(**{name: ABSENT}))
        for name in ("protected", "payload", "signature")
    ),
    *(
        (f"{name} is not a string", MALFORMED, inner_members(**{name: 7}))
        for name in ("protected", "payload", "signature")
    ),
    ("a header member", UNSUPPORTED, inner_members(header={"kid": "k"})),
    (
        "x5u outside the protected header",
        UNSUPPORTED,
        lambda f: flattened(f.inner(x5u=ABSENT), header={"x5u": f.alice.uri}),
    ),
    (
        "alg outside the protected header",
        UNSUPPORTED,
        lambda f: flattened(f.inner(alg=ABSENT), header={"alg": "RS256"}),
    ),
    ("general serialization", UNSUPPORTED, lambda f: flattened({"payload": "aGVsbG8", "signatures": [f.inner()]})),
    ("two signatures", UNSUPPORTED, lambda f: flattened({"payload": "aGVsbG8", "signatures": [f.inner(), f.inner()]})),
    ("flattened and general at once", UNSUPPORTED, inner_members(signatures=[])),
    ("payload with padding", MALFORMED, inner_members(payload="aGVsbG8=")),
    ("payload with spare bits", MALFORMED, inner_members(payload="aGVsbG9")),
    ("signature with padding", MALFORMED, lambda f: flattened(f.inner(), signature=f.inner()["signature"] + "==")),
    (
        "signature with a foreign character",
        MALFORMED,
        lambda f: flattened(f.inner(), signature="!" + f.inner()["signature"]),
    ),
    ("payload not encoded", MALFORMED, inner_members(payload="hello world")),
    ("payload detached", MALFORMED, inner_members(payload="")),
    ("payload empty and signed", MALFORMED, inner(b"")),
    ("payload no UTF-8", MALFORMED, inner(b"\xc3\x28")),
    ("payload with an encoded surrogate", MALFORMED, inner(b"\xed\xa0\x80")),
    ("payload overlong", MALFORMED, inner(b"\xc0\xaf")),
    ("no protected header", MALFORMED, inner_members(protected="")),
    ("header is not JSON", MALFORMED, inner_header_text(lambda _: "x")),
    ("header is an array", MALFORMED, inner_header_text(lambda text: f"[{text}]")),
    ("header with x5u twice", MALFORMED, inner_header_text(lambda text: text[:-1] + ', "x5u": "dns:a.b?type=TLSA"}')),
    ("header with aud twice", MALFORMED, inner_header_text(lambda text: text[:-1] + ', "aud": "a.b"}')),
    ("header with NaN", MALFORMED, inner_header_text(lambda text: text[:-1] + ', "nbf": NaN}')),
    ("header no UTF-8", MALFORMED, inner_header_text(lambda text: text.encode()[:-1] + b', "a": "\xff"}')),
    *((f"alg is {value!r}", MALFORMED, inner(alg=value)) for value in (ABSENT, None, 256, ["RS256"], {"alg": 1})),
    *(
        (f"alg {name}", UNSUPPORTED, inner(alg=name))
        for name in (
            "none",
            "None",
            "",
            "HS256",
            "HS384",
            "HS512",
            "RS384",
            "RS512",
            "PS256",
            "PS384",
            "PS512",
            "ES384",
            "ES512",
            "ES256K",
            "EdDSA",
            "Ed25519",
            "ML-DSA-44",
            "rs256",
            "RS256 ",
            "RSA-OAEP-256",
        )
    ),
    ("zip in the header", UNSUPPORTED, inner(zip="DEF")),
    ("b64 in the header", UNSUPPORTED, inner(b64=False)),
    *((f"crit is {value!r}", UNSUPPORTED, inner(crit=value)) for value in (["exp"], [], ["alg", "alg"], ["x5u"], None)),
    ("b64 false and critical", UNSUPPORTED, inner(b64=False, crit=["b64"])),
    *(
        (f"typ {value}", UNSUPPORTED, inner(typ=value))
        for value in (
            "JWT",
            "JWE",
            "",
            "JOSE ",
            "application/",
            "text/plain",
        )
    ),
    *(
        (f"typ {value}", Reason.RECEIPT, inner(typ=value))
        for value in ("receipt+jws", "RECEIPT+JWS", "application/receipt+jws")
    ),
    *((f"rcpt is {value!r}", MALFORMED, inner(rcpt=value)) for value in (None, 1, "true", [True])),
    *((f"typ is {value!r}", MALFORMED, inner(typ=value)) for value in (None, 7, ["JOSE"])),
    *(
        (f"x5u is {value!r}", SENDER, inner(x5u=value))
        for value in (
            ABSENT,
            None,
            7,
            ["dns:alice.example.test?type=TLSA"],
            "",
            "alice._device.example.test",
            "https://alice.example.test/c.pem",
            "file:///identity/alice",
            "dns://alice._device.example.test",
            "dns://alice._device.example.test?type=CERT",
            "dns://alice._device.example.test?type=TLSA;class=CH",
            "dns:alice?type=TLSA",
            "dns:\u001b[31malice.example.test?type=TLSA",
            "dns:alice.example.test\n?type=TLSA",
            "dns:*.example.test?type=TLSA",
            "dns:alice.example.test?type=TLSA;" + "x" * 60_000,
            "dns:" + "a." * 30_000 + "test?type=TLSA",
        )
    ),
    *((f"without {name}", BINDING, inner(**{name: ABSENT})) for name in ("aud", "iat", "jti")),
    ("exp alone", BINDING, inner(aud=ABSENT, iat=ABSENT, jti=ABSENT, exp=NOW)),
    *(
        (f"aud is {value!r}", BINDING, inner(aud=value))
        for value in (None, ["bob._device.example.test"], "", "bob", "*", "b\u043eb.example.test", "x" * 60_000)
    ),
    *(
        (f"iat is {value!r}", BINDING, inner(iat=value))
        for value in (None, "1", 1.5, 1e9, True, -1, 2**53, 10**400, [1])
    ),
    ("iat with an exponent", BINDING, inner_header_text(lambda text: text.replace(str(NOW), "18e8"))),
    ("iat with a fraction", BINDING, inner_header_text(lambda text: text.replace(str(NOW), f"{NOW}.0"))),
    *((f"exp is {value!r}", BINDING, inner(exp=value)) for value in (None, "1", NOW, NOW - 1, NOW + 0.5, 2**53, False)),
    *((f"jti is {value!r}", BINDING, inner(jti=value)) for value in (None, "", 7, "x" * 129, "\u00e9" * 65, ["a"])),
    *(
        (f"RS256 signature of {size} octets", SIGNATURE, inner_members(signature=b64(bytes(size))))
        for size in (0, 1, 64, 255, 257, 513)
    ),
    *(
        (
            f"ES256 signature of {size} octets",
            SIGNATURE,
            lambda f, size=size: flattened(f.inner("P-256"), signature=b64(bytes(size))),
        )
        for size in (0, 32, 63, 64, 65, 70, 72, 96, 128, 256)
    ),
    ("an RSA signature named ES256", SIGNATURE, inner(alg="ES256")),
    ("a P-256 signature named RS256", SIGNATURE, lambda f: flattened(f.inner("P-256", alg="RS256"))),
    ("an altered payload", SIGNATURE, inner_members(payload="aGVsbG9v")),
    (
        "a signature with a zero octet before",
        SIGNATURE,
        lambda f: flattened(f.inner(), signature=b64(b"\0" + unb64(f.inner()["signature"]))),
    ),
]


@pytest.mark.parametrize(("reason", "make"), [pytest.param(*case[1:], id=case[0][:60]) for case in INNER])
def test_inner_layers_are_refused_after_one_private_key_operation(
    forge: Forge, private_key_operations: Counter[str], reason: Reason, make: Make
) -> None:
    payload = flattened(forge.outer(plaintext=make(forge)))
    with pytest.raises(Refusal) as refusal:
        opened(forge, payload, forge.sender_keys)
    assert refusal.value.reason is reason
    assert refusal.value.fact.isascii()
    assert refusal.value.fact.isprintable()
    assert len(refusal.value.fact) < 200
    assert private_key_operations.total() == 1


def opened(forge: Forge, payload: bytes, keys: dict[str, PrivateKey]) -> str:
    message = parse(decrypt(payload, forge.bob, list(forge.reader_keys.values())).signed)
    return verify(message, [key.public for key in keys.values()]).decode()


def test_a_message_signed_with_another_devices_key_is_refused(forge: Forge) -> None:
    for kind, key in forge.reader_keys.items():
        payload = seal(
            "hello",
            sender=forge.alice,
            signing_key=key,
            recipient=forge.bob,
            encryption_key=forge.reader_keys[kind].public,
            binding=Binding.new(forge.bob, NOW),
        )
        with pytest.raises(Refusal) as refusal:
            opened(forge, payload, forge.sender_keys)
        assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_a_key_inside_the_message_is_not_used(forge: Forge, other_rsa_key: PrivateKey) -> None:
    own = json.loads(JWK.from_pyca(other_rsa_key.public.native).export_public())
    header = forge.inner_header(jwk=own, kid=own["kid"])
    signed = flattened(jws(other_rsa_key, header, b"hello"))
    with pytest.raises(Refusal) as refusal:
        opened(forge, flattened(forge.outer(plaintext=signed)), forge.sender_keys)
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_a_forwarded_message_keeps_its_audience(forge: Forge, other_rsa_key: PrivateKey) -> None:
    """A recipient that encrypts a message again for another device cannot change its audience."""
    header = forge.outer_header() | {"x5u": "dns://carol.example.test?type=TLSA"}
    passed_on = flattened(jwe(other_rsa_key.public, header, flattened(forge.inner())))
    message = parse(decrypt(passed_on, IdentityName("carol.example.test"), [other_rsa_key]).signed)
    assert message.binding is not None
    assert message.binding.audience == forge.bob
