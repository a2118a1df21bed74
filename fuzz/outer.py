"""Target: the outer layer, as anyone can write it.

An input is one octet that says what the rest is: a payload as the broker delivers it, or a JWE protected header, around
which a correct message is encrypted.
"""

import json
from random import Random
from typing import Final

from fuzz.mutation import mutate_json, mutate_parts
from fuzz.target import MutateOctets, Target
from fuzz.world import ALICE, BOB, KINDS, ephemeral_key, forge, keys, receive, signed_by
from testbed.forge import Parts, compact, flattened, jwe, public_jwk

_IS_HEADER: Final = 1
_TO_P256: Final = 2
_A256GCM: Final = 4
_COMPACT: Final = 8

_INNER: Final = {kind: forge().inner(kind) for kind in KINDS}
_SIGNED: Final = {signed_by(ALICE, parts) for parts in _INNER.values()}
_EPHEMERAL: Final = ephemeral_key()


def _seeds() -> list[bytes]:
    seeds = []
    for sender in KINDS:
        for reader in KINDS:
            for enc in ("A256CBC-HS512", "A256GCM"):
                parts = forge().outer(reader, flattened(_INNER[sender]), enc=enc)
                seeds += [b"\0" + flattened(parts), b"\0" + compact(parts)]
    for form in range(0, 16, 2):
        kind, enc = _kind_and_enc(form)
        header = forge().outer_header(kind, enc=enc)
        if kind == "P-256":
            header["epk"] = public_jwk(_EPHEMERAL.public_key())
        seeds.append(bytes([form | _IS_HEADER]) + json.dumps(header).encode())
    return seeds


def _check(octets: bytes) -> str:
    form, rest = octets[0] if octets else 0, octets[1:]
    if not form & _IS_HEADER:
        return receive(rest, _SIGNED)
    parts = _sealed(form, rest)
    return receive(compact(parts) if form & _COMPACT else flattened(parts), _SIGNED)


def _sealed(form: int, header: bytes) -> Parts:
    kind, enc = _kind_and_enc(form)
    key = keys(BOB)[kind].public
    return jwe(key, header, flattened(_INNER["P-256"]), enc=enc, ephemeral=_EPHEMERAL)


def _kind_and_enc(form: int) -> tuple[str, str]:
    return KINDS[bool(form & _TO_P256)], "A256GCM" if form & _A256GCM else "A256CBC-HS512"


def _mutate(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    form, rest = octets[:1] or b"\0", octets[1:]
    if generator.random() < 0.05:
        form = bytes([generator.randrange(16)])
    return form + (mutate_json if form[0] & _IS_HEADER else mutate_parts)(rest, generator, mutate_octets)


TARGET: Final = Target(_seeds, _check, _mutate)
