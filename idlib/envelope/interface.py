"""What others use of the envelope; `idlib.envelope` offers the same."""

from typing import TYPE_CHECKING

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope.binding import Binding
from idlib.envelope.identifier import new_identifier
from idlib.envelope.jwe import NO_EPOCH_KEYS, Decrypted, SealedTo, decrypt, encrypt
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
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName

if TYPE_CHECKING:
    from idlib.epochs import IdentifiedEpochKey

__all__ = [
    "NO_EPOCH_KEYS",
    "Binding",
    "Decrypted",
    "SealedTo",
    "UnverifiedMessage",
    "UnverifiedReceipt",
    "decrypt",
    "encrypt",
    "new_identifier",
    "parse",
    "parse_decrypted",
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
    content: str | bytes,
    *,
    sender: IdentityName,
    signing_key: PrivateKey,
    recipient: IdentityName,
    encryption_key: "PublicKey | IdentifiedEpochKey",
    binding: Binding,
    ask_for_receipt: bool = False,
    content_type: str | None = None,
) -> bytes:
    """Return a text or other content signed and encrypted, ready to be published.

    Args:
        content: At least one character or byte; the caller checks the size of the result.
        sender: The sender, whose public key is in DNS.
        signing_key: The sender's key.
        recipient: The recipient.
        encryption_key: The recipient's identity key or epoch key, from DNS.
        binding: The recipient and the time.
        ask_for_receipt: Whether the recipient should confirm that it has printed the message.
        content_type: The media type of the content; None for a text.

    Raises:
        MessageError: The content is empty; or it has no type and is not UTF-8, or has half a surrogate pair.
        MalformedMediaTypeError: The content type is not a media type.
        UnsuitableKeyError: The recipient's key cannot be used for encryption.
    """
    signed = sign(
        content,
        sender=sender,
        signing_key=signing_key,
        binding=binding,
        ask_for_receipt=ask_for_receipt,
        content_type=content_type,
    )
    return encrypt(signed, recipient=recipient, encryption_key=encryption_key)


def seal_receipt(
    reference: str,
    *,
    sender: IdentityName,
    signing_key: PrivateKey,
    encryption_key: "PublicKey | IdentifiedEpochKey",
    binding: Binding,
) -> bytes:
    """Return a receipt signed and encrypted, ready to be published.

    Args:
        reference: The identifier (`jti`) of the message that has been printed.
        sender: The device that has printed it.
        signing_key: That device's key.
        encryption_key: The identity key or epoch key of the message's sender, from DNS.
        binding: The message's sender as the recipient, and the time.

    Raises:
        UnsuitableKeyError: The key cannot be used for encryption.
    """
    signed = sign_receipt(reference, sender=sender, signing_key=signing_key, binding=binding)
    return encrypt(signed, recipient=binding.audience, encryption_key=encryption_key)


def parse_decrypted(decrypted: Decrypted) -> UnverifiedMessage:
    """Return the message in a decrypted payload; its signature is not verified yet.

    Args:
        decrypted: From `decrypt`.

    Raises:
        Refusal: As `parse`; also if an unbound message was encrypted to an epoch key, because only software that binds
            messages knows epoch keys.
    """
    message = parse(decrypted.signed)
    if decrypted.sealed_to is SealedTo.EPOCH and message.binding is None:
        raise Refusal(Reason.UNBOUND, "the message is unbound, and encrypted to an epoch key")
    return message
