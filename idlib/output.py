"""Formats output: one line for each message, and text that cannot control a terminal."""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from idlib.names import IdentityName

# C0, DEL and C1 controls; the Arabic letter mark and all bidirectional controls; line and paragraph separators; and
# lone surrogates, which cannot be encoded.
_CONTROLS: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_DELETE: Final = "\x7f"


def text_line(sender: IdentityName, text: str) -> str:
    """Return the published form of an authenticated message: a JSON string, `NAME says: TEXT`, on one line.

    Args:
        sender: The name whose key verified.
        text: The message.
    """
    return _json(f"{sender} says: {text}")


def content_line(sender: IdentityName, content: bytes, content_type: str, file: str | None = None) -> str:
    """Return the line for an authenticated message with a content type: a JSON string that no text message can have.

    What the sender has chosen comes last, so that it cannot be mistaken for anything else.

    Args:
        sender: The name whose key verified.
        content: The content, which is shown in base64 if it is not UTF-8, and not at all if it is in a file.
        content_type: Its media type.
        file: The file that has it; None if there is none.
    """
    sent = f"{sender} sent {counted(len(content), 'byte')}"
    if file is not None:
        return _json(f"{sent} in the file {file} of type {content_type}")
    try:
        return _json(f"{sent} of type {content_type}: {content.decode()}")
    except UnicodeDecodeError:
        return _json(f"{sent} in base64 of type {content_type}: {b64encode(content).decode()}")


def json_line(
    sender: IdentityName,
    content: str | bytes,
    *,
    identifier: str | None,
    sent_at: int | None,
    received_at: float,
    sealed: str,
    content_type: str | None = None,
    file: str | None = None,
    number: int | None = None,
) -> str:
    """Return an authenticated message as a JSON object on one line.

    Args:
        sender: The name whose key verified.
        content: The message; bytes if it is not a text. It is not shown if it is in a file.
        identifier: Its `jti`; None if the message is unbound.
        sent_at: Its `iat` in seconds since the epoch; None if the message is unbound.
        received_at: When it was received, in seconds since the epoch.
        sealed: The kind of key that it was encrypted to: `epoch` or `identity`.
        content_type: The media type of the content; None for a text.
        file: The file that has the content; None if there is none.
        number: The number with which the reading program confirms the message; None if it does not.
    """
    is_shown = file is None
    return _json(
        {
            **({} if number is None else {"number": number}),
            "sender": str(sender),
            "message": content if is_shown and isinstance(content, str) else None,
            **({} if content_type is None else {"content_type": content_type}),
            **({"base64": b64encode(content).decode()} if is_shown and isinstance(content, bytes) else {}),
            **({} if file is None else {"file": file}),
            "id": identifier,
            "sent_at": None if sent_at is None else rfc3339(sent_at),
            "received_at": rfc3339(received_at),
            "bound": identifier is not None,
            "sealed": sealed,
        }
    )


def json_object(members: Mapping[str, object]) -> str:
    """Return a JSON object on one line that cannot control a terminal.

    Args:
        members: The values are strings, numbers or None.
    """
    return _json(members)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 message` and `2 messages`.

    Args:
        number: The number.
        noun: In the singular; its plural must be formed with s.
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def rfc3339(seconds: float) -> str:
    """Return a time in UTC in the format of RFC 3339, with milliseconds unless it is a whole second.

    Args:
        seconds: Since the epoch.
    """
    precision = "seconds" if seconds == int(seconds) else "milliseconds"
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def harmless(text: str) -> str:
    """Return the text with every character escaped that could control a terminal or break a line.

    Args:
        text: Any text, even an attacker's.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _json(value: object) -> str:
    line = _ENCODER.encode(value)
    # The encoder escapes C0 controls itself, so DEL is the only control that a line in ASCII can have. Any control is
    # inside a JSON string, and its escape is equivalent.
    return line if line.isascii() and _DELETE not in line else harmless(line)
