"""Target: the outer layer, as anyone can write it.

An input is one octet that says what the rest is: a payload as the broker delivers it, or a JWE protected header, around
which a correct message is encrypted. In a header for an epoch key, `EK` is replaced by the encapsulated secret, which
differs each time.
"""

import json
import os
from random import Random
from typing import Final

from fuzz.mutation import mutate_json, mutate_parts
from fuzz.target import MutateOctets, Target
from fuzz.world import ALICE, BOB, KINDS, ephemeral_key, forge, keys, receive, signed_by
from testbed.forge import EPOCH, EPOCH_KEY, Parts, b64, compact, encapsulate, flattened, jwe, public_jwk

_IS_HEADER: Final = 1
_TO_P256: Final = 2
_A256GCM: Final = 4
_COMPACT: Final = 8
_TO_EPOCH: Final = 16
_FORMS: Final = 32

_INNER: Final = {kind: forge().inner(kind) for kind in KINDS}
_SIGNED: Final = {signed_by(ALICE, parts) for parts in _INNER.values()}
_EPHEMERAL: Final = ephemeral_key()
_EK: Final = b"EK"


def _seeds() -> list[bytes]:
    seeds = []
    for sender in KINDS:
        for reader in (*KINDS, EPOCH):
            for enc in ("A256CBC-HS512", "A256GCM"):
                parts = forge().outer(reader, flattened(_INNER[sender]), enc=enc)
                seeds += [b"\0" + flattened(parts), b"\0" + compact(parts)]
    for form in range(0, _FORMS, 2):
        kind, enc = _kind_and_enc(form)
        header = forge().outer_header(kind, enc=enc)
        if kind == "P-256":
            header["epk"] = public_jwk(_EPHEMERAL.public_key())
        if kind == EPOCH:
            header["ek"] = _EK.decode()
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
    if kind == EPOCH:
        return _sealed_to_epoch(header, enc)
    key = keys(BOB)[kind].public
    return jwe(key, header, flattened(_INNER["P-256"]), enc=enc, ephemeral=_EPHEMERAL)


def _sealed_to_epoch(header: bytes, enc: str) -> Parts:
    content_key = os.urandom(32 if enc == "A256GCM" else 64)
    encapsulated, encrypted_key = encapsulate(EPOCH_KEY.public, content_key, enc)
    header = header.replace(_EK, b64(encapsulated).encode())
    parts = jwe(EPOCH_KEY.public, header, flattened(_INNER["P-256"]), enc=enc, content_key=content_key)
    return {**parts, "encrypted_key": b64(encrypted_key)}


def _kind_and_enc(form: int) -> tuple[str, str]:
    kind = EPOCH if form & _TO_EPOCH else KINDS[bool(form & _TO_P256)]
    return kind, "A256GCM" if form & _A256GCM else "A256CBC-HS512"


def _mutate(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    form, rest = octets[:1] or b"\0", octets[1:]
    if generator.random() < 0.05:
        form = bytes([generator.randrange(_FORMS)])
    return form + (mutate_json if form[0] & _IS_HEADER else mutate_parts)(rest, generator, mutate_octets)


TARGET: Final = Target(_seeds, _check, _mutate)
