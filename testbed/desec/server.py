"""The account at deSEC that tests start, with what they put into it and ask of it."""

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

from testbed.desec.api import Api
from testbed.desec.exchange import Reply, Request
from testbed.desec.http_handler import API_PATH, handler_for
from testbed.desec.limits import MINIMUM_TTL, Throttle
from testbed.desec.record_sets import RecordSet, RecordSets
from testbed.desec.tokens import Policy, Tokens

LOOPBACK: Final = "127.0.0.1"


class DesecServer:
    """An account at deSEC.

    Args:
        domains: The names of its domains, and the lowest TTL of each.
        serve: Called with owner, type, records and TTL after each change of TLSA or TXT records, to put them into DNS.
        clock: Seconds, for the limits.
        tls: With it, the API is at `https://localhost:PORT`.
    """

    def __init__(
        self,
        domains: Mapping[str, int],
        serve: Callable[[str, str, Sequence[str], int], None] = lambda name, kind, records, ttl: None,
        clock: Callable[[], float] = time.monotonic,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tokens = Tokens()
        self._record_sets = RecordSets(domains, serve, clock)
        self._api = Api(self._tokens, self._record_sets, Throttle(clock))
        # The account's own, which tests also change.
        self.domains = self._record_sets.minimum_ttls
        self.tokens = self._tokens.by_secret
        self.record_sets = self._record_sets.stored
        self.touched = self._record_sets.touched
        self.requests: list[Request] = []
        self._lock = threading.RLock()
        self._replies: deque[Reply] = deque()
        self._hooks: dict[str, Callable[[], None]] = {}
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler_for(self.answer, clock))
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        port = self._server.server_address[1]
        self.origin = f"https://localhost:{port}" if tls else f"http://{LOOPBACK}:{port}"
        self.url = self.origin + API_PATH
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add_token(self, *policies: Policy, perm_manage_tokens: bool = False) -> str:
        """Create a token, and return its secret.

        Args:
            policies: The first one is the default policy; without policies the token may write everything.
            perm_manage_tokens: Whether it may create tokens and policies.
        """
        return self._tokens.add(*policies, perm_manage_tokens=perm_manage_tokens).secret

    def token_for(self, name: str) -> str:
        """Create a token that may write the TLSA records of one name only, and return its secret."""
        domain, subname = self._record_sets.split(name)
        return self.add_token(Policy(), Policy(domain, subname, "TLSA", perm_write=True))

    def epoch_token_for(self, name: str) -> str:
        """Create a token that may also write the epoch records of that name, and return its secret."""
        domain, subname = self._record_sets.split(name)
        texts = Policy(domain, f"_epoch.{subname}", "TXT", perm_write=True)
        return self.add_token(Policy(), Policy(domain, subname, "TLSA", perm_write=True), texts)

    def put(self, name: str, records: Sequence[str], ttl: int = MINIMUM_TTL, kind: str = "TLSA") -> None:
        """Set the records of a name, as another program of the account does.

        Args:
            name: The owner.
            records: In presentation form; none removes them all.
            ttl: Seconds.
            kind: Their type.
        """
        domain, subname = self._record_sets.split(name)
        with self._lock:
            self._record_sets.store((domain, subname, kind), RecordSet(ttl, tuple(records)) if records else None)

    def tlsa(self, name: str) -> RecordSet | None:
        """Return the TLSA records of a name; None if it has none."""
        return self.record_sets.get((*self._record_sets.split(name), "TLSA"))

    def reply_next(self, *replies: Reply) -> None:
        """Answer the next requests in this way, whatever they are."""
        self._replies.extend(replies)

    def after_next(self, method: str, hook: Callable[[], None]) -> None:
        """Call a function once, when the next request of this method has been processed and before it is answered."""
        self._hooks[method] = hook

    def sent(self, *methods: str) -> list[Request]:
        """Return the requests of these methods."""
        return [request for request in self.requests if request.method in methods]

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request, after the changes that it makes."""
        with self._lock:
            self.requests.append(request)
            reply = self._replies.popleft() if self._replies else self._api.answer(request)
        if hook := self._hooks.pop(request.method, None):
            hook()
        return reply
