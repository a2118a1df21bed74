"""Reads what deSEC answers: a record set, the lowest TTL, a pause, and errors in words.

The forms are those of https://desec.readthedocs.io/en/latest/dns/rrsets.html and
https://desec.readthedocs.io/en/latest/dns/domains.html.
"""

import re
from typing import Final

from idlib.errors import PublishingError
from idlib.output import harmless
from idlib.publishing.change import PublishedSet
from idlib.publishing.record_types import RecordType
from idlib.publishing.web_api import Answer

_MAX_SHOWN: Final = 300
_MAX_TTL: Final = 2**31 - 1
_USUAL_PAUSE_SECONDS: Final = 1
# Keys that hold a message about the whole request.
_GENERAL: Final = frozenset({"detail", "non_field_errors"})


def read_records(answer: Answer, record_type: RecordType) -> PublishedSet:
    """Return the only record set in a list of at most one.

    Args:
        answer: To a request for the records of one name and type.
        record_type: That type.

    Raises:
        PublishingError: It is something else.
    """
    match answer.document():
        case []:
            return PublishedSet.of(0, ())
        case [{"type": str(kind), "ttl": int(ttl), "records": [*texts]}] if (
            kind == str(record_type) and 0 <= ttl <= _MAX_TTL and texts
        ):
            return PublishedSet.of(ttl, [_read_record(text, record_type) for text in texts])
    raise _unreadable()


def read_minimum_ttl(answer: Answer) -> int:
    """Return the lowest TTL that a domain may have, in seconds.

    Args:
        answer: To a request for the domain.

    Raises:
        PublishingError: It is something else.
    """
    match answer.document():
        case {"minimum_ttl": int(ttl)} if 0 <= ttl <= _MAX_TTL:
            return ttl
    raise _unreadable()


def read_pause(answer: Answer) -> int:
    """Return how many seconds to wait before the next request, at least 1.

    Args:
        answer: With status 429; without a number of seconds in Retry-After, 1 is returned.
    """
    seconds = answer.retry_after or ""
    return max(_USUAL_PAUSE_SECONDS, int(seconds)) if re.fullmatch("[0-9]{1,9}", seconds) else _USUAL_PAUSE_SECONDS


def accepts_first_part(answer: Answer) -> bool:
    """Return whether the first of two parts of a request has no errors, and only the second does.

    Args:
        answer: With a list of errors for each part, empty for a part without errors.
    """
    match answer.document():
        case [first, dict(second)] if first == {} and second:
            return True
    return False


def describe(answer: Answer, secret: str) -> str:
    """Return the server's own words, safe to print and at most 300 characters; empty if it gives none.

    Args:
        answer: With errors as JSON.
        secret: Removed from the words.
    """
    words = []
    open_values = [("", answer.document())]
    while open_values:
        key, value = open_values.pop()
        match value:
            case str():
                words.append(f"{key}: {value}" if key else value)
            case list():
                open_values += [(key, item) for item in reversed(value)]
            case dict():
                open_values += [("" if name in _GENERAL else name, item) for name, item in reversed(value.items())]
    text = harmless("; ".join(words).replace(secret, "…"))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _read_record(text: object, record_type: RecordType) -> bytes:
    if not isinstance(text, str):
        raise _unreadable()
    try:
        return record_type.parse(text)
    except ValueError as error:
        raise _unreadable() from error


def _unreadable() -> PublishingError:
    return PublishingError("the answer of deSEC cannot be read", "check DESEC_URL and try again")
