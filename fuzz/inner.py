"""Target: the inner layer, encrypted correctly, as anyone who has the recipient's public key can.

An input is one octet that says what the rest is: a plaintext; a JWS protected header, signed with a fixed text; or a
content's octets, signed with a right header. Who signs is said too: the sender that the header should name, or another.
A right header has a content type or none.
"""

import json
from random import Random
from typing import Final

from fuzz.mutation import mutate_json, mutate_parts
from fuzz.target import MutateOctets, Target
from fuzz.world import ALICE, BOB, KINDS, MALLORY, Signed, ephemeral_key, forge, keys, receive, signed_by
from testbed.forge import compact, flattened, jwe, jws

_PLAINTEXT: Final = 0
_HEADER: Final = 1
_CONTENT: Final = 2
_IS: Final = 3
_BY_P256: Final = 4
_BY_MALLORY: Final = 8
_COMPACT: Final = 16
_WITH_TYPE: Final = 32

_MEDIA_TYPE: Final = 'image/png; name="a; b"'
_INNER: Final = {kind: forge().inner(kind) for kind in KINDS}
_SIGNED: Final = frozenset(signed_by(ALICE, parts) for parts in _INNER.values())
_EPHEMERAL: Final = ephemeral_key()


def _seeds() -> list[bytes]:
    seeds = [bytes([_PLAINTEXT]) + write(parts) for parts in _INNER.values() for write in (flattened, compact)]
    for number, kind in enumerate(KINDS):
        for flags in (0, _BY_MALLORY, _COMPACT):
            form = number * _BY_P256 | flags
            for changes in ({}, {"exp": 1_900_000_000, "typ": "JOSE"}, {"x5u": MALLORY.uri}, {"cty": _MEDIA_TYPE}):
                header = json.dumps(forge().inner_header(kind, **changes)).encode()
                seeds.append(bytes([form | _HEADER]) + header)
            seeds.append(bytes([form | _CONTENT]) + "grüße 😀".encode())
            seeds.append(bytes([form | _CONTENT | _WITH_TYPE]) + b"\x89PNG\0\xff")
    return seeds


def _check(octets: bytes) -> str:
    form, rest = octets[0] if octets else 0, octets[1:]
    plaintext, signed = _signed(form, rest)
    # The outer layer that is fastest to open; the outer layer has a separate target.
    header = forge().outer_header("P-256", enc="A256GCM")
    parts = jwe(keys(BOB)["P-256"].public, header, plaintext, enc="A256GCM", ephemeral=_EPHEMERAL)
    return receive(flattened(parts), signed)


def _signed(form: int, rest: bytes) -> tuple[bytes, frozenset[Signed]]:
    if form & _IS not in (_HEADER, _CONTENT):
        return rest, _SIGNED
    kind = KINDS[bool(form & _BY_P256)]
    signer = MALLORY if form & _BY_MALLORY else ALICE
    given = {"cty": _MEDIA_TYPE} if form & _WITH_TYPE else {}
    header = rest if form & _IS == _HEADER else json.dumps(forge().inner_header(kind, **given)).encode()
    parts = jws(keys(signer)[kind], header, b"hello" if form & _IS == _HEADER else rest)
    return (compact if form & _COMPACT else flattened)(parts), _SIGNED | {signed_by(signer, parts)}


def _mutate(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    form, rest = octets[:1] or b"\0", octets[1:]
    if generator.random() < 0.05:
        form = bytes([generator.randrange(64)])
    match form[0] & _IS:
        case 1:
            rest = mutate_json(rest, generator, mutate_octets)
        case 2:
            rest = mutate_octets(rest, len(rest) + 64) if generator.random() < 0.95 else b""
        case _:
            rest = mutate_parts(rest, generator, mutate_octets)
    return form + rest


TARGET: Final = Target(_seeds, _check, _mutate)
