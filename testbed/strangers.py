"""Messages that strangers can send: they know the recipient's name and public key, own zones, and read the broker."""

import itertools
import json
import random
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from idlib.algorithms import PrivateKey, PublicKey
from testbed.forge import b64, flattened, jwe, jws
from testbed.paced_client import Publication
from testbed.raw_mqtt import user_property

# In every text that must never be printed.
FORGED: Final = "forged"
# In every text that strangers sign with their own key.
GENUINE: Final = "from a stranger"
# Allowed in a string of MQTT 5 (section 1.5.4), and rejected by some libraries.
BYTE_ORDER_MARK: Final = "\ufeff".encode()
_OVERHEARD: Final = 1000
_RSA_2048_BYTES: Final = 256
_RSA_4096_BYTES: Final = 512


class Strangers:
    """Creates payloads for one recipient.

    Args:
        recipient: Its name.
        recipient_key: Its public key, RSA.
        key: The strangers' key, published at each name of their zones.
        known_names: Names of senders that the recipient knows.
        generator: Makes the choices that do not matter.
    """

    def __init__(
        self,
        recipient: str,
        recipient_key: PublicKey,
        key: PrivateKey,
        known_names: Sequence[str],
        generator: random.Random,
    ) -> None:
        self.recipient = recipient
        self.known_names = tuple(known_names)
        self.generator = generator
        self.overheard: deque[bytes] = deque(maxlen=_OVERHEARD)
        self._recipient_key = recipient_key
        self._other_key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
        self._nobodys_key = PublicKey(rsa.RSAPublicNumbers(65537, 2**2047 + 1).public_key())
        self._key = key
        self._numbers = itertools.count(1)

    def new_label(self) -> str:
        """Return a label that no name had before."""
        return f"x{next(self._numbers)}"

    def genuine(self, sender: str, text: str | None = None, **changes: Any) -> bytes:
        """Return a message signed by the key that is published at a stranger's name.

        Args:
            sender: The name.
            text: Its text; None for a unique one.
            changes: Members of the inner header that differ from the usual; None leaves one out.
        """
        text = f"{GENUINE} {next(self._numbers)}" if text is None else text
        return self._written(sender, self._key, text, changes)

    def badly_signed(self, sender: str) -> bytes:
        """Return a message with a P-256 signature by a key that is not published at its sender's name.

        Args:
            sender: The name.
        """
        return self._written(sender, self._other_key, FORGED, {})

    def without_signature(self, sender: str, signature_bytes: int = _RSA_2048_BYTES) -> bytes:
        """Return a message with random bytes for an RSA signature.

        Args:
            sender: The name.
            signature_bytes: As many as the sender's key has.
        """
        signature = b"\0" + self.generator.randbytes(signature_bytes - 1)
        header = {"alg": "RS256", **self._header(sender)}
        parts = {"payload": b64(FORGED.encode()), "protected": b64(json.dumps(header).encode())}
        return self.sealed(json.dumps({**parts, "signature": b64(signature)}).encode())

    def heavily_signed(self, sender: str) -> bytes:
        """Return a message with random bytes for a signature by an RSA key of 4096 bits."""
        return self.without_signature(sender, _RSA_4096_BYTES)

    def unbound(self, sender: str) -> bytes:
        """Return a message that is bound to no recipient and no time, as dane-jwe-jws writes it."""
        return self.genuine(sender, aud=None, iat=None, jti=None)

    def for_nobody(self) -> bytes:
        """Return a message that names the recipient and is encrypted to a key that it does not have."""
        return flattened(jwe(self._nobodys_key, self._outer_header(), self.generator.randbytes(400), enc="A256GCM"))

    def with_odd_properties(self) -> Publication:
        """Return a packet with properties that a broker passes on; broken ones end the publisher's connection."""
        properties = (
            user_property(BYTE_ORDER_MARK, b"x"),
            user_property(b"", b"") * 300,
            # Correlation data, content type, payload format: none of them is needed.
            b"\x09" + (60_000).to_bytes(2) + bytes(60_000),
            b"\x03\x00\x03a/b",
            b"\x01\x01",
        )
        return Publication(self.generator.randbytes(20), self.generator.choice(properties))

    def sealed(self, plaintext: bytes, **changes: Any) -> bytes:
        """Return any bytes encrypted to the recipient.

        Args:
            plaintext: The bytes.
            changes: Members of the outer header that differ from the usual; None leaves one out.
        """
        header = {name: value for name, value in {**self._outer_header(), **changes}.items() if value is not None}
        return flattened(jwe(self._recipient_key, header, plaintext, enc="A256GCM"))

    def _written(self, sender: str, key: PrivateKey, text: str, changes: dict[str, Any]) -> bytes:
        header = {"alg": key.algorithms.signature, **self._header(sender), **changes}
        inner = jws(key, {name: value for name, value in header.items() if value is not None}, text.encode())
        return self.sealed(flattened(inner))

    def _header(self, sender: str) -> dict[str, Any]:
        binding = {"aud": self.recipient, "iat": int(time.time()), "jti": secrets.token_urlsafe(16)}
        return {"x5u": f"dns://{sender}?type=TLSA", **binding}

    def _outer_header(self) -> dict[str, Any]:
        uri = f"dns://{self.recipient}?type=TLSA"
        return {"alg": "RSA-OAEP-256", "enc": "A256GCM", "typ": "JWE", "x5u": uri}
