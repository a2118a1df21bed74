"""Reads requests from HTTP, and sends the replies."""

import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Final

from testbed.desec.exchange import Reply, Request

API_PATH: Final = "/api/v1/"


def handler_for(answer: Callable[[Request], Reply], clock: Callable[[], float]) -> type[BaseHTTPRequestHandler]:
    """Return the handler of an HTTP server.

    Args:
        answer: Returns the reply to a request.
        clock: Seconds, for the time of each request.
    """

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            document = None
            if body:
                with suppress(ValueError):
                    document = json.loads(body)
            authorization = self.headers["Authorization"] or ""
            path = self.path.removeprefix(API_PATH) if self.path.startswith(API_PATH) else "nothing/here"
            reply = answer(Request(self.command, path, authorization, document, clock()))
            with suppress(ConnectionError):
                self._send(reply)

        do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = _handle  # noqa: N815  # the names that the server looks for

        def _send(self, reply: Reply) -> None:
            body = reply.document if isinstance(reply.document, bytes) else json.dumps(reply.document).encode()
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base has it
            pass

    return Handler
