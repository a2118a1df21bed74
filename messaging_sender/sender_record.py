"""Checks that DNS has our own record; without it every recipient refuses what we send."""

import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.commands import how_to_publish
from idlib.discovery import Discovery
from idlib.discovery.misplacement import explain_absence
from idlib.errors import DiscoveryError, NoRecordError, NotSecureError, NoUsableRecordError
from idlib.settings import Settings
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

# After the broker has acknowledged a message, the program waits at most this long for a running look-up.
PATIENCE_SECONDS: Final = 3.0
LOOK_AGAIN_SECONDS: Final = 60.0
# A PKIX-EE record may be usable for a recipient that trusts its authority; a record left out of the text may be one.
_IS_LEFT_OPEN: Final = re.compile(r"(?:^|[:;] )(?:1 \d+ \d+: |and \d+ more)")


class OwnRecord:
    """Looks up our own record in a thread of its own, so that no message waits for it.

    Args:
        settings: Our own name and the trust anchors are used.
        discovery: Asks DNS, and caches the answers.
        outage: Logs that recipients refuse what we send: once, and again when the cause changes.
        patience: How many seconds `tell` waits for the first look-up.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self,
        settings: Settings,
        discovery: Discovery,
        outage: FailureLog,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._discovery = discovery
        self._outage = outage
        self._clock = clock
        self._lock = threading.Lock()
        self._look_again_at = clock()
        self._answer: Future[str | None] | None = None
        self._patience = patience

    @property
    def is_pending(self) -> bool:
        """Whether a look-up is running, or its result is not logged yet."""
        return self._answer is not None

    def look(self, key: PrivateKey) -> None:
        """Start a look-up, unless one is running or the last one started less than a minute ago.

        Args:
            key: Our present private key.
        """
        with self._lock:
            if self._answer is not None or self._clock() < self._look_again_at:
                return
            self._look_again_at = self._clock() + LOOK_AGAIN_SECONDS
            answer = self._answer = Future[str | None]()
        threading.Thread(target=self._ask, args=(key, answer), name="Own-Record", daemon=True).start()

    def tell(self) -> str | None:
        """Log what has changed, and return why recipients refuse what we send, or None.

        Only the first look-up is waited for. Nothing is logged before a look-up has reached a verdict.
        """
        with self._lock:
            answer = self._answer
            if answer is None:
                return self._outage.cause
            patience, self._patience = self._patience, 0.0
        try:
            objection = answer.result(patience)
        except TimeoutError:
            return self._outage.cause
        except DiscoveryError:
            # The error says nothing about the record.
            objection = self._outage.cause
        else:
            self._note(objection)
        with self._lock:
            self._answer = None
        return objection

    def _note(self, objection: str | None) -> None:
        if objection is not None:
            self._outage.begin(objection)
        elif self._outage.end():
            _LOG.info("This device's record in DNS is correct again")

    def _ask(self, key: PrivateKey, answer: "Future[str | None]") -> None:
        try:
            answer.set_result(self._objection(key))
        except DiscoveryError as error:
            answer.set_exception(error)

    def _objection(self, key: PrivateKey) -> str | None:
        """Return why every recipient refuses what this key signs, or None if it is published."""
        name = self._settings.identity_name
        try:
            if key.public.der in self._discovery.find(name).accepted:
                return None
            # The cached records may be from before the record was replaced.
            found = self._discovery.find_again(name)
            if key.public.der in found.accepted or _IS_LEFT_OPEN.search("; ".join(found.skipped)):
                return None
        except NoRecordError as error:
            explained = explain_absence(error, name, self._discovery)
            return _refused(explained.fact, how_to_publish() if explained is error else explained.hint)
        except NoUsableRecordError as error:
            if _IS_LEFT_OPEN.search(error.fact):
                raise
            return _refused(error.fact, how_to_publish())
        except NotSecureError as error:
            if self._settings.dnssec_trust_anchors is not None:
                # Recipients may have pinned other zones than we have.
                raise
            return _refused(error.fact, "sign the zone with DNSSEC")
        return _refused(f"the TLSA record of {name} has another key", how_to_publish())


def _refused(fact: str, hint: str) -> str:
    return f"Recipients will refuse what this device sends: {fact}; {hint}"
