"""A request to the API, and the reply to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# What the API says about a field that is missing.
REQUIRED: Final = ["This field is required."]


@dataclass(frozen=True)
class Request:
    """What was asked.

    Args:
        method: Of HTTP.
        path: With its query, without the address of the API.
        authorization: The header; empty if there is none.
        document: The body, read as JSON; None if there is none.
        at: The time by the server's clock, in seconds.
    """

    method: str
    path: str
    authorization: str
    document: Any
    at: float


@dataclass(frozen=True)
class Reply:
    """What is answered.

    Args:
        status: Of HTTP.
        document: The body, as JSON, or as it is if it is bytes; None for no body.
        headers: Besides those of the body.
    """

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class RejectionError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.reply = Reply(status, document, headers or {})
