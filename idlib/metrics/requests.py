"""The requests to the metrics port and their answers: HTTP/1.1 (RFC 9112), as much of it as Prometheus needs."""

import re
from collections.abc import Callable
from typing import Final

# The header of a request; Prometheus sends a few hundred bytes.
MAX_REQUEST_BYTES: Final = 8192
PATH: Final = "/metrics"
_END: Final = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,2048}) HTTP/1\.[01]\r?\n")
_PAGE_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_TEXT_TYPE: Final = "text/plain; charset=utf-8"


def is_complete(received: bytes) -> bool:
    """Return whether a request can be answered.

    Args:
        received: What has arrived of it.
    """
    return len(received) > MAX_REQUEST_BYTES or _END.search(received) is not None


def answer(received: bytes, page: Callable[[], bytes | None]) -> bytes:
    """Return the answer to a request.

    Args:
        received: The request, or too many bytes of it.
        page: Returns the page of metrics, or None if it cannot be made; called only if that is what was asked for.
    """
    if len(received) > MAX_REQUEST_BYTES:
        return _response("431 Request Header Fields Too Large", b"The request is too large.\n")
    line = _REQUEST_LINE.match(received)
    if line is None:
        return _response("400 Bad Request", b"This is not an HTTP/1.1 request.\n")
    if line[2].partition(b"?")[0].decode("ascii") != PATH:
        return _response("404 Not Found", f"There is only {PATH}.\n".encode())
    if line[1] != b"GET":
        return _response("405 Method Not Allowed", b"Use GET.\n", ("Allow: GET",))
    body = page()
    if body is None:
        return _response("500 Internal Server Error", b"The log of the service has the reason.\n")
    return _response("200 OK", body, content_type=_PAGE_TYPE)


def _response(status: str, body: bytes, headers: tuple[str, ...] = (), content_type: str = _TEXT_TYPE) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    )
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body
