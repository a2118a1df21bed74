"""Messages to an epoch key: known answers, round trips, and everything that must not open."""

import hashlib
import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from idlib.envelope import (
    Binding,
    Decrypted,
    SealedTo,
    decrypt,
    encrypt,
    hpke,
    parse,
    parse_decrypted,
    parse_receipt,
    seal,
    seal_receipt,
    verify,
    verify_receipt,
)
from idlib.envelope.content_encryption import A256CBC_HS512, A256GCM
from idlib.epochs import EpochPrivateKey, EpochPublicKey, IdentifiedEpochKey
from idlib.errors import Reason, Refusal, UnsuitableKeyError
from idlib.names import IdentityName
from testbed.forge import (
    ABSENT,
    EPOCH,
    EPOCH_KEY,
    EPOCH_KEY_ID,
    NOW,
    Forge,
    Parts,
    b64,
    cbc_hs512,
    compact,
    encapsulate,
    flattened,
    jwe,
    unb64,
)
from tests.idlib.envelope.hpke_vectors import PATH, render

VECTORS: Final = json.loads(PATH.read_text())
OURS: Final = VECTORS["ours"]
MESSAGES: Final = {vector["enc"]: vector["message"] for vector in OURS["messages"]}
THEIRS: Final = VECTORS["working group"]
ENCRYPTIONS: Final = {encryption.name: encryption for encryption in (A256CBC_HS512, A256GCM)}
OTHER_KEY: Final = EpochPrivateKey(bytes(32))
OTHER_KEY_ID: Final = b64(b"\xff" * 16)
EPOCH_KEYS: Final = {EPOCH_KEY_ID: EPOCH_KEY, OTHER_KEY_ID: OTHER_KEY}
RECIPIENT_KEY: Final = IdentifiedEpochKey(EPOCH_KEY_ID, EPOCH_KEY.public)
TEXT: Final = "Grüße"


def opened(forge: Forge, payload: bytes) -> Decrypted:
    return decrypt(payload, forge.bob, list(forge.reader_keys.values()), EPOCH_KEYS)


def refusal_of(forge: Forge, payload: bytes) -> tuple[Reason, str]:
    with pytest.raises(Refusal) as refusal:
        opened(forge, payload)
    return refusal.value.reason, refusal.value.fact


def rendered(*written: str) -> dict[str, Any]:
    """Return our part of the file as it is rendered if it has these messages."""
    messages = [{"enc": enc, "message": message} for enc, message in zip(MESSAGES, written, strict=False)]
    ours: dict[str, Any] = json.loads(render(json.dumps(VECTORS | {"ours": {"messages": messages}})))["ours"]
    return ours


def without_encapsulated_secret(message: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(unb64(json.loads(message)["protected"])) | {"ek": ""}
    return header


def test_the_file_is_reproduced() -> None:
    text = PATH.read_text()
    assert render(text) == text


def test_our_vectors_are_reproduced_except_for_the_encapsulation() -> None:
    ours = rendered()
    assert list(ours) == list(OURS)
    assert {**ours, "messages": []} == {**OURS, "messages": []}
    for vector, published in zip(ours["messages"], OURS["messages"], strict=True):
        message = vector["message"]
        assert vector == {**published, "message": message}
        assert message != published["message"]
        assert without_encapsulated_secret(message) == without_encapsulated_secret(published["message"])
        key = EpochPrivateKey(bytes.fromhex(ours["seed"]))
        decrypted = decrypt(message.encode(), IdentityName(ours["name"]), [], {ours["kid"]: key})
        assert decrypted.signed == OURS["signed"]


def test_a_message_that_does_not_open_is_replaced_alone() -> None:
    first, second = MESSAGES.values()
    changed = json.dumps(json.loads(second) | {"tag": b64(bytes(16))})
    messages = [vector["message"] for vector in rendered(first, changed)["messages"]]
    assert messages[0] == first
    assert messages[1] not in {changed, second}


def test_a_message_that_opens_with_another_content_key_is_replaced() -> None:
    first, second = MESSAGES.values()
    key = EpochPrivateKey(bytes.fromhex(OURS["seed"]))
    header = json.loads(unb64(json.loads(first)["protected"]))
    del header["ek"]
    other = flattened(jwe(key.public, header, OURS["signed"].encode())).decode()
    assert decrypt(other.encode(), IdentityName(OURS["name"]), [], {OURS["kid"]: key}).signed == OURS["signed"]
    messages = [vector["message"] for vector in rendered(other, second)["messages"]]
    assert messages[0] != other
    assert messages[1] == second


def test_the_key_of_our_vector_is_as_described() -> None:
    public = EpochPrivateKey(bytes.fromhex(OURS["seed"])).public.octets
    assert b64(public) == OURS["public"]
    body = struct.pack(">BBHII", 1, 9, 0, OURS["from"], OURS["until"]) + public
    signed = b"dane-mqtt epoch 1\0" + OURS["name"].encode() + b"\0" + body
    assert b64(hashlib.sha256(signed).digest()[:16]) == OURS["kid"]


@pytest.mark.parametrize("vector", OURS["messages"], ids=lambda vector: vector["enc"])
def test_every_byte_of_our_vectors_is_correct(vector: dict[str, Any]) -> None:
    message, content_key, iv = json.loads(vector["message"]), *map(bytes.fromhex, (vector["content_key"], vector["iv"]))
    header = json.loads(unb64(message["protected"]))
    assert header | {"ek": ""} == {
        "alg": "HPKE-9-KE",
        "enc": vector["enc"],
        "typ": "JWE",
        "x5u": f"dns://{OURS['name']}?type=TLSA",
        "kid": OURS["kid"],
        "ek": "",
    }
    plaintext, aad = OURS["signed"].encode(), message["protected"].encode()
    if vector["enc"] == "A256GCM":
        sealed = AESGCM(content_key).encrypt(iv, plaintext, aad)
        assert (unb64(message["ciphertext"]), unb64(message["tag"])) == (sealed[:-16], sealed[-16:])
    else:
        assert (unb64(message["ciphertext"]), unb64(message["tag"])) == cbc_hs512(content_key, iv, plaintext, aad)
    assert unb64(message["iv"]) == iv
    key = EpochPrivateKey(bytes.fromhex(OURS["seed"]))
    share = hpke.read_share(header)
    encrypted_key = unb64(message["encrypted_key"])
    assert hpke.unwrap(key, share, encrypted_key, ENCRYPTIONS[vector["enc"]]) == content_key


@pytest.mark.parametrize("vector", OURS["messages"], ids=lambda vector: vector["enc"])
@pytest.mark.parametrize("write", [flattened, compact])
def test_our_vectors_are_opened(vector: dict[str, Any], write: Callable[[Parts], bytes]) -> None:
    key = EpochPrivateKey(bytes.fromhex(OURS["seed"]))
    payload = write(json.loads(vector["message"]))
    decrypted = decrypt(payload, IdentityName(OURS["name"]), [], {OURS["kid"]: key})
    assert (decrypted.signed, decrypted.sealed_to) == (OURS["signed"], SealedTo.EPOCH)
    assert parse_decrypted(decrypted).unverified_content.decode() == "Grüße from Alice"


def test_the_key_of_the_working_groups_vector_is_derived_as_ours() -> None:
    assert b64(EpochPrivateKey(unb64(THEIRS["priv"])).public.octets) == THEIRS["pub"]
    assert EpochPublicKey(unb64(THEIRS["pub"])) == EpochPrivateKey(unb64(THEIRS["priv"])).public


@pytest.mark.parametrize("form", ["flattened", "compact"])
def test_the_working_groups_vectors_are_opened(form: str) -> None:
    if form == "compact":
        members = dict(
            zip(("protected", "encrypted_key", "iv", "ciphertext", "tag"), THEIRS[form].split("."), strict=True)
        )
    else:
        members = THEIRS[form]
    header = json.loads(unb64(members["protected"]))
    assert (header["alg"], header["enc"]) == ("HPKE-9-KE", "A256GCM")
    # Their key id has another form than ours, which a signed record determines.
    share = hpke.EpochShare(header["kid"], unb64(header["ek"]))
    encrypted_key = unb64(members["encrypted_key"])
    hpke.check_length(encrypted_key, A256GCM)
    content_key = hpke.unwrap(EpochPrivateKey(unb64(THEIRS["priv"])), share, encrypted_key, A256GCM)
    aad = ".".join([members["protected"], *([members["aad"]] if "aad" in members else [])]).encode()
    iv, ciphertext, tag = (unb64(members[name]) for name in ("iv", "ciphertext", "tag"))
    plaintext = A256GCM.decrypt(content_key, iv, ciphertext, tag, aad)
    assert plaintext is not None
    assert plaintext.startswith(b"You can trust us to stick with you")


def test_the_working_groups_vector_is_outside_our_profile(forge: Forge) -> None:
    assert refusal_of(forge, THEIRS["compact"].encode())[0] is Reason.OUTER_MALFORMED
    assert refusal_of(forge, json.dumps(THEIRS["flattened"]).encode())[0] is Reason.OUTER_UNSUPPORTED


def test_the_form_of_a_message(forge: Forge) -> None:
    parts = json.loads(encrypt("x", recipient=forge.bob, encryption_key=RECIPIENT_KEY))
    header = json.loads(unb64(parts["protected"]))
    assert list(header) == ["alg", "enc", "typ", "x5u", "kid", "ek"]
    assert header | {"ek": ""} == {
        "alg": "HPKE-9-KE",
        "enc": "A256CBC-HS512",
        "typ": "JWE",
        "x5u": "dns://bob._device.example.test?type=TLSA",
        "kid": EPOCH_KEY_ID,
        "ek": "",
    }
    assert len(unb64(header["ek"])) == 1120
    assert len(unb64(parts["encrypted_key"])) == 80


def test_two_equal_messages_have_nothing_in_common(forge: Forge) -> None:
    first, second = (json.loads(encrypt("x", recipient=forge.bob, encryption_key=RECIPIENT_KEY)) for _ in range(2))
    assert all(first[name] != second[name] for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag"))


@pytest.mark.parametrize("enc", ENCRYPTIONS)
@pytest.mark.parametrize("write", [flattened, compact])
def test_messages_of_other_programs_are_decrypted(forge: Forge, enc: str, write: Callable[[Parts], bytes]) -> None:
    decrypted = opened(forge, write(forge.outer(EPOCH, b"a signed message", enc=enc, typ=ABSENT, nonsense=[1])))
    assert (decrypted.signed, decrypted.sealed_to) == ("a signed message", "epoch")


@pytest.mark.parametrize("kind", ["RSA", "P-256"])
def test_a_message_to_the_identity_key_says_so(forge: Forge, kind: str) -> None:
    # `kid` and `ek` mean nothing there.
    assert opened(forge, flattened(forge.outer(kind, b"x", kid=7, ek=None))).sealed_to == "identity"


def test_a_sealed_message_is_verified_like_any_other(forge: Forge) -> None:
    key = forge.sender_keys["P-256"]
    binding = Binding.new(forge.bob, NOW)
    payload = seal(
        TEXT, sender=forge.alice, signing_key=key, recipient=forge.bob, encryption_key=RECIPIENT_KEY, binding=binding
    )
    message = parse_decrypted(opened(forge, payload))
    assert verify(message, [key.public]).decode() == TEXT
    assert message.binding == binding


def test_a_receipt_is_sealed_to_an_epoch_key(forge: Forge) -> None:
    key, binding = forge.sender_keys["P-256"], Binding.new(forge.bob, NOW)
    payload = seal_receipt("id", sender=forge.alice, signing_key=key, encryption_key=RECIPIENT_KEY, binding=binding)
    decrypted = opened(forge, payload)
    assert decrypted.sealed_to is SealedTo.EPOCH
    assert verify_receipt(parse_receipt(decrypted.signed), [key.public]) == "id"


def test_an_unbound_message_is_refused_only_in_an_epoch_message(forge: Forge) -> None:
    inner = flattened(forge.inner(aud=ABSENT, iat=ABSENT, jti=ABSENT))
    assert parse_decrypted(opened(forge, flattened(forge.outer("RSA", inner)))).binding is None
    decrypted = opened(forge, flattened(forge.outer(EPOCH, inner)))
    assert parse(decrypted.signed).binding is None
    with pytest.raises(Refusal) as refusal:
        parse_decrypted(decrypted)
    assert refusal.value.reason is Reason.UNBOUND


@settings(deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), octets=st.binary(min_size=16, max_size=16), text=st.text(min_size=1))
def test_what_is_encrypted_to_a_key_opens_with_it_alone(forge: Forge, seed: bytes, octets: bytes, text: str) -> None:
    assume(seed != EPOCH_KEY.seed)
    key, key_id = EpochPrivateKey(seed), b64(octets)
    text = text.encode(errors="replace").decode()
    payload = encrypt(text, recipient=forge.bob, encryption_key=IdentifiedEpochKey(key_id, key.public))
    assert decrypt(payload, forge.bob, [], {key_id: key}).signed == text
    for others, reason in (({}, Reason.EPOCH_GONE), ({key_id: EPOCH_KEY}, Reason.DECRYPTION_FAILED)):
        with pytest.raises(Refusal) as refusal:
            decrypt(payload, forge.bob, [], others)
        assert refusal.value.reason is reason


@pytest.mark.parametrize("enc", ENCRYPTIONS)
@settings(deadline=None)
@given(data=st.data())
def test_one_changed_bit_keeps_a_message_closed(forge: Forge, enc: str, data: st.DataObject) -> None:
    parts = forge.outer(EPOCH, b"a signed message", enc=enc)
    name = data.draw(st.sampled_from(sorted(parts)))
    octets = bytearray(unb64(parts[name]))
    place = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[place // 8] ^= 1 << place % 8
    reason, _ = refusal_of(forge, flattened(parts, **{name: b64(bytes(octets))}))
    if name != "protected":
        assert reason is Reason.DECRYPTION_FAILED


def changed_header(parts: Parts, **changes: Any) -> bytes:
    header = json.loads(unb64(parts["protected"]))
    return flattened(parts, protected=b64(json.dumps(header | changes).encode()))


def test_all_failures_to_decrypt_look_the_same(forge: Forge, private_key_operations: Counter[str]) -> None:
    parts, other = forge.outer(EPOCH), forge.outer(EPOCH)
    encapsulated = unb64(json.loads(unb64(parts["protected"]))["ek"])
    header = forge.outer_header(EPOCH)
    plain_info, foreign_info = (encapsulate(EPOCH_KEY.public, bytes(64), enc) for enc in ("A256GCM", ""))

    def with_ek(octets: bytes) -> bytes:
        """Authenticate the header correctly, around an encapsulated secret that is not the content key's."""
        return flattened(jwe(EPOCH_KEY.public, header | {"ek": b64(octets)}, flattened(forge.inner())))

    payloads = [
        flattened(parts, encrypted_key=b64(bytes(80))),
        flattened(parts, encrypted_key=other["encrypted_key"]),
        flattened(parts, tag=b64(bytes(32))),
        flattened(parts, iv=b64(bytes(16))),
        flattened(parts, ciphertext=b64(bytes(16))),
        flattened(parts, protected=other["protected"]),
        changed_header(parts, nonsense=1),
        # The right `ek` under another id that is ours, and a message to a key that is not the one it names.
        changed_header(parts, kid=OTHER_KEY_ID),
        flattened(jwe(OTHER_KEY.public, header, b"x")),
        # One bit of each half, no ciphertext at all, and a share of zeros.
        with_ek(bytes([encapsulated[0] ^ 1]) + encapsulated[1:]),
        with_ek(encapsulated[:-1] + bytes([encapsulated[-1] ^ 1])),
        with_ek(bytes(1120)),
        with_ek(encapsulated[:1088] + bytes(32)),
        # Encrypted for another use.
        *(
            flattened(
                jwe(EPOCH_KEY.public, header | {"ek": b64(ek)}, b"x", content_key=bytes(64)),
                encrypted_key=b64(encrypted_key),
            )
            for ek, encrypted_key in (plain_info, foreign_info)
        ),
        flattened(jwe(EPOCH_KEY.public, header, b"x", aad_suffix=b".YWFk")),
    ]
    refusals = {refusal_of(forge, payload) for payload in payloads}
    assert refusals == {(Reason.DECRYPTION_FAILED, "no key of bob._device.example.test decrypts the message")}
    assert private_key_operations == {"HPKE-9-KE": len(payloads)}


@pytest.mark.parametrize(("enc", "content_key"), [("A256CBC-HS512", bytes(32)), ("A256GCM", bytes(16))])
def test_a_content_key_of_another_length_is_refused_without_a_private_key_operation(
    forge: Forge, private_key_operations: Counter[str], enc: str, content_key: bytes
) -> None:
    parts = jwe(EPOCH_KEY.public, forge.outer_header(EPOCH, enc=enc), b"x", enc=enc, content_key=content_key)
    assert refusal_of(forge, flattened(parts))[0] is Reason.OUTER_MALFORMED
    assert not private_key_operations


def test_an_unknown_key_is_named_and_its_ciphertext_not_read(
    forge: Forge, private_key_operations: Counter[str]
) -> None:
    payload = flattened(forge.outer(EPOCH), ciphertext="!")
    with pytest.raises(Refusal) as refusal:
        decrypt(payload, forge.bob, list(forge.reader_keys.values()))
    assert refusal.value.reason is Reason.EPOCH_GONE
    assert EPOCH_KEY_ID in refusal.value.fact
    assert refusal_of(forge, payload)[0] is Reason.OUTER_MALFORMED
    assert not private_key_operations


@pytest.mark.parametrize("octets", ["", "A", "AB", "!" * 22, EPOCH_KEY_ID + "==", b64(bytes(15)), b64(bytes(17))])
def test_a_malformed_id_of_an_epoch_key_is_refused(octets: str) -> None:
    with pytest.raises(UnsuitableKeyError, match="the id of an epoch key"):
        IdentifiedEpochKey(octets, EPOCH_KEY.public)


@settings(deadline=None)
@given(
    header=st.dictionaries(
        st.sampled_from(["kid", "ek", "enc", "psk_id", "epk", "typ", "x5u"]),
        st.sampled_from([EPOCH_KEY_ID, b64(bytes(1120)), "A256CBC-HS512", "A256GCM", "dns:bob._device.example.test"])
        | st.none()
        | st.integers()
        | st.lists(st.integers(), max_size=2),
    ),
    parts=st.lists(st.sampled_from([0, 12, 16, 32, 48, 80]).map(bytes).map(b64), min_size=4, max_size=4),
)
def test_any_header_is_refused(forge: Forge, header: dict[str, object], parts: list[str]) -> None:
    protected = b64(json.dumps(forge.outer_header(EPOCH) | {"ek": b64(bytes(1120))} | header).encode())
    names = ("encrypted_key", "iv", "ciphertext", "tag")
    assert refusal_of(forge, flattened({"protected": protected, **dict(zip(names, parts, strict=True))}))


def test_the_envelope_does_not_load_epoch_keys_before_it_needs_them() -> None:
    program = "import sys, idlib.envelope.interface; sys.exit('idlib.epochs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
