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
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from benchmarks.machine import describe
from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import Binding, decrypt, encrypt, hpke, jwe, key_management, parse, seal, sign, verify
from idlib.epochs import SEED_OCTETS, EpochPrivateKey, IdentifiedEpochKey
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
_EPOCH_KEY_ID: Final = "AAECAwQFBgcICQoLDA0ODw"
_WARM_UP: Final = 5
_WHOLE: Final = "the whole message"
_CRYPTOGRAPHY: Final = "its cryptography alone"
_JWCRYPTO: Final = "by jwcrypto"
_JUNK: Final = "junk: "
_MAX_JUNK_RATIO: Final = 0.15
# A message to an epoch key takes little more than half the time of one to an RSA key, and has a longer header.
_MAX_EPOCH_JUNK_RATIO: Final = 0.2
_EPOCH: Final = "epoch "


@dataclass(frozen=True, slots=True)
class Exchange:
    """A message from alice to bob, with the keys of both; it is encrypted to bob's epoch key if there is one.

    Args:
        text: The text of the message.
        alice: The key that signs.
        bob: The recipient's identity key.
        epoch_keys: The recipient's private half by its id; none for a message to the identity key.
    """

    text: str
    alice: PrivateKey
    bob: PrivateKey
    epoch_keys: Mapping[str, EpochPrivateKey]

    @property
    def encryption_key(self) -> PublicKey | IdentifiedEpochKey:
        """The key that the message is encrypted to."""
        for key_id, key in self.epoch_keys.items():
            return IdentifiedEpochKey(key_id, key.public)
        return self.bob.public

    def seal(self) -> bytes:
        """Return the payload."""
        return seal(
            self.text,
            sender=_ALICE,
            signing_key=self.alice,
            recipient=_BOB,
            encryption_key=self.encryption_key,
            binding=Binding.new(_BOB, _NOW),
        )

    def open(self, payload: bytes) -> str:
        """Return the line that the receiver prints for a payload."""
        message = parse(self.decrypt(payload))
        return self.line(verify(message, [self.alice.public]).decode())

    def decrypt(self, payload: bytes) -> str:
        """Return the inner layer of a payload."""
        return decrypt(payload, _BOB, [self.bob], self.epoch_keys).signed

    def line(self, text: str) -> str:
        """Return the line that the receiver prints for a text."""
        return json_line(
            _ALICE, text, identifier="c4VbVvM4kzYgZ8n1m4uV1A", sent_at=_NOW, received_at=_NOW + 0.25, sealed="identity"
        )

    def open_by_jwcrypto(self, payload: str, bob: JWK, alice: JWK) -> object:
        """Return the text of a payload to an identity key, opened by the reference library."""
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
    exchanges = {
        **{
            f"{key_type.value} {title}": new_exchange(key_type, size)
            for key_type in _KEY_TYPES
            for title, size in _SIZES.items()
        },
        # Signed with RSA-2048, to be compared with the columns of that key type.
        **{_EPOCH + title: epoch_exchange(size) for title, size in _SIZES.items()},
    }
    columns = {title: medians(_actions(exchange), rounds) for title, exchange in exchanges.items()}
    print(describe(), "", sep="\n")
    parts = list(dict.fromkeys(part for column in columns.values() for part in column))
    rows = [(part, *(_shown(part, column) for column in columns.values())) for part in parts]
    for title in (_CRYPTOGRAPHY, _JWCRYPTO):
        ratios = (column[_WHOLE] / column[title] if title in column else None for column in columns.values())
        rows.append((f"{_WHOLE} / {title}", *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)))
    print_table(("microseconds; junk: over the whole message", *columns), rows)
    return 0 if all(_is_junk_cheap(title, column) for title, column in columns.items()) else 1


def _is_junk_cheap(title: str, column: Mapping[str, float]) -> bool:
    limit = _MAX_EPOCH_JUNK_RATIO if title.startswith(_EPOCH) else _MAX_JUNK_RATIO
    return max(column[part] for part in column if part.startswith(_JUNK)) < limit * column[_WHOLE]


def new_exchange(key_type: KeyType, size: int) -> Exchange:
    """Return a message to an identity key.

    Args:
        key_type: Of the keys of both.
        size: The length of the text, in bytes.
    """
    text = ("The pump in the cellar ran for 21.5 minutes. " * (size // 45 + 1))[:size]
    return Exchange(text, generate_private_key(key_type), generate_private_key(key_type), {})


def epoch_exchange(size: int) -> Exchange:
    """Return a message to an epoch key, signed with RSA-2048.

    Args:
        size: The length of the text, in bytes.
    """
    key = EpochPrivateKey(os.urandom(SEED_OCTETS))
    return replace(new_exchange(KeyType.RSA2048, size), epoch_keys={_EPOCH_KEY_ID: key})


def _actions(exchange: Exchange) -> dict[str, Action]:
    payload = exchange.seal()
    message = jwe._read(payload, _BOB)
    prescribed, ciphertext = message.content_encryption, jwe._read_ciphertext(message)
    unwrap = jwe._unwrapping(message, [exchange.bob], exchange.epoch_keys)[0]
    content_key = unwrap()
    content = (content_key, message.iv, ciphertext, message.tag, message.protected)
    signed = exchange.decrypt(payload)
    unverified = parse(signed)
    jwks = (JWK.from_pyca(exchange.bob.native), JWK.from_pyca(exchange.alice.public.native))
    text = payload.decode()
    # jwcrypto does not support HPKE.
    reference = {} if exchange.epoch_keys else {_JWCRYPTO: lambda: exchange.open_by_jwcrypto(text, *jwks)}
    return {
        "seal": exchange.seal,
        "read the outer layer": lambda: jwe._read_ciphertext(jwe._read(payload, _BOB)),
        "unwrap the content key": unwrap,
        "decrypt the content": lambda: prescribed.decrypt(*content),
        "digest": lambda: jwe._digest(message, ciphertext),
        "all of the outer layer": lambda: exchange.decrypt(payload),
        "parse the inner layer": lambda: parse(signed),
        "verify the signature": lambda: verify(unverified, [exchange.alice.public]),
        "write the line": lambda: exchange.line(exchange.text),
        _WHOLE: lambda: exchange.open(payload),
        _CRYPTOGRAPHY: _cryptography(exchange, message, content_key, ciphertext, signed),
        **reference,
        **{_JUNK + title: _refusal(junk, exchange) for title, junk in _junk(exchange, payload).items()},
    }


def _cryptography(
    exchange: Exchange, message: jwe._EncryptedMessage, content_key: bytes, ciphertext: bytes, signed: str
) -> Action:
    """Return what no program can do without: the operations of both keys, HMAC, AES and the hash that is signed."""
    unverified = parse(signed)
    signature, signing_input = unverified.signature, unverified.signing_input
    sha256 = hashes.SHA256()
    oaep, pkcs1 = padding.OAEP(padding.MGF1(sha256), sha256, None), padding.PKCS1v15()
    bob, alice = exchange.bob.native, exchange.alice.public.native

    suite = Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM)

    def unwrap() -> object:
        if message.share is not None:
            sealed = message.share.encapsulated + message.encrypted_key
            epoch_key = exchange.epoch_keys[message.share.key_id]
            return suite.decrypt(sealed, epoch_key.native, info=hpke._info(message.content_encryption))
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


def _junk(exchange: Exchange, payload: bytes) -> dict[str, bytes]:
    """Return messages of the same size that are refused before a private key is used."""
    parts = json.loads(payload)
    signed = sign(exchange.text, sender=_ALICE, signing_key=exchange.alice, binding=Binding.new(_BOB, _NOW))
    other_key: PublicKey | IdentifiedEpochKey = generate_private_key(KeyType.RSA3072).public
    for key in exchange.epoch_keys.values():
        other_key = IdentifiedEpochKey("A" * len(_EPOCH_KEY_ID), key.public)
    return {
        "random bytes": os.urandom(len(payload)),
        "no JSON": payload[:-1],
        "not encrypted": signed.encode(),
        "to another device": encrypt(signed, recipient=_ALICE, encryption_key=exchange.encryption_key),
        "to another key": encrypt(signed, recipient=_BOB, encryption_key=other_key),
        "a short tag": json.dumps(parts | {"tag": "AAAA"}).encode(),
    }


def _refusal(payload: bytes, exchange: Exchange) -> Action:
    def refuse() -> None:
        with suppress(Refusal):
            exchange.decrypt(payload)
            raise AssertionError("junk was decrypted")

    return refuse


def medians(actions: Mapping[str, Action], rounds: int) -> dict[str, float]:
    """Return the median time of each action, in microseconds.

    Args:
        actions: The actions, which run in turn.
        rounds: How often each runs.
    """
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
    if part not in column:
        return ""
    return f"{column[part] / column[_WHOLE]:.2f}" if part.startswith(_JUNK) else f"{column[part]:.0f}"


if __name__ == "__main__":
    sys.exit(main())
