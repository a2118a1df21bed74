"""Changes that an attacker could make: within base64url, JSON and lengths, which random bytes rarely reach."""

import json
from random import Random
from typing import Any, Final

from fuzz.target import MutateOctets
from testbed.forge import b64, unb64

_MOST_ADDED: Final = 64
_NAMES: Final = (
    *("alg", "enc", "x5u", "typ", "epk", "crit", "zip", "b64", "apu", "apv", "jwk", "kid", "p2c", "iv", "tag"),
    *("aud", "iat", "jti", "exp", "header", "unprotected", "recipients", "signatures", "aad", "protected", "payload"),
    *("signature", "encrypted_key", "ciphertext", "kty", "crv", "x", "y", "d", "cty"),
)
_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 1e400, float("nan"), 2**53 - 1, 2**53, 10**30, "", "\0", "\ud800", "\u202e", [], {}),
    *("RS256", "ES256", "PS256", "HS256", "none", "RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A256KW", "dir"),
    *("A256CBC-HS512", "A256GCM", "JWE", "JOSE", "JOSE+JSON", "receipt+jws", "EC", "P-256", "P-384", "AQ", "A" * 43),
    *("dns://alice._device.example.test?type=TLSA", "dns://bob._device.example.test?type=TLSA", 1_800_000_000),
    *(
        "dns:mallory.example.test?type=TLSA",
        "bob._device.example.test",
        "text/csv;a=b",
        ["crit"],
        {"alg": "none"},
        [[[[]]]] * 4,
    ),
)
_MARKS: Final = (
    *('"', "\\", "\\u0000", "\\ud800", "{", "}", "[", ",", ":", " ", "\n", "\ufeff", "1e9", ".0", "NaN", "="),
    *("[" * 3000, '{"a":' * 1200, "9" * 5000),
)


def mutate_in_place(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    """Return the bytes with a few of them changed and none moved, so that the lengths in them stay correct."""
    if not octets or generator.random() < 0.3:
        return mutate_octets(octets, len(octets) + _MOST_ADDED)
    changed = bytearray(octets)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        place = generator.randrange(len(changed))
        changed[place] = generator.choice((0, 1, 0x80, 0xFF, generator.randrange(256), changed[place] ^ 1))
    return bytes(changed)


def mutate_json(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    """Return the octets with a member of the JSON object that they are added, removed, changed or doubled, or a mark.

    Anything else is changed like any bytes.
    """
    try:
        members = json.loads(octets)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict) or not members or generator.random() < 0.15:
        return mutate_octets(octets, len(octets) + _MOST_ADDED)
    name = generator.choice(list(members))
    match generator.randrange(6):
        case 0:
            members[name] = _other_value(members[name], generator, mutate_octets)
        case 1:
            members[name] = generator.choice(_VALUES)
        case 2:
            members[generator.choice(_NAMES)] = generator.choice(_VALUES)
        case 3:
            del members[name]
        case 4:
            doubled = json.dumps({name: generator.choice((members[name], *_VALUES))})
            return _written(members)[:-1] + b"," + doubled.encode()[1:]
        case _:
            text = _written(members).decode()
            place = generator.randrange(len(text) + 1)
            return (text[:place] + generator.choice(_MARKS) + text[place:]).encode()
    return _written(members)


def mutate_parts(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    """Return a JWS or JWE in either serialization with one part changed beneath its base64url, or the text itself."""
    try:
        members = (
            json.loads(octets) if octets.lstrip().startswith(b"{") else dict(enumerate(octets.decode().split(".")))
        )
        name = generator.choice([name for name in members if isinstance(members[name], str)])
        part = unb64(members[name])
    except (ValueError, RecursionError, IndexError):
        return mutate_octets(octets, len(octets) + _MOST_ADDED)
    if generator.random() < 0.3:
        return mutate_json(octets, generator, mutate_octets)
    changed = mutate_json(part, generator, mutate_octets)
    members[name] = b64(changed)
    return ".".join(map(str, members.values())).encode() if 0 in members else _written(members)


def _other_value(value: Any, generator: Random, mutate_octets: MutateOctets) -> Any:
    if isinstance(value, str):
        octets = value.encode(errors="surrogatepass")
        return mutate_octets(octets, len(octets) + _MOST_ADDED).decode(errors="replace")
    if isinstance(value, int):
        return value + generator.choice((-1, 1, 2**32, -(2**63), value))
    if isinstance(value, dict):
        return json.loads(_written({**value, generator.choice(_NAMES): generator.choice((*_VALUES, *value.values()))}))
    return generator.choice(_VALUES)


def _written(members: dict[Any, Any]) -> bytes:
    return json.dumps(members).encode()
