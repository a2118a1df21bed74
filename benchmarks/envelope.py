"""The time that opening one message takes on one processor, part by part, beside its cryptography alone and jwcrypto.

Usage: python -m benchmarks.envelope [--rounds 400]

In each round, every part runs once, so that other programs on the machine disturb all parts alike and the caches are as
cold as between the messages of different senders. The figures are medians of microseconds.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from benchmarks.machine import describe
from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, decrypt, encrypt, jwe, key_management, parse, seal, sign, verify
from idlib.errors import Refusal
from idlib.keys import generate_private_key
from idlib.names import IdentityName
from idlib.output import json_line
from idlib.settings import KeyType
from testbed.table import print_table

Action = Callable[[], object]

_ALICE: Final = IdentityName("alice._device.example.com")
_BOB: Final = IdentityName("bob._device.example.com")
_NOW: Final = 1_800_000_000
_SIZES: Final = {"100 B": 100, "10 kB": 10_000, "60 kB": 60_000}
_KEY_TYPES: Final = (KeyType.RSA2048, KeyType.P256)
_WARM_UP: Final = 5
_WHOLE: Final = "the whole message"
_CRYPTOGRAPHY: Final = "its cryptography alone"
_JWCRYPTO: Final = "by jwcrypto"
_JUNK: Final = "junk: "
_MAX_JUNK_RATIO: Final = 0.15


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A message from alice to bob, with the keys of both."""

    text: str
    alice: PrivateKey
    bob: PrivateKey

    def seal(self) -> bytes:
        return seal(
            self.text,
            sender=_ALICE,
            signing_key=self.alice,
            recipient=_BOB,
            encryption_key=self.bob.public,
            binding=Binding.new(_BOB, _NOW),
        )

    def open(self, payload: bytes) -> str:
        message = parse(decrypt(payload, _BOB, [self.bob]).signed)
        return self.line(verify(message, [self.alice.public]))

    def line(self, text: str) -> str:
        return json_line(_ALICE, text, identifier="c4VbVvM4kzYgZ8n1m4uV1A", sent_at=_NOW, received_at=_NOW + 0.25)

    def open_by_jwcrypto(self, payload: str, bob: JWK, alice: JWK) -> object:
        outer = JWE(algs=[self.bob.algorithms.key_management, "A256CBC-HS512"])
        outer.deserialize(payload, bob)
        inner = JWS()
        inner.allowed_algs = [self.alice.algorithms.signature]
        inner.deserialize(outer.payload.decode(), alice)
        return inner.payload


def main() -> int:
    """Run the benchmark and return the exit status: 1 if refusing junk takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="how often to run each part")
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    columns = {
        f"{key_type.value} {title}": _medians(_actions(_exchange(key_type, size)), rounds)
        for key_type in _KEY_TYPES
        for title, size in _SIZES.items()
    }
    print(describe(), "", sep="\n")
    parts = list(dict.fromkeys(part for column in columns.values() for part in column))
    rows = [(part, *(_shown(part, column) for column in columns.values())) for part in parts]
    for title in (_CRYPTOGRAPHY, _JWCRYPTO):
        ratios = (column[_WHOLE] / column[title] for column in columns.values())
        rows.append((f"{_WHOLE} / {title}", *(f"{ratio:.2f}" for ratio in ratios)))
    print_table(("microseconds; junk: over the whole message", *columns), rows)
    junk = [column[part] / column[_WHOLE] for column in columns.values() for part in column if part.startswith(_JUNK)]
    return 0 if max(junk) < _MAX_JUNK_RATIO else 1


def _exchange(key_type: KeyType, size: int) -> _Exchange:
    text = ("The pump in the cellar ran for 21.5 minutes. " * (size // 45 + 1))[:size]
    return _Exchange(text, generate_private_key(key_type), generate_private_key(key_type))


def _actions(exchange: _Exchange) -> dict[str, Action]:
    payload = exchange.seal()
    message = jwe._read(payload, _BOB)
    prescribed, ciphertext = message.content_encryption, jwe._read_ciphertext(message)
    wrapped = (exchange.bob, message.encrypted_key, message.ephemeral, prescribed.key_octets)
    content_key = key_management.unwrap(*wrapped)
    content = (content_key, message.iv, ciphertext, message.tag, message.protected)
    signed = decrypt(payload, _BOB, [exchange.bob]).signed
    unverified = parse(signed)
    jwks = (JWK.from_pyca(exchange.bob.native), JWK.from_pyca(exchange.alice.public.native))
    text = payload.decode()
    return {
        "seal": exchange.seal,
        "read the outer layer": lambda: jwe._read_ciphertext(jwe._read(payload, _BOB)),
        "unwrap the content key": lambda: key_management.unwrap(*wrapped),
        "decrypt the content": lambda: prescribed.decrypt(*content),
        "digest": lambda: jwe._digest(message, ciphertext),
        "parse the inner layer": lambda: parse(signed),
        "verify the signature": lambda: verify(unverified, [exchange.alice.public]),
        "write the line": lambda: exchange.line(exchange.text),
        _WHOLE: lambda: exchange.open(payload),
        _CRYPTOGRAPHY: _cryptography(exchange, message, content_key, ciphertext, signed),
        _JWCRYPTO: lambda: exchange.open_by_jwcrypto(text, *jwks),
        **{_JUNK + title: _refusal(junk, exchange.bob) for title, junk in _junk(exchange, payload).items()},
    }


def _cryptography(
    exchange: _Exchange, message: jwe._EncryptedMessage, content_key: bytes, ciphertext: bytes, signed: str
) -> Action:
    """Return what no program can do without: the operations of both keys, HMAC, AES and the hash that is signed."""
    unverified = parse(signed)
    signature, signing_input = unverified.signature, unverified.signing_input
    sha256 = hashes.SHA256()
    oaep, pkcs1 = padding.OAEP(padding.MGF1(sha256), sha256, None), padding.PKCS1v15()
    bob, alice = exchange.bob.native, exchange.alice.public.native

    def unwrap() -> object:
        if isinstance(bob, rsa.RSAPrivateKey):
            return bob.decrypt(message.encrypted_key, oaep)
        if message.ephemeral is None:
            raise AssertionError("no ephemeral key")
        shared = bob.exchange(ec.ECDH(), message.ephemeral)
        derived = ConcatKDFHash(sha256, 32, key_management._OTHER_INFO).derive(shared)
        return keywrap.aes_key_unwrap(derived, message.encrypted_key)

    def check() -> None:
        if isinstance(alice, rsa.RSAPublicKey):
            return alice.verify(signature, signing_input, pkcs1, sha256)
        der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        return alice.verify(der, signing_input, ec.ECDSA(sha256))

    def run() -> None:
        unwrap()
        mac = HMAC(content_key[:32], hashes.SHA512())
        mac.update(ciphertext)
        mac.finalize()
        decryptor = Cipher(algorithms.AES(content_key[32:]), modes.CBC(message.iv)).decryptor()
        decryptor.update(ciphertext)
        decryptor.finalize()
        check()

    return run


def _junk(exchange: _Exchange, payload: bytes) -> dict[str, bytes]:
    """Return messages of the same size that are refused before a private key is used."""
    parts = json.loads(payload)
    signed = sign(exchange.text, sender=_ALICE, signing_key=exchange.alice, binding=Binding.new(_BOB, _NOW))
    other_key = generate_private_key(KeyType.RSA3072).public
    return {
        "random bytes": os.urandom(len(payload)),
        "no JSON": payload[:-1],
        "not encrypted": signed.encode(),
        "to another device": encrypt(signed, recipient=_ALICE, encryption_key=exchange.bob.public),
        "to another key": encrypt(signed, recipient=_BOB, encryption_key=other_key),
        "a short tag": json.dumps(parts | {"tag": "AAAA"}).encode(),
    }


def _refusal(payload: bytes, key: PrivateKey) -> Action:
    def refuse() -> None:
        with suppress(Refusal):
            decrypt(payload, _BOB, [key])
            raise AssertionError("junk was decrypted")

    return refuse


def _medians(actions: Mapping[str, Action], rounds: int) -> dict[str, float]:
    samples: dict[str, list[int]] = {title: [] for title in actions}
    for number in range(_WARM_UP + rounds):
        for title, action in actions.items():
            begun = time.perf_counter_ns()
            action()
            elapsed = time.perf_counter_ns() - begun
            if number >= _WARM_UP:
                samples[title].append(elapsed)
    return {title: statistics.median(elapsed) / 1e3 for title, elapsed in samples.items()}


def _shown(part: str, column: Mapping[str, float]) -> str:
    return f"{column[part] / column[_WHOLE]:.2f}" if part.startswith(_JUNK) else f"{column[part]:.0f}"


if __name__ == "__main__":
    sys.exit(main())
