"""The world of the payload targets: a recipient, two senders, and what happens to a payload that arrives.

The keys are the same in each run, so that an input that broke something breaks it again; they are worth nothing.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fuzz.target import check_harmless
from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import UnverifiedMessage, decrypt, parse_decrypted, verify
from idlib.errors import Refusal
from idlib.media_types import MAX_CHARACTERS, media_type
from idlib.names import IdentityName
from testbed.forge import EPOCH_KEY, EPOCH_KEY_ID, Forge, Parts, unb64

ALICE: Final = IdentityName("alice._device.example.test")
BOB: Final = IdentityName("bob._device.example.test")
MALLORY: Final = IdentityName("mallory.example.test")
KINDS: Final = ("RSA", "P-256")
PRINTED: Final = "printed"

Signed = tuple[IdentityName, bytes]


@cache
def keys(owner: IdentityName) -> Mapping[str, PrivateKey]:
    """Return a device's two private keys."""
    return {"RSA": PrivateKey(_rsa_key(owner.text)), "P-256": PrivateKey(_p256_key(owner.text))}


@cache
def ephemeral_key() -> ec.EllipticCurvePrivateKey:
    """Return the ephemeral key with which senders encrypt to the recipient's P-256 key."""
    return _p256_key("ephemeral")


@cache
def published(owner: IdentityName) -> tuple[PublicKey, ...]:
    """Return the keys in DNS for a name: only the two senders have any."""
    return tuple(key.public for key in keys(owner).values()) if owner in (ALICE, MALLORY) else ()


@cache
def forge() -> Forge:
    """Return the forge for alice's messages to bob."""
    return Forge(ALICE, BOB, dict(keys(ALICE)), dict(keys(BOB)))


def signed_by(sender: IdentityName, parts: Parts) -> Signed:
    """Return an entry which shows that these parts of a JWS were signed."""
    return sender, f"{parts['protected']}.{parts['payload']}".encode()


def receive(payload: bytes, signed: Collection[Signed]) -> str:
    """Return the outcome of a payload that reaches bob: the reason of the refusal, or PRINTED.

    Args:
        payload: As the broker delivers it.
        signed: Everything that was signed; nothing else may be printed.
    """
    try:
        decrypted = decrypt(payload, BOB, list(keys(BOB).values()), {EPOCH_KEY_ID: EPOCH_KEY})
        message = parse_decrypted(decrypted)
        content = verify(message, published(message.sender))
    except Refusal as refusal:
        check_harmless(str(refusal))
        return refusal.reason
    _check_promises(message, content, signed)
    _check_members(payload)
    _check_members(decrypted.signed.encode())
    assert decrypted.digest == _digest(payload), "the digest is that of docs/protocol.md"
    return PRINTED


def _check_promises(message: UnverifiedMessage, content: bytes, signed: Collection[Signed]) -> None:
    assert (message.sender, message.signing_input) in signed, "nothing is printed that its sender has not signed"
    protected, payload = message.signing_input.decode().split(".")
    header = json.loads(unb64(protected), object_pairs_hook=_without_doubles)
    assert content, "no empty content is printed"
    assert content == unb64(payload), "the content is what was signed"
    _check_content_type(message, content, header.get("cty"))
    bound = {name: header[name] for name in ("aud", "iat", "jti", "exp") if name in header}
    if message.binding is None:
        assert not bound, "an unbound message has no part of a binding"
    else:
        assert {**message.binding.parameters(), "aud": bound["aud"]} == bound, "the binding is what was signed"


def _check_content_type(message: UnverifiedMessage, content: bytes, signed: object) -> None:
    if message.content_type is None:
        assert signed is None, "no content type is dropped"
        content.decode()
        return
    assert isinstance(signed, str), "the content type is what was signed"
    full = signed if "/" in signed else f"application/{signed}"
    assert message.content_type.replace(" ", "").lower() == full.replace(" ", "").lower()
    assert media_type(message.content_type) == message.content_type
    assert len(message.content_type) <= MAX_CHARACTERS
    check_harmless(message.content_type)


def _check_members(octets: bytes) -> None:
    """Check both the outermost object, if there is one, and the protected header in it."""
    if octets.lstrip().startswith(b"{"):
        protected = json.loads(octets, object_pairs_hook=_without_doubles)["protected"]
    else:
        protected = octets.decode().split(".")[0]
    json.loads(unb64(protected), object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    assert len(members) == len(pairs), "no message with a member twice is printed"
    return members


def _digest(payload: bytes) -> bytes:
    """Return the replay digest as docs/protocol.md has it, read without any strictness."""
    if payload.lstrip().startswith(b"{"):
        members = json.loads(payload)
        protected, *parts = (members[name] for name in ("protected", "iv", "ciphertext", "tag"))
    else:
        protected, _, *parts = payload.decode().split(".")
    return hashlib.sha256(protected.encode() + b"." + b"".join(map(unb64, parts))).digest()


def _p256_key(label: str) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(hashlib.sha256(label.encode()).digest()) >> 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def _rsa_key(label: str) -> rsa.RSAPrivateKey:
    p, q = (_prime(f"{label} {number}") for number in "pq")
    exponent = 65537
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


def _prime(label: str) -> int:
    """Return a prime of 1024 bits, the next after a hash of the label."""
    octets = hashlib.shake_256(label.encode()).digest(128)
    candidate = int.from_bytes(octets) | (3 << 1022) | 1
    while any(candidate % small == 0 for small in range(3, 2000, 2)) or pow(2, candidate - 1, candidate) != 1:
        candidate += 2
    return candidate
