"""Messages to a living epoch key that an attacker could send, and that only the private half shows to be wrong."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from idlib.envelope import decrypt, parse_decrypted
from idlib.epochs import EpochPrivateKey
from idlib.errors import Reason, Refusal
from testbed.forge import (
    ABSENT,
    EPOCH,
    EPOCH_KEY,
    EPOCH_KEY_ID,
    Case,
    Forge,
    Make,
    Parts,
    b64,
    compact,
    encapsulate,
    flattened,
    jwe,
    unb64,
)

CLOSED: Final = Reason.DECRYPTION_FAILED
# RFC 7748 leaves it to the exchange to refuse such points.
_ORDER_8: Final = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
_STRANGERS_KEY: Final = EpochPrivateKey(bytes(32))


def one_bit(octets: bytes, place: int) -> bytes:
    """Return the octets with one changed bit."""
    return bytes(octet ^ (index == place % len(octets)) for index, octet in enumerate(octets))


def header_of(parts: Parts) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(unb64(parts["protected"]))
    return header


def part(name: str, place: int) -> Make:
    """Change one bit of a part."""

    def make(forge: Forge) -> bytes:
        parts = forge.outer(EPOCH)
        return flattened(parts, **{name: b64(one_bit(unb64(parts[name]), place))})

    return make


def encapsulated(edit: Callable[[bytes], bytes]) -> Make:
    """Change the encapsulated secret, and authenticate the header that has it with the right content key."""

    def make(forge: Forge) -> bytes:
        content_key = bytes(range(64))
        secret, encrypted_key = encapsulate(forge.epoch_key, content_key, "A256CBC-HS512")
        header = forge.outer_header(EPOCH, ek=b64(edit(secret)))
        parts = jwe(forge.epoch_key, header, flattened(forge.inner()), content_key=content_key)
        return flattened(parts, encrypted_key=b64(encrypted_key))

    return make


def header(**changes: Any) -> Make:
    """Change the header of a finished message."""

    def make(forge: Forge) -> bytes:
        parts = forge.outer(EPOCH)
        return flattened(parts, protected=b64(json.dumps(header_of(parts) | changes).encode()))

    return make


def mixed(name: str) -> Make:
    """Take one part from another message to the same key."""
    return lambda forge: flattened(forge.outer(EPOCH), **{name: forge.outer(EPOCH)[name]})


def to_another_key(forge: Forge) -> bytes:
    return flattened(jwe(_STRANGERS_KEY.public, forge.outer_header(EPOCH), flattened(forge.inner())))


def for_another_use(enc: str) -> Make:
    """Encrypt the content key as for another kind of content encryption."""

    def make(forge: Forge) -> bytes:
        content_key = bytes(range(64))
        secret, encrypted_key = encapsulate(forge.epoch_key, content_key, enc)
        parts = jwe(
            forge.epoch_key,
            forge.outer_header(EPOCH, ek=b64(secret)),
            flattened(forge.inner()),
            content_key=content_key,
        )
        return flattened(parts, encrypted_key=b64(encrypted_key))

    return make


def inside(**changes: Any) -> Make:
    """Change the parameters of the signed message inside."""
    return lambda forge: flattened(forge.outer(EPOCH, flattened(forge.inner(**changes))))


# What is inside is shown by the private half alone, too.
EPOCH_OPENED: Final[list[Case]] = [
    ("a bit of ek, ML-KEM half", CLOSED, encapsulated(lambda octets: one_bit(octets, 0))),
    ("a bit of ek, end of the ML-KEM half", CLOSED, encapsulated(lambda octets: one_bit(octets, 1087))),
    ("a bit of ek, X25519 half", CLOSED, encapsulated(lambda octets: one_bit(octets, 1088))),
    ("an ML-KEM ciphertext of zeros", CLOSED, encapsulated(lambda octets: bytes(1088) + octets[1088:])),
    ("an X25519 share of zeros", CLOSED, encapsulated(lambda octets: octets[:1088] + bytes(32))),
    ("an X25519 share of order 8", CLOSED, encapsulated(lambda octets: octets[:1088] + _ORDER_8)),
    ("halves in the wrong order", CLOSED, encapsulated(lambda octets: octets[1088:] + octets[:1088])),
    *((f"a bit of {name}", CLOSED, part(name, 0)) for name in ("encrypted_key", "iv", "ciphertext", "tag")),
    ("the last bit of encrypted_key", CLOSED, part("encrypted_key", -1)),
    ("a header that is not authenticated", CLOSED, header(nonsense=1)),
    ("x5u in capitals, not authenticated", CLOSED, lambda f: header(x5u=f"DNS:{f.bob}?TYPE=tlsa")(f)),
    *((f"{name} of another message", CLOSED, mixed(name)) for name in ("protected", "encrypted_key", "tag")),
    ("a message to a key that is not the one it names", CLOSED, to_another_key),
    ("a content key for A256GCM", CLOSED, for_another_use("A256GCM")),
    ("a content key for no use", CLOSED, for_another_use("")),
    ("an unbound message", Reason.UNBOUND, inside(aud=ABSENT, iat=ABSENT, jti=ABSENT)),
    ("an epoch message inside", Reason.INNER_MALFORMED, lambda f: flattened(f.outer(EPOCH, flattened(f.outer(EPOCH))))),
    (
        "a message to the identity key inside",
        Reason.INNER_MALFORMED,
        lambda f: compact(f.outer(EPOCH, compact(f.outer()))),
    ),
    ("nothing inside", Reason.INNER_MALFORMED, lambda f: flattened(f.outer(EPOCH, b" "))),
]


@pytest.mark.parametrize(("reason", "make"), [pytest.param(*case[1:], id=case[0]) for case in EPOCH_OPENED])
def test_it_costs_one_decapsulation_and_is_refused(
    forge: Forge, private_key_operations: Counter[str], reason: Reason, make: Make
) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_decrypted(decrypt(make(forge), forge.bob, list(forge.reader_keys.values()), {EPOCH_KEY_ID: EPOCH_KEY}))
    assert refusal.value.reason is reason
    assert refusal.value.fact.isascii()
    assert len(refusal.value.fact) < 200
    assert private_key_operations == {"HPKE-9-KE": 1}
