"""An attacker at the broker, and the running receiver that is attacked."""

import itertools
import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from idlib.algorithms import PrivateKey
from idlib.epochs.halves import Halves, KeptHalf
from idlib.keys import read_private_key
from idlib.names import IdentityName
from idlib.records import TlsaRecord
from idlib.storage.replay import ReplayMemory
from idlib.system import clock
from testbed.forge import ABSENT, EPOCH, Forge, Parts, compact, flattened
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import Device, Program

KINDS: Final = ("RSA", "P-256")
_ACTIVE: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")
_REFUSAL: Final = re.compile(r" refused reason=([a-z-]+) ")
UNBOUND: Final[dict[str, Any]] = {"aud": ABSENT, "iat": ABSENT, "jti": ABSENT}


@dataclass(frozen=True)
class LiveForge(Forge):
    """The forge at the present time, as a receiver's clock shows it."""

    def inner(self, kind: str = "RSA", payload: bytes = b"hello", **changes: Any) -> Parts:
        now = {} if "exp" in changes else {"iat": int(time.time())}
        return super().inner(kind, payload, **{**now, **changes})

    def message(
        self,
        text: str | bytes = b"hello",
        sender: str = "RSA",
        reader: str = "RSA",
        enc: str = "A256GCM",
        **changes: Any,
    ) -> Parts:
        """Return a message that is correct except for the changes of its inner header.

        Args:
            text: Its text.
            sender: The type of the key that signs it.
            reader: The type of the key that it is encrypted to.
            enc: How its content is encrypted.
            changes: Members of the JWS protected header that differ from the usual.
        """
        payload = text.encode() if isinstance(text, str) else text
        changes = {"iat": int(time.time()), "jti": secrets.token_urlsafe(16), **changes}
        return self.outer(reader, flattened(self.inner(sender, payload, **changes)), enc=enc)


def key_kind(device: Device) -> str:
    """Return the type of a device's key, as the forge calls it."""
    return "RSA" if isinstance(read_private_key(device.key_path).native, rsa.RSAPrivateKey) else "P-256"


def new_key(kind: str) -> PrivateKey:
    """Return a new key."""
    return PrivateKey(
        rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
    )


def publish_key(lab: Lab, device: Device, key: PrivateKey) -> None:
    """Publish one more key of a device, as `3 1 0`."""
    octets = key.public.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    lab.knot.add_tlsa(device.name, str(TlsaRecord(3, 1, 0, octets)))


def forge_between(lab: Lab, sender: Device, reader: Device) -> LiveForge:
    """Return a forge whose sender has a published key of each type; the recipient only has its own."""
    own = key_kind(sender)
    sender_keys = {kind: read_private_key(sender.key_path) if kind == own else new_key(kind) for kind in KINDS}
    publish_key(lab, sender, next(key for kind, key in sender_keys.items() if kind != own))
    reader_keys = {
        kind: read_private_key(reader.key_path) if kind == key_kind(reader) else new_key(kind) for kind in KINDS
    }
    return LiveForge(IdentityName(sender.name), IdentityName(reader.name), sender_keys, reader_keys)


def living_half(device: Device) -> KeptHalf:
    """Return the private half of a device's only epoch key, once its receiver has created it."""
    halves = Halves(Path(device.settings["DATA_PATH"]) / "epochs", IdentityName(device.name))
    wait_until(lambda: bool(halves.stock().halves), "epoch key")
    (half,) = halves.stock().halves
    return half


class Attack:
    """One receiver that survives everything that is published to it.

    Args:
        receiver: Its program.
        reader: Its device.
        forge: Creates messages to it.
        client: Publishes to it.
    """

    def __init__(self, receiver: Program, reader: Device, forge: LiveForge, client: BrokerClient) -> None:
        self.receiver = receiver
        self.reader = reader
        self.forge = forge
        self.client = client
        self.kind = key_kind(reader)
        self.bound_kind = EPOCH if reader.settings.get("EPOCH_KEYS") == "on" else self.kind
        self.good_messages = self._good_messages()
        self.refused = 0

    def expect_refusal(self, payload: bytes, reason: str) -> str:
        """Publish a hostile payload and a good message, and return the log line of the refusal.

        Args:
            payload: What the receiver must refuse.
            reason: The expected reason code.
        """
        printed, logged = len(self.receiver.stdout), len(self.receiver.stderr)
        self.client.publish(self.reader, payload)
        self.expect_good()
        self.receiver.wait_for("refusal", lambda: bool(self._refusals(logged)))
        refusals = self._refusals(logged)
        assert [_reason_in(line) for line in refusals] == [reason], refusals
        assert len(self.receiver.stdout) == printed + 1, self.receiver.stdout[printed:]
        lines = self.receiver.stdout[printed:] + self.receiver.stderr[logged:]
        assert not [line for line in lines if _ACTIVE.search(line) or "Traceback" in line], lines
        assert self.receiver.is_running
        self.refused += 1
        return refusals[0]

    def expect_good(self) -> None:
        """Publish a good message, which must be printed."""
        text, payload = next(self.good_messages)
        self.client.publish(self.reader, payload)
        expected = f'"{self.forge.alice} says: {text}"'
        self.receiver.wait_for(f"good message {text!r}", lambda: self.receiver.stdout[-1:] == [expected])

    def expect_text(self, payload: bytes, text: str) -> None:
        """Publish a message, which must be printed with its sender's name and this text."""
        printed = len(self.receiver.stdout)
        self.client.publish(self.reader, payload)
        self.receiver.wait_for(f"message {text!r}", lambda: len(self.receiver.stdout) > printed)
        assert json.loads(self.receiver.stdout[printed]) == f"{self.forge.alice} says: {text}"

    def _refusals(self, after: int) -> list[str]:
        return [line for line in self.receiver.stderr[after:] if _reason_in(line)]

    def _good_messages(self) -> Iterator[tuple[str, bytes]]:
        """Yield messages in every form that a receiver accepts, in turn."""
        bindings: tuple[dict[str, Any], ...] = ({}, UNBOUND)
        forms = itertools.product(KINDS, bindings, ("A256CBC-HS512", "A256GCM"), (flattened, compact))
        for number, (sender, binding, enc, serialize) in enumerate(itertools.cycle(forms)):
            text = f"good message {number}"
            # A message to an epoch key is always bound.
            reader = self.kind if binding or number % 2 else self.bound_kind
            yield text, serialize(self.forge.message(text, sender, reader, enc, **binding))


@contextmanager
def attack_on(lab: Lab, **settings: str) -> Iterator[Attack]:
    """Yield an attack on a new device, whose receiver must survive it and count correctly.

    Args:
        lab: The lab of the device.
        settings: Environment variables of its programs that differ from the usual.
    """
    # With debug every line is logged, however many messages are refused for one reason.
    settings = {"LOG_LEVEL": "debug", **settings}
    sender, reader = lab.published_device("alice"), lab.published_device("bob", settings=settings)
    reader = reader.with_settings(EPOCH_SPOOL=str(Path(reader.settings["DATA_PATH"]).with_name("spool")))
    client = BrokerClient(lab.mosquitto)
    # The clock counts as set. If the kernel does not report this, messages from the future would wait for a day.
    with ReplayMemory(Path(reader.settings["DATA_PATH"])) as memory:
        memory.trust_clock_since(clock.boot())
    with reader.receiver() as receiver:
        forge = forge_between(lab, sender, reader)
        if reader.settings.get("EPOCH_KEYS") == "on":
            half = living_half(reader)
            forge = replace(forge, epoch_key=half.key.public, epoch_key_id=half.half.key_id)
        attack = Attack(receiver, reader, forge, client)
        yield attack
        assert receiver.stop() == 0
        assert f"printed={len(receiver.stdout)} refused={attack.refused}" in receiver.stderr[-1], receiver.stderr[-1]
    client.close()


def _reason_in(line: str) -> str:
    found = _REFUSAL.search(line)
    return found[1] if found else ""
