"""The envelope: a text signed by its sender, then encrypted to its recipient; bytes in, values out.

docs/protocol.md has the strict profile of JWS (RFC 7515) and JWE (RFC 7516). Nothing here knows DNS, files, MQTT or the
clock.
"""

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope.binding import Binding, new_identifier
from idlib.envelope.jwe import Decrypted, decrypt, encrypt
from idlib.envelope.jws import (
    UnverifiedMessage,
    UnverifiedReceipt,
    parse,
    parse_receipt,
    sign,
    sign_receipt,
    signing_key_of,
    verify,
    verify_receipt,
)
from idlib.names import IdentityName

__all__ = [
    "Binding",
    "Decrypted",
    "UnverifiedMessage",
    "UnverifiedReceipt",
    "decrypt",
    "encrypt",
    "new_identifier",
    "parse",
    "parse_receipt",
    "seal",
    "seal_receipt",
    "sign",
    "sign_receipt",
    "signing_key_of",
    "verify",
    "verify_receipt",
]


def seal(
    text: str,
    *,
    sender: IdentityName,
    signing_key: PrivateKey,
    recipient: IdentityName,
    encryption_key: PublicKey,
    binding: Binding,
    ask_for_receipt: bool = False,
) -> bytes:
    """Return the text signed and encrypted, ready to be published.

    Args:
        text: At least one character; how large the result may be is the caller's to check.
        sender: Under whose name the signing key's public half stands in DNS.
        signing_key: The sender's.
        recipient: Who shall read it.
        encryption_key: The recipient's, from DNS.
        binding: To whom and when.
        ask_for_receipt: Whether the recipient is to confirm that it has printed the message.

    Raises:
        MessageError: The text is empty, or has half a surrogate pair.
        UnsuitableKeyError: The recipient's key cannot be calculated with.
    """
    signed = sign(text, sender=sender, signing_key=signing_key, binding=binding, ask_for_receipt=ask_for_receipt)
    return encrypt(signed, recipient=recipient, encryption_key=encryption_key)


def seal_receipt(
    reference: str, *, sender: IdentityName, signing_key: PrivateKey, encryption_key: PublicKey, binding: Binding
) -> bytes:
    """Return a receipt signed and encrypted, ready to be published.

    Args:
        reference: The identifier (`jti`) of the message that has been printed.
        sender: Who has printed it.
        signing_key: Its own.
        encryption_key: That of the message's sender, from DNS.
        binding: To the message's sender, and when.

    Raises:
        UnsuitableKeyError: The key cannot be calculated with.
    """
    signed = sign_receipt(reference, sender=sender, signing_key=signing_key, binding=binding)
    return encrypt(signed, recipient=binding.audience, encryption_key=encryption_key)
