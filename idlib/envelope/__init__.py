"""The envelope: a text signed by its sender, then encrypted to its recipient; bytes in, values out.

PROTOCOL's strict profile of JWS (RFC 7515) and JWE (RFC 7516). Nothing here knows DNS, files, MQTT or the clock.
"""

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope.binding import Binding
from idlib.envelope.jwe import Decrypted, decrypt, encrypt
from idlib.envelope.jws import UnverifiedMessage, parse, sign, verify
from idlib.names import IdentityName

__all__ = ["Binding", "Decrypted", "UnverifiedMessage", "decrypt", "encrypt", "parse", "seal", "sign", "verify"]


def seal(
    text: str,
    *,
    sender: IdentityName,
    signing_key: PrivateKey,
    recipient: IdentityName,
    encryption_key: PublicKey,
    binding: Binding,
) -> bytes:
    """Return the text signed and encrypted, ready to be published.

    Args:
        text: At least one character; how large the result may be is the caller's to check.
        sender: Under whose name the signing key's public half stands in DNS.
        signing_key: The sender's.
        recipient: Who shall read it.
        encryption_key: The recipient's, from DNS.
        binding: To whom and when.

    Raises:
        MessageError: The text is empty, or has half a surrogate pair.
        UnsuitableKeyError: The recipient's key cannot be calculated with.
    """
    signed = sign(text, sender=sender, signing_key=signing_key, binding=binding)
    return encrypt(signed, recipient=recipient, encryption_key=encryption_key)
