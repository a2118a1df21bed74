"""Outer layers that an attacker could send: correctly encrypted, because that needs only a public key."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.envelope import decrypt
from idlib.errors import Reason, Refusal
from testbed.forge import (
    ABSENT,
    EPOCH,
    EPOCH_KEY,
    EPOCH_KEY_ID,
    Case,
    Forge,
    Make,
    b64,
    changed,
    compact,
    flattened,
    literal,
    public_jwk,
)

MALFORMED, UNSUPPORTED = Reason.OUTER_MALFORMED, Reason.OUTER_UNSUPPORTED
P256_MODULUS = 2**256 - 2**224 + 2**192 + 2**96 - 1


def outer(kind: str = "RSA", **changes: Any) -> Make:
    """Put other parameters into the JWE protected header."""
    return lambda forge: flattened(forge.outer(kind, **changes))


def members(kind: str = "RSA", **changes: Any) -> Make:
    """Add members to the parts, or replace parts."""
    return lambda forge: flattened(forge.outer(kind), **changes)


def edited(name: str, edit: Callable[[str], str], kind: str = "RSA") -> Make:
    """Change one part."""

    def make(forge: Forge) -> bytes:
        parts = forge.outer(kind)
        return flattened(parts, **{name: edit(parts[name])})

    return make


def header_text(edit: Callable[[str], str | bytes], kind: str = "RSA") -> Make:
    """Change the text of the JWE protected header, and authenticate it correctly."""
    return lambda forge: flattened(forge.raw_outer(edit(json.dumps(forge.outer_header(kind))), kind))


def epk(**changes: Any) -> Make:
    def make(forge: Forge) -> bytes:
        key = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
        return flattened(forge.outer("P-256", epk=changed(key, changes)))

    return make


def epoch(**changes: Any) -> Make:
    """Put other parameters into the header of a message to an epoch key."""
    return lambda forge: flattened(forge.outer(EPOCH, **changes))


def json_text(edit: Callable[[str], str | bytes]) -> Make:
    def make(forge: Forge) -> bytes:
        text = edit(flattened(forge.outer()).decode())
        return text if isinstance(text, bytes) else text.encode()

    return make


def with_spare_bits(text: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


OUTER: list[Case] = [
    ("nothing", MALFORMED, literal(b"")),
    ("a bare text", MALFORMED, literal(b"hello")),
    ("no UTF-8", MALFORMED, literal(b"\xff\xfe{}")),
    ("UTF-16", MALFORMED, json_text(lambda text: text.encode("utf-16"))),
    ("a byte order mark", MALFORMED, json_text(lambda text: "\ufeff" + text)),
    ("an encoded surrogate", MALFORMED, json_text(lambda text: text.encode()[:-1] + b',"a":"\xed\xa0\x80"}')),
    ("an escaped surrogate", MALFORMED, json_text(lambda text: text[:-1] + ',"a":"\\ud800"}')),
    ("null", MALFORMED, literal(b"null")),
    ("a number", MALFORMED, literal(b"1.2.3.4.5")),
    ("an array", MALFORMED, literal(b"[]")),
    ("an empty object", MALFORMED, literal(b"{}")),
    ("an array around it", MALFORMED, json_text(lambda text: f"[{text}]")),
    ("a string around it", MALFORMED, json_text(json.dumps)),
    ("half of it", MALFORMED, json_text(lambda text: text[: len(text) // 2])),
    ("twice it", MALFORMED, json_text(lambda text: text + text)),
    ("a comment", MALFORMED, json_text(lambda text: "/**/" + text)),
    ("a trailing comma", MALFORMED, json_text(lambda text: text[:-1] + ",}")),
    ("a trailing zero octet", MALFORMED, json_text(lambda text: text + "\0")),
    ("NaN", MALFORMED, json_text(lambda text: text[:-1] + ',"a":NaN}')),
    ("Infinity", MALFORMED, json_text(lambda text: text[:-1] + ',"a":-Infinity}')),
    ("a number of 10000 digits", MALFORMED, json_text(lambda text: text[:-1] + f',"a":{"9" * 10_000}}}')),
    ("a member twice", MALFORMED, json_text(lambda text: text[:-1] + ',"tag":"AA"}')),
    ("a member twice, once escaped", MALFORMED, json_text(lambda text: text[:-1] + ',"\\u0074ag":"AA"}')),
    ("a meaningless member twice", MALFORMED, json_text(lambda text: text[:-1] + ',"a":1,"a":1}')),
    ("deep arrays", MALFORMED, literal(b"[" * 60_000)),
    ("deep objects", MALFORMED, literal(b'{"a":' * 12_000)),
    ("deep arrays in a member", MALFORMED, members(a=json.loads("[" * 500 + "]" * 500))),
    ("deep arrays, unfinished", MALFORMED, literal(b'{"a":' + b"[" * 60_000)),
    ("an unfinished string of escapes", MALFORMED, literal(b'{"a":' + b"[" * 20 + b'"' + b'\\"' * 30_000)),
    *(
        (f"{name} is missing", MALFORMED, members(**{name: ABSENT}))
        for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag")
    ),
    *((f"tag is {value!r}", MALFORMED, members(tag=value)) for value in (None, 7, True, ["AA"], {"a": "AA"})),
    ("protected is an object", MALFORMED, members(protected={"alg": "RSA-OAEP-256"})),
    ("encrypted_key is null", MALFORMED, members(encrypted_key=None)),
    ("a header member", UNSUPPORTED, members(header={"kid": "k"})),
    ("an empty header member", UNSUPPORTED, members(header={})),
    ("an unprotected member", UNSUPPORTED, members(unprotected={"kid": "k"})),
    ("an aad member", UNSUPPORTED, members(aad="YWFk")),
    ("flattened and general at once", UNSUPPORTED, members(recipients=[{"encrypted_key": "AA"}])),
    ("general serialization", UNSUPPORTED, lambda f: flattened(f.outer(), encrypted_key=ABSENT, recipients=[{}])),
    (
        "alg outside the protected header",
        UNSUPPORTED,
        lambda f: flattened(f.outer(alg=ABSENT), header={"alg": "RSA-OAEP-256"}),
    ),
    (
        "x5u outside the protected header",
        UNSUPPORTED,
        lambda f: flattened(f.outer(x5u=ABSENT), unprotected={"x5u": f.bob.uri}),
    ),
    ("a JWS and a JWE at once", MALFORMED, lambda f: flattened({**f.inner(), **f.outer()})),
    ("a flattened JWS", MALFORMED, lambda f: flattened(f.inner())),
    ("a compact JWS", MALFORMED, lambda f: compact(f.inner())),
    ("a general JWS", MALFORMED, literal(b'{"payload":"AA","signatures":[{"signature":"AA"}]}')),
    ("an unsecured JWS", MALFORMED, literal(b"eyJhbGciOiJub25lIn0.aGVsbG8.")),
    ("four compact parts", MALFORMED, lambda f: compact(f.outer()).rsplit(b".", 1)[0]),
    ("six compact parts", MALFORMED, lambda f: compact(f.outer()) + b".AA"),
    ("only dots", MALFORMED, literal(b"....")),
    ("60000 dots", MALFORMED, literal(b"." * 60_000)),
    ("white space around compact", MALFORMED, lambda f: b" " + compact(f.outer())),
    ("a line end after compact", MALFORMED, lambda f: compact(f.outer()) + b"\n"),
    *(
        (f"{name} with padding", MALFORMED, edited(name, lambda text: text + "=" * (-len(text) % 4 or 4)))
        for name in ("protected", "encrypted_key", "iv", "tag")
    ),
    ("ciphertext with white space", MALFORMED, edited("ciphertext", lambda text: text[:8] + "\n" + text[8:])),
    ("ciphertext with a foreign character", MALFORMED, edited("ciphertext", lambda text: text[:8] + "!" + text[8:])),
    ("iv in the other alphabet", MALFORMED, members(iv=b64(b"\xff" * 16).replace("_", "/"))),
    ("iv with spare bits", MALFORMED, edited("iv", with_spare_bits)),
    ("tag with spare bits", MALFORMED, edited("tag", with_spare_bits)),
    ("encrypted_key with spare bits", MALFORMED, edited("encrypted_key", with_spare_bits)),
    (
        "protected of an impossible length",
        MALFORMED,
        edited("protected", lambda text: text + "A" * ((1 - len(text)) % 4)),
    ),
    ("tag in other letters", MALFORMED, members(tag="é" * 43)),
    ("no protected header", MALFORMED, members(protected="")),
    ("header is not JSON", MALFORMED, header_text(lambda _: "alg")),
    ("header is an array", MALFORMED, header_text(lambda text: f"[{text}]")),
    ("header is null", MALFORMED, header_text(lambda _: "null")),
    ("header is not UTF-8", MALFORMED, header_text(lambda text: text.replace("JWE", "J\u00e9").encode("latin-1"))),
    ("header is not UTF-8 in JSON's other encodings", MALFORMED, header_text(lambda text: text.encode("utf-32"))),
    ("header with a byte order mark", MALFORMED, header_text(lambda text: "\ufeff" + text)),
    ("header with alg twice", MALFORMED, header_text(lambda text: text[:-1] + ', "alg": "RSA-OAEP-256"}')),
    (
        "header with x5u twice, once escaped",
        MALFORMED,
        header_text(lambda text: text[:-1] + ', "\\u00785u": "dns:a.b?type=TLSA"}'),
    ),
    ("header with NaN", MALFORMED, header_text(lambda text: text[:-1] + ', "a": NaN}')),
    ("header nests deep", MALFORMED, header_text(lambda text: text[:-1] + ', "a": ' + "[" * 9_000 + "]" * 9_000 + "}")),
    ("header with a surrogate", MALFORMED, header_text(lambda text: text[:-1] + ', "a": "\\udc00"}')),
    *((f"alg is {value!r}", MALFORMED, outer(alg=value)) for value in (ABSENT, None, 7, ["RSA-OAEP-256"], {"alg": 1})),
    *(
        (f"alg {name}", UNSUPPORTED, outer(alg=name))
        for name in (
            "none",
            "RSA1_5",
            "RSA-OAEP",
            "RSA-OAEP-384",
            "RSA-OAEP-512",
            "dir",
            "A256KW",
            "A256GCMKW",
            "ECDH-ES",
            "ECDH-ES+A128KW",
            "PBES2-HS512+A256KW",
            "rsa-oaep-256",
            "RSA-OAEP-256 ",
            "RSA-OAEP-256\0",
            "",
            "RS256",
        )
    ),
    *((f"enc is {value!r}", MALFORMED, outer(enc=value)) for value in (ABSENT, None, 1, ["A256GCM"])),
    *(
        (f"enc {name}", UNSUPPORTED, outer(enc=name))
        for name in ("A128CBC-HS256", "A192CBC-HS384", "A128GCM", "A192GCM", "C20P", "a256gcm", "", "none")
    ),
    ("zip in the header", UNSUPPORTED, outer(zip="DEF")),
    ("b64 in the header", UNSUPPORTED, outer(b64=True)),
    ("aad in the header", UNSUPPORTED, outer(aad="x")),
    *((f"crit is {value!r}", UNSUPPORTED, outer(crit=value)) for value in (["exp"], [], ["alg", "alg"], "alg", None)),
    ("b64 false and critical", UNSUPPORTED, outer(b64=False, crit=["b64"])),
    ("zip is null", UNSUPPORTED, outer(zip=None)),
    *(
        (f"x5u is {value!r}", MALFORMED, outer(x5u=value))
        for value in (
            ABSENT,
            None,
            7,
            ["dns:bob._device.example.test?type=TLSA"],
            "",
            "bob._device.example.test",
            "https://bob._device.example.test/cert.pem",
            "dns://bob._device.example.test",
            "dns://bob._device.example.test?type=A",
            "dns://bob._device.example.test?type=TLSA&type=TLSA",
            "dns://bob._device.example.test?type=TLSA;type=TLSA",
            "dns://bob._device.example.test?type=TLSA#x",
            "dns://bob@example.test/bob._device.example.test?type=TLSA",
            "dns://bob._device.example.test:53?type=TLSA",
            "dns:////bob._device.example.test?type=TLSA",
            "dns://bob%00._device.example.test?type=TLSA",
            "dns:bob%2eexample.test?type=TLSA",
            "dns:b\u043eb.example.test?type=TLSA",
            "dns:bob..example.test?type=TLSA",
            "dns:?type=TLSA",
            "dns:bob?type=TLSA",
            " dns:bob.example.test?type=TLSA",
        )
    ),
    *(
        (f"for {name}", Reason.NOT_FOR_US, outer(x5u=f"dns://{name}?type=TLSA"))
        for name in (
            "carol._device.example.test",
            "device.example.test",
            "xbob._device.example.test",
            "bob._device.example.test.evil.test",
        )
    ),
    (
        "the authority is the reader",
        Reason.NOT_FOR_US,
        outer(x5u="dns://bob._device.example.test/carol.example.test?type=TLSA"),
    ),
    *((f"iv of {size} octets", MALFORMED, members(iv=b64(bytes(size)))) for size in (0, 12, 15, 17)),
    *((f"tag of {size} octets", MALFORMED, members(tag=b64(bytes(size)))) for size in (0, 16, 31, 33, 64)),
    *((f"ciphertext of {size} octets", MALFORMED, members(ciphertext=b64(bytes(size)))) for size in (0, 1, 15, 17)),
    ("A256GCM with an iv of 16 octets", MALFORMED, lambda f: flattened(f.outer(enc="A256GCM"), iv=b64(bytes(16)))),
    ("A256GCM with a tag of 4 octets", MALFORMED, lambda f: flattened(f.outer(enc="A256GCM"), tag=b64(bytes(4)))),
    ("A256GCM with a tag of 12 octets", MALFORMED, lambda f: flattened(f.outer(enc="A256GCM"), tag=b64(bytes(12)))),
    ("A256GCM without ciphertext", MALFORMED, lambda f: flattened(f.outer(enc="A256GCM"), ciphertext="")),
    *((f"epk is {value!r}", MALFORMED, outer("P-256", epk=value)) for value in (None, "", 7, ["EC"], {"kty": "EC"})),
    *((f"epk without {name}", MALFORMED, epk(**{name: ABSENT})) for name in ("kty", "crv", "x", "y")),
    *((f"epk with a number for {name}", MALFORMED, epk(**{name: 7})) for name in ("kty", "crv", "x", "y")),
    ("epk with d", MALFORMED, epk(d=b64(b"\1" * 32))),
    ("epk with d null", MALFORMED, epk(d=None)),
    ("epk of another kind", UNSUPPORTED, epk(kty="OKP")),
    ("epk of another curve", UNSUPPORTED, epk(crv="P-384")),
    (
        "epk is a key of P-384",
        UNSUPPORTED,
        lambda f: flattened(f.outer("P-256", epk=public_jwk(ec.generate_private_key(ec.SECP384R1()).public_key()))),
    ),
    ("epk off the curve", MALFORMED, epk(y=b64(b"\1" * 32))),
    ("epk at the origin", MALFORMED, epk(x=b64(bytes(32)), y=b64(bytes(32)))),
    ("epk with x beyond the field", MALFORMED, epk(x=b64(b"\xff" * 32))),
    ("epk with x at the field's end", MALFORMED, epk(x=b64(P256_MODULUS.to_bytes(32)))),
    ("epk with a short x", MALFORMED, epk(x=b64(b"\1" * 31))),
    ("epk with a long y", MALFORMED, epk(y=b64(b"\0" + b"\1" * 32))),
    ("epk with an empty x", MALFORMED, epk(x="")),
    ("epk with padding", MALFORMED, epk(x=b64(b"\1" * 32) + "=")),
    ("apu", UNSUPPORTED, outer("P-256", apu="YQ")),
    ("apv empty", UNSUPPORTED, outer("P-256", apv="")),
    ("epk in an unprotected header", UNSUPPORTED, lambda f: flattened(f.outer("P-256"), header={"epk": {}})),
    *(
        (f"RSA encrypted_key of {size} octets", Reason.DECRYPTION_FAILED, members(encrypted_key=b64(bytes(size))))
        for size in (0, 1, 255, 257, 384, 512)
    ),
    *(
        (
            f"P-256 encrypted_key of {size} octets",
            Reason.DECRYPTION_FAILED,
            members("P-256", encrypted_key=b64(bytes(size))),
        )
        for size in (0, 8, 40, 64, 71, 73, 256)
    ),
    ("no ek", MALFORMED, header_text(lambda text: text, EPOCH)),
    *((f"ek of {size} octets", MALFORMED, epoch(ek=b64(bytes(size)))) for size in (0, 32, 1088, 1119, 1121, 2240)),
    *((f"ek is {value!r}", MALFORMED, epoch(ek=value)) for value in (None, 7, ["AA"], {"kty": "AKP"})),
    ("ek with padding", MALFORMED, epoch(ek=b64(bytes(1120)) + "=")),
    ("ek with spare bits", MALFORMED, epoch(ek=with_spare_bits(b64(bytes(1120))))),
    ("ek twice", MALFORMED, header_text(lambda text: text[:-1] + ', "ek": "AA", "ek": "AA"}', EPOCH)),
    ("kid twice", MALFORMED, header_text(lambda text: text[:-1] + f', "kid": "{EPOCH_KEY_ID}"}}', EPOCH)),
    *((f"kid is {value!r}", MALFORMED, epoch(kid=value)) for value in (ABSENT, None, 7, "", [EPOCH_KEY_ID])),
    *((f"kid of {size} octets", MALFORMED, epoch(kid=b64(bytes(size)))) for size in (15, 17, 32)),
    ("kid with spare bits", MALFORMED, epoch(kid=with_spare_bits(EPOCH_KEY_ID))),
    ("kid with white space", MALFORMED, epoch(kid=EPOCH_KEY_ID + "\n")),
    *((f"epoch message with {name}", UNSUPPORTED, epoch(**{name: "AA"})) for name in ("psk_id", "epk", "apu", "apv")),
    ("epoch message with psk_id null", UNSUPPORTED, epoch(psk_id=None)),
    *((f"alg {name} with kid and ek", UNSUPPORTED, epoch(alg=name)) for name in ("HPKE-9", "HPKE-8-KE", "HPKE-7-KE")),
    ("ek in an unprotected header", UNSUPPORTED, lambda f: flattened(f.outer(EPOCH), header={"ek": "AA"})),
    *(
        (f"epoch encrypted_key of {size} octets", MALFORMED, members(EPOCH, encrypted_key=b64(bytes(size))))
        for size in (0, 48, 79, 81)
    ),
    *(
        (
            f"A256GCM epoch encrypted_key of {size} octets",
            MALFORMED,
            lambda f, size=size: flattened(f.outer(EPOCH, enc="A256GCM"), encrypted_key=b64(bytes(size))),
        )
        for size in (47, 49, 80)
    ),
    ("epoch message for another recipient", Reason.NOT_FOR_US, epoch(x5u="dns:carol.example.test?type=TLSA")),
    ("an unknown kid", Reason.EPOCH_GONE, epoch(kid=b64(bytes(16)))),
    ("an epoch message named as RSA", Reason.DECRYPTION_FAILED, epoch(alg="RSA-OAEP-256")),
    ("an RSA message named as HPKE-9-KE", MALFORMED, outer(alg="HPKE-9-KE")),
    ("an RSA message named as P-256", MALFORMED, outer(alg="ECDH-ES+A256KW")),
    ("a P-256 message named as RSA", Reason.DECRYPTION_FAILED, outer("P-256", alg="RSA-OAEP-256")),
]


@pytest.mark.parametrize(("reason", "make"), [pytest.param(*case[1:], id=case[0][:60]) for case in OUTER])
def test_outer_layers_are_refused_without_a_private_key_operation(
    forge: Forge, private_key_operations: Counter[str], reason: Reason, make: Make
) -> None:
    with pytest.raises(Refusal) as refusal:
        decrypt(make(forge), forge.bob, list(forge.reader_keys.values()), {EPOCH_KEY_ID: EPOCH_KEY})
    assert refusal.value.reason is reason
    assert refusal.value.fact.isascii()
    assert refusal.value.fact.isprintable()
    assert len(refusal.value.fact) < 200
    assert not private_key_operations
