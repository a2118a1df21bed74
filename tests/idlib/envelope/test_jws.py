import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, UnverifiedMessage, parse, sign, verify
from idlib.errors import IdlibError, MalformedMediaTypeError, MessageError, Reason, Refusal
from testbed.forge import ABSENT, NOW, Forge, Parts, b64, compact, flattened, unb64

KINDS = ["RSA", "P-256"]


def signed(forge: Forge, kind: str, text: str = "hello") -> str:
    return sign(
        text, sender=forge.alice, signing_key=forge.sender_keys[kind], binding=Binding(forge.bob, NOW, "id", NOW + 60)
    )


@pytest.mark.parametrize(("kind", "algorithm", "octets"), [("RSA", "RS256", 256), ("P-256", "ES256", 64)])
def test_the_form_of_a_message(forge: Forge, kind: str, algorithm: str, octets: int) -> None:
    parts = json.loads(signed(forge, kind))
    assert parts.keys() == {"payload", "protected", "signature"}
    assert json.loads(unb64(parts["protected"])) == {
        "alg": algorithm,
        "x5u": "dns://alice._device.example.test?type=TLSA",
        "aud": "bob._device.example.test",
        "iat": NOW,
        "jti": "id",
        "exp": NOW + 60,
    }
    assert unb64(parts["payload"]) == b"hello"
    assert len(unb64(parts["signature"])) == octets


@pytest.mark.parametrize("kind", KINDS)
def test_a_parsed_message(forge: Forge, kind: str) -> None:
    message = parse(signed(forge, kind))
    assert message.sender == forge.alice
    assert message.binding == Binding(forge.bob, NOW, "id", NOW + 60)
    assert verify(message, [forge.sender_keys[kind].public]) == b"hello"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [flattened, compact])
def test_messages_of_other_programs_are_verified(forge: Forge, kind: str, write: Callable[[Parts], bytes]) -> None:
    message = parse(write(forge.inner(kind, "grüße".encode())).decode())
    assert verify(message, [forge.sender_keys[kind].public]).decode() == "grüße"


@pytest.mark.parametrize("typ", [ABSENT, "JOSE", "JOSE+JSON", "jose", "Jose+Json", "application/jose"])
def test_these_types_are_messages(forge: Forge, typ: object) -> None:
    assert parse(flattened(forge.inner(typ=typ)).decode()).sender == forge.alice


def test_unknown_parameters_are_ignored(forge: Forge) -> None:
    parts = forge.inner(kid="k", jwk={"kty": "oct"}, jku="http://a", x5c=[1], cty="text/plain", nonsense=[None, {}])
    message = parse(flattened(parts, nonsense={"a": 1.5}).decode())
    assert verify(message, [forge.sender_keys["RSA"].public]) == b"hello"


def test_a_message_without_binding_is_unbound(forge: Forge) -> None:
    message = parse(flattened(forge.inner(aud=ABSENT, iat=ABSENT, jti=ABSENT)).decode())
    assert message.binding is None


@pytest.mark.parametrize("text", ["", "\ud800", "a\udfffb"])
def test_texts_that_cannot_be_sent_are_rejected(forge: Forge, text: str) -> None:
    with pytest.raises(MessageError):
        signed(forge, "RSA", text)


@settings(deadline=None)
@given(
    st.binary(min_size=1), st.sampled_from(["image/png", "application/x", 'text/csv; a="/"']), st.sampled_from(KINDS)
)
def test_content_with_a_type_arrives_byte_for_byte(forge: Forge, content: bytes, content_type: str, kind: str) -> None:
    binding = Binding(forge.bob, NOW, "id")
    key = forge.sender_keys[kind]
    message = parse(sign(content, sender=forge.alice, signing_key=key, binding=binding, content_type=content_type))
    assert message.content_type == content_type
    assert verify(message, [key.public]) == content


@pytest.mark.parametrize(("content_type", "cty"), [("Application/JSON", "json"), ("text/csv;A=b", "text/csv; a=b")])
def test_the_content_type_is_in_the_protected_header(forge: Forge, content_type: str, cty: str) -> None:
    binding, key = Binding(forge.bob, NOW, "id"), forge.sender_keys["RSA"]
    written = sign("hello", sender=forge.alice, signing_key=key, binding=binding, content_type=content_type)
    header = json.loads(unb64(json.loads(written)["protected"]))
    assert header.pop("cty") == cty
    plain = sign("hello", sender=forge.alice, signing_key=key, binding=binding)
    assert header == json.loads(unb64(json.loads(plain)["protected"]))
    # Bytes of UTF-8 without a type are the same text.
    assert sign(b"hello", sender=forge.alice, signing_key=key, binding=binding) == plain


@pytest.mark.parametrize(
    ("content", "content_type", "error"),
    [
        (b"\xff", None, MessageError),
        (b"", "image/png", MessageError),
        ("", "text/plain", MessageError),
        ("\ud800", "text/plain", MessageError),
        (b"a", "png", MalformedMediaTypeError),
    ],
)
def test_content_that_cannot_be_sent_is_rejected(
    forge: Forge, content: str | bytes, content_type: str | None, error: type[IdlibError]
) -> None:
    binding, key = Binding(forge.bob, NOW, "id"), forge.sender_keys["RSA"]
    with pytest.raises(error):
        sign(content, sender=forge.alice, signing_key=key, binding=binding, content_type=content_type)


@pytest.mark.parametrize("write", [flattened, compact])
def test_content_of_other_programs_is_verified(forge: Forge, write: Callable[[Parts], bytes]) -> None:
    message = parse(write(forge.inner("RSA", b"\xff\0", cty="octet-stream")).decode())
    assert message.content_type == "application/octet-stream"
    assert verify(message, [forge.sender_keys["RSA"].public]) == b"\xff\0"


@pytest.mark.parametrize(
    ("payload", "changes"),
    [
        (b"\xff", {}),
        (b"", {"cty": "image/png"}),
        *(
            (b"a", {"cty": cty})
            for cty in (None, 5, True, ["image/png"], "", "image/", "a/b/c", "a/b;", "a" * 300, "é/b")
        ),
        (b"a", {"cty": "image/png\n"}),
    ],
)
def test_content_without_a_right_type_is_refused(forge: Forge, payload: bytes, changes: dict[str, object]) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(flattened(forge.inner("RSA", payload, **changes)).decode())
    assert refusal.value.reason is Reason.INNER_MALFORMED
    assert str(refusal.value).isascii()


def refused(message: UnverifiedMessage, keys: list[PrivateKey]) -> bool:
    with pytest.raises(Refusal) as refusal:
        verify(message, [key.public for key in keys])
    return refusal.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_senders_keys_verify_a_message(
    forge: Forge, kind: str, other_rsa_key: PrivateKey, rsa3072_key: PrivateKey
) -> None:
    message = parse(signed(forge, kind))
    others = [other_rsa_key, rsa3072_key, *forge.reader_keys.values()]
    assert refused(message, others)
    assert refused(message, [])
    assert verify(message, [key.public for key in [*others, forge.sender_keys[kind]]]) == b"hello"


def test_a_key_of_the_other_type_is_skipped(forge: Forge) -> None:
    for kind, other in zip(KINDS, reversed(KINDS), strict=True):
        assert refused(parse(signed(forge, kind)), [forge.sender_keys[other]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_over_another_text_or_header_is_invalid(forge: Forge, kind: str) -> None:
    parts = json.loads(signed(forge, kind))
    for member in ("payload", "protected"):
        other = json.loads(signed(forge, kind, "hell0")) | {"protected": forge.inner(kind)["protected"]}
        message = parse(json.dumps(parts | {member: other[member]}))
        assert refused(message, [forge.sender_keys[kind]])


@settings(deadline=None)
@given(st.data())
def test_random_signatures_are_invalid(forge: Forge, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    octets = 256 if kind == "RSA" else 64
    edge = st.sampled_from([b"\0" * octets, b"\xff" * octets, b"\0" * (octets - 1) + b"\1"])
    message = parse(signed(forge, kind))
    signature = data.draw(edge | st.binary(min_size=octets, max_size=octets))
    forged = UnverifiedMessage(
        message.sender, message.algorithm, message.binding, message.signing_input, signature, message.unverified_content
    )
    assert refused(forged, [forge.sender_keys[kind]])


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_message_or_a_refusal(text: str) -> None:
    with pytest.raises(Refusal):
        parse(text)


PARAMETERS = st.dictionaries(
    st.sampled_from(["alg", "x5u", "typ", "aud", "iat", "jti", "exp", "crit", "b64", "kid", "cty"]),
    st.sampled_from(["RS256", "ES256", "none", "JOSE", "dns:a.b?type=TLSA", "dns://a.b?type=TLSA", "bob.test", "a.b"])
    | st.integers(-1, 2000)
    | st.text(max_size=4)
    | st.none()
    | st.lists(st.text(max_size=2), max_size=2),
)


@given(PARAMETERS, st.binary(max_size=8), st.binary(max_size=80) | st.just(bytes(64)) | st.just(bytes(256)))
def test_any_header_is_a_message_or_a_refusal(
    forge: Forge, header: dict[str, object], payload: bytes, signature: bytes
) -> None:
    right = {"alg": "ES256", "x5u": "dns:a.b?type=TLSA"}
    for chosen in (header, right | header):
        parts = {"protected": b64(json.dumps(chosen).encode()), "payload": b64(payload), "signature": b64(signature)}
        with pytest.raises(Refusal) as refusal:
            verify(parse(flattened(parts).decode()), [key.public for key in forge.sender_keys.values()])
        assert str(refusal.value).isascii()
        assert len(str(refusal.value)) < 400
