"""Sends requests with a token to a web API, over verified TLS, and reads bounded answers."""

import contextlib
import http.client
import io
import json
import socket
import ssl
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any, Final

import idlib
from idlib.errors import PublishingError

_SECONDS: Final = 10.0
_MAX_ANSWER_SECONDS: Final = 30.0
_MAX_ANSWER_BYTES: Final = 1_048_576
_PORTION_BYTES: Final = 65_536
_HINT: Final = "check the network and the address of the API, and run the command again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a web API answers.

    Args:
        status: The status code of HTTP.
        body: The bytes of the body.
        retry_after: The header Retry-After; None if there is none.
    """

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the request was accepted."""
        return http.HTTPStatus.OK <= self.status < http.HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_redirect(self) -> bool:
        """Whether the request belongs to another address."""
        return http.HTTPStatus.MULTIPLE_CHOICES <= self.status < http.HTTPStatus.BAD_REQUEST

    def document(self) -> object:
        """Return the body as JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class WebApi:
    """A web API that reads and writes JSON.

    No redirect is followed and no proxy is used, so that the token is sent to this address only.

    Args:
        url: Its address, `https://…/`; with `http://` the token is sent without encryption.
        authorization: The header Authorization, with the token.
    """

    def __init__(self, url: str, authorization: str) -> None:
        self._scheme, self.host, self._path, *_ = urllib.parse.urlsplit(url)
        self._headers = {
            "Authorization": authorization,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"dane-messenger/{idlib.__version__}",
            "Connection": "close",
        }

    def send(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request, and return the answer, whatever its status.

        Args:
            method: Of HTTP.
            path: What follows the address of the API.
            body: Sent as JSON; None for no body.

        Raises:
            PublishingError: There is no answer, or it is too large or too slow; if the request changes something, it is
                not known whether it did.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            with contextlib.closing(self._connection()) as connection:
                connection.request(method, self._path + path, data, self._headers)
                with connection.getresponse() as response:
                    return Answer(response.status, self._read(response), response.headers["Retry-After"])
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _connection(self) -> http.client.HTTPConnection:
        if self._scheme == "http":
            return _Connection(self.host, timeout=_SECONDS)
        return _TlsConnection(self.host, timeout=_SECONDS, context=ssl.create_default_context())

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        body = b""
        while portion := response.read1(_PORTION_BYTES):
            body += portion
            if len(body) > _MAX_ANSWER_BYTES:
                raise PublishingError(f"the answer of {self.host} is too large", _HINT)
        return body

    def _unreachable(self, reason: Exception) -> PublishingError:
        match reason:
            case ssl.SSLCertVerificationError():
                return PublishingError(
                    f"the certificate of {self.host} is not valid: {reason.verify_message}",
                    "check the clock and the system's CA certificates; the token was not sent",
                )
            case ssl.SSLError():
                return PublishingError(f"TLS with {self.host} fails: {reason.reason or 'it was closed'}", _HINT)
            case TimeoutError():
                return PublishingError(f"{self.host} did not answer in time", _HINT)
            case http.client.RemoteDisconnected():
                return PublishingError(f"{self.host} closed the connection without an answer", _HINT)
            case http.client.HTTPException():
                return PublishingError(f"the answer of {self.host} is not HTTP", _HINT)
            case OSError():
                return PublishingError(f"{self.host} cannot be reached: {reason.strerror or 'no address'}", _HINT)
        return PublishingError(f"{self.host} cannot be reached", _HINT)


class _Limited(io.RawIOBase):
    """What a server sends, until the time for its answer is over; the timeout of a socket begins anew with each part.

    Args:
        raw: Reads from the socket.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._deadline = time.monotonic() + _MAX_ANSWER_SECONDS

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read the next part into a buffer.

        Args:
            buffer: Where to.

        Raises:
            TimeoutError: The time for the answer is over, or nothing came for too long.
        """
        if time.monotonic() > self._deadline:
            raise TimeoutError
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close the file of the socket."""
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose headers, too, must come in time."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_Limited(sock.makefile("rb", buffering=0)))


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _TlsConnection(http.client.HTTPSConnection):
    response_class = _Response
