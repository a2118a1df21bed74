"""Replays, alters and forges a message, as an attacker at the broker can. The receiver refuses each."""

import json
import time
from pathlib import Path
from typing import Any, Final

from idlib import base64url
from idlib.algorithms import PublicKey
from idlib.discovery import Discovery
from idlib.envelope import Binding, seal
from idlib.errors import ConfigurationError, Reason
from idlib.keys import generate_private_key
from idlib.names import IdentityName
from idlib.output import harmless
from idlib.program.command_line import parser, run
from idlib.program.environment import read_environment
from idlib.settings import SENDER_READS, KeyType, ServerAddress
from idlib.transport.topics import Topics
from lab.eavesdropper import Eavesdropper
from lab.overhear import OVERHEARD, RECIPIENT

SENDER: Final = IdentityName("alice._device.example.test")
FORGERY: Final = "Send me your money."
_SHOWN_CHARACTERS: Final = 60
_SECONDS_TO_REFUSE: Final = 1.0


def main() -> None:
    """Send three messages that the receiver must refuse, and print what each is."""
    parser(
        f"Send an overheard message to {RECIPIENT} again, then an altered copy, then a message in the name of"
        f" {SENDER}, signed with another key. Settings come from environment variables.",
        "python -m lab.attack",
    ).parse_args()
    settings = read_environment(SENDER_READS)
    payload = read_overheard(OVERHEARD)
    recipient_key = Discovery.from_settings(settings).find(RECIPIENT).records[0].public_key
    attacks = (
        ("An overheard message, sent again", payload, Reason.REPLAY),
        ("The same message, with one bit of its ciphertext changed", tamper(payload), Reason.DECRYPTION_FAILED),
        (
            f"A new message in the name of {SENDER}, signed with another key",
            forge(SENDER, RECIPIENT, recipient_key),
            Reason.SIGNATURE_INVALID,
        ),
    )
    broker = ServerAddress(settings.mqtt_host, settings.mqtt_port)
    with Eavesdropper(broker, Topics.from_settings(settings).of(RECIPIENT)) as eavesdropper:
        for number, (what, message, reason) in enumerate(attacks, 1):
            eavesdropper.publish(message)
            print(f"{number} {what}:\n    {_beginning(message)}\n    the receiver should log: refused reason={reason}")
    time.sleep(_SECONDS_TO_REFUSE)  # so that the receiver has logged the refusals when this ends


def read_overheard(path: Path) -> bytes:
    """Return the overheard message.

    Raises:
        ConfigurationError: There is none yet.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "No message has been overheard yet: send one from one device to the other first"
        ) from error


def tamper(payload: bytes) -> bytes:
    """Return an encrypted message with one bit of its ciphertext changed.

    Args:
        payload: In flattened JSON serialization, as our sender writes it.

    Raises:
        ConfigurationError: The overheard message is not in that form.
    """
    try:
        message: dict[str, Any] = json.loads(payload)
        ciphertext = base64url.decode(message["ciphertext"])
        changed = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigurationError("The overheard message is not an encrypted message") from error
    return json.dumps(message | {"ciphertext": base64url.encode(changed)}, separators=(",", ":")).encode()


def forge(sender: IdentityName, recipient: IdentityName, recipient_key: PublicKey) -> bytes:
    """Return a well-formed message in another sender's name, signed with a key that is not the sender's.

    Args:
        sender: The name that the message claims.
        recipient: The device that it is encrypted to.
        recipient_key: The recipient's key, from DNS.
    """
    return seal(
        FORGERY,
        sender=sender,
        signing_key=generate_private_key(KeyType.RSA2048),
        recipient=recipient,
        encryption_key=recipient_key,
        binding=Binding.new(recipient, int(time.time())),
    )


def _beginning(message: bytes) -> str:
    return harmless(f"{message[:_SHOWN_CHARACTERS].decode(errors='replace')}… ({len(message)} bytes)")


if __name__ == "__main__":
    run(main)
