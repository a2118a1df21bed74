"""Refuses to send what would come back, if another program joins the local broker to the public one or to itself."""

import json
from typing import Final

from idlib.errors import MessageError
from idlib.names import IdentityName

# Members of an encrypted message (RFC 7516, section 7.2), and of the object that is published for a received one.
_SEALED: Final = frozenset({"protected", "ciphertext", "iv", "tag"})
_RECEIVED: Final = frozenset({"sender", "id", "received_at", "bound", "sealed"})


def check_is_no_echo(recipient: IdentityName, payload: bytes) -> None:
    """Check that something to be sent is neither an encrypted message nor one that its recipient has sent.

    Args:
        recipient: To whom it would be sent.
        payload: What was published below PREFIX/out/.

    Raises:
        MessageError: It is.
    """
    if not payload.startswith(b"{"):
        return
    try:
        members = json.loads(payload)
    except (ValueError, RecursionError):
        return
    if members.keys() >= _SEALED:
        raise MessageError(
            "it is an encrypted message, and each time that it is sent it would come here again",
            "let no other program pass messages on between the local broker and the public one",
        )
    if members.keys() >= _RECEIVED and members["sender"] == str(recipient):
        raise MessageError(
            f"it is the object of a message from {recipient}, and would be sent back",
            "let no program publish messages unchanged that it has received; answer with a text",
        )
