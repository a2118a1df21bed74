import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from dane_jwe_jws.authentication import Authentication
from dane_jwe_jws.encryption import Encryption
from dane_jwe_jws.util import Util
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwcrypto.jwk import JWK

from idlib.envelope import Binding, Decrypted, UnverifiedMessage, decrypt, parse, seal, verify
from idlib.errors import MessageError, Refusal
from idlib.keys import generate_private_key
from idlib.settings import KeyType
from testbed.forge import ABSENT, NOW, Forge, compact, flattened

Opened = tuple[str, UnverifiedMessage, Decrypted]


def sealed(forge: Forge, text: str = "hello", sender: str = "RSA", reader: str = "RSA") -> bytes:
    return seal(
        text,
        sender=forge.alice,
        signing_key=forge.sender_keys[sender],
        recipient=forge.bob,
        encryption_key=forge.reader_keys[reader].public,
        binding=Binding(forge.bob, NOW, "id"),
    )


def opened(forge: Forge, payload: bytes) -> Opened:
    decrypted = decrypt(payload, forge.bob, list(forge.reader_keys.values()))
    message = parse(decrypted.signed)
    return verify(message, [key.public for key in forge.sender_keys.values()]).decode(), message, decrypted


@pytest.fixture(scope="module")
def forge_of_types(forge: Forge) -> Forge:
    """Give the devices a key of each type that KEY_TYPE has."""
    senders, readers = ({str(kind): generate_private_key(kind) for kind in KeyType} for _ in range(2))
    return Forge(forge.alice, forge.bob, senders, readers)


@pytest.mark.parametrize("sender", KeyType)
@pytest.mark.parametrize("reader", KeyType)
@given(st.text(min_size=1))
def test_any_text_survives_between_any_two_types_of_key(
    forge_of_types: Forge, sender: KeyType, reader: KeyType, text: str
) -> None:
    assert opened(forge_of_types, sealed(forge_of_types, text, sender, reader))[0] == text


@pytest.mark.parametrize("text", ["😀" * 3000, "\0", "\u202e\x1b[31m", "\ufeff", " ", "\r\n", '{"a":1}', "a.b.c"])
def test_special_texts_survive(forge: Forge, text: str) -> None:
    assert opened(forge, sealed(forge, text))[0] == text


def test_an_empty_text_is_not_sealed(forge: Forge) -> None:
    with pytest.raises(MessageError):
        sealed(forge, "")


# The effect of one changed byte. Our messages have no white space and no members without meaning, so each byte matters.

SHAPES: dict[str, Callable[[Forge], bytes]] = {
    "RSA": sealed,
    "P-256": lambda forge: sealed(forge, sender="P-256", reader="P-256"),
    "P-256 to RSA": lambda forge: sealed(forge, sender="P-256"),
    "compact RSA": lambda forge: compact(json.loads(sealed(forge))),
    "compact P-256 A256GCM": lambda forge: compact(forge.outer("P-256", compact(forge.inner("P-256")), enc="A256GCM")),
    "RSA A256GCM": lambda forge: json.dumps(forge.outer(enc="A256GCM"), separators=(",", ":")).encode(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_of_any_byte_is_refused(forge: Forge, shape: str) -> None:
    payload = SHAPES[shape](forge)
    assert opened(forge, payload)
    for place, octet in enumerate(payload):
        changed = payload[:place] + bytes([octet ^ 1]) + payload[place + 1 :]
        with pytest.raises(Refusal):
            opened(forge, changed)


@pytest.fixture(scope="module")
def payloads(forge: Forge) -> dict[str, bytes]:
    return {shape: make(forge) for shape, make in SHAPES.items()}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(SHAPES)), st.data())
def test_any_other_value_of_a_byte_is_refused(
    forge: Forge, payloads: dict[str, bytes], shape: str, data: st.DataObject
) -> None:
    payload = payloads[shape]
    place = data.draw(st.integers(0, len(payload) - 1))
    octet = data.draw(st.integers(0, 255).filter(lambda octet: octet != payload[place]))
    with pytest.raises(Refusal):
        opened(forge, payload[:place] + bytes([octet]) + payload[place + 1 :])


# Messages of other programs can have bytes without meaning: white space, more members, an escape in a name.

FOREIGN: dict[str, Callable[[Forge], bytes]] = {
    "indented": lambda forge: json.dumps(forge.outer(), indent=1).encode() + b"\n",
    "unordered, with more members": lambda forge: flattened(
        dict(reversed(forge.outer("P-256").items())), x=[1, "y"], note="z"
    ),
    "an escaped name": lambda forge: flattened(forge.outer()).replace(b'"iv"', b'"\\u0069v"'),
    "unbound": lambda forge: flattened(
        forge.outer(plaintext=flattened(forge.inner(aud=ABSENT, iat=ABSENT, jti=ABSENT)))
    ),
    "a spaced header": lambda forge: compact(forge.raw_outer(json.dumps(forge.outer_header(), indent=2))),
}


@pytest.fixture(scope="module")
def foreign_payloads(forge: Forge) -> dict[str, tuple[bytes, Opened]]:
    payloads = {shape: make(forge) for shape, make in FOREIGN.items()}
    return {shape: (payload, opened(forge, payload)) for shape, payload in payloads.items()}


@settings(max_examples=500)
@given(st.sampled_from(list(FOREIGN)), st.data())
def test_a_changed_byte_in_another_programs_message_is_refused_or_makes_no_difference(
    forge: Forge, foreign_payloads: dict[str, tuple[bytes, Opened]], shape: str, data: st.DataObject
) -> None:
    payload, original = foreign_payloads[shape]
    place = data.draw(st.integers(0, len(payload) - 1))
    octet = data.draw(st.sampled_from(b' \t\n\r",:{}[]\\A=.') | st.integers(0, 255))
    try:
        result = opened(forge, payload[:place] + bytes([octet]) + payload[place + 1 :])
    except Refusal:
        return
    assert result == original


@pytest.mark.parametrize("shape", FOREIGN)
def test_a_flipped_bit_in_another_programs_message_is_refused_or_makes_no_difference(
    forge: Forge, foreign_payloads: dict[str, tuple[bytes, Opened]], shape: str
) -> None:
    payload, original = foreign_payloads[shape]
    refused = 0
    for place, octet in enumerate(payload):
        try:
            result = opened(forge, payload[:place] + bytes([octet ^ 1]) + payload[place + 1 :])
        except Refusal:
            refused += 1
        else:
            assert result == original
    assert refused > len(payload) * 0.9


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(SHAPES)), st.data())
def test_an_added_or_removed_byte_is_refused_or_makes_no_difference(
    forge: Forge, payloads: dict[str, bytes], shape: str, data: st.DataObject
) -> None:
    payload = payloads[shape]
    place = data.draw(st.integers(0, len(payload)))
    added = data.draw(st.sampled_from([b"", b" ", b"\n", b'"', b"A", b"=", b"."]))
    removed = 1 if not added else 0
    changed = payload[:place] + added + payload[place + removed :]
    try:
        result = opened(forge, changed)
    except Refusal:
        return
    assert result == opened(forge, payload)


def test_white_space_and_unknown_members_make_no_difference(forge: Forge) -> None:
    parts = forge.outer()
    copies = [flattened(parts), flattened(parts, x=1), flattened(parts, y=[]), json.dumps(parts, indent=1).encode()]
    results = [opened(forge, copy) for copy in copies]
    assert all(result == results[0] for result in results)


# The reference implementation reads key files and DNS; the tests replace only its look-up.


@pytest.fixture
def key_files(forge: Forge, tmp_path: Path) -> dict[str, str]:
    paths = {}
    for role, key in (("alice", forge.sender_keys["RSA"]), ("bob", forge.reader_keys["RSA"])):
        path = tmp_path / f"{role}.key.pem"
        encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL)
        path.write_bytes(key.native.private_bytes(*encoding, serialization.NoEncryption()))
        paths[role] = str(path)
    return paths


@pytest.fixture
def published(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {forge.alice.text: forge.sender_keys["RSA"], forge.bob.text: forge.reader_keys["RSA"]}
    monkeypatch.setattr(
        Util, "get_pubkey_from_dns", lambda name, *_, **__: JWK.from_pyca(keys[name].public.native), raising=True
    )


@pytest.mark.usefixtures("published")
def test_dane_jwe_jws_opens_our_messages(forge: Forge, key_files: dict[str, str]) -> None:
    signed = Encryption.decrypt(sealed(forge, "grüße").decode(), key_files["bob"])
    assert Authentication.verify(signed).decode() == "grüße"


@pytest.mark.usefixtures("published")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5, deadline=None)
@given(st.text(min_size=1))
def test_we_open_messages_of_dane_jwe_jws(forge: Forge, key_files: dict[str, str], text: str) -> None:
    payload = Encryption.encrypt(Authentication.sign(text, key_files["alice"], forge.alice.text), forge.bob.text)
    read, message, _ = opened(forge, payload.encode())
    assert (read, message.sender, message.binding) == (text, forge.alice, None)
