"""Sends requests with a token to a web API, over verified TLS, and reads bounded answers."""

import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Final

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
        self._url = url
        scheme, self.host, *_ = urllib.parse.urlsplit(url)
        self._headers = {
            "Authorization": authorization,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"dane-messenger/{idlib.__version__}",
        }
        # Without the usual handlers, which follow redirects, use proxies and raise for a status.
        self._opener = urllib.request.OpenerDirector()
        self._opener.add_handler(
            urllib.request.HTTPHandler()
            if scheme == "http"
            else urllib.request.HTTPSHandler(context=ssl.create_default_context())
        )

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
        request = urllib.request.Request(self._url + path, data, self._headers, method=method)  # noqa: S310  # the opener has no other schemes
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                return Answer(response.status, self._read(response), response.headers["Retry-After"])
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        deadline = time.monotonic() + _MAX_ANSWER_SECONDS
        body = b""
        while portion := response.read1(_PORTION_BYTES):
            body += portion
            if len(body) > _MAX_ANSWER_BYTES:
                raise PublishingError(f"the answer of {self.host} is too large", _HINT)
            if time.monotonic() > deadline:
                raise TimeoutError
        return body

    def _unreachable(self, reason: object) -> PublishingError:
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
