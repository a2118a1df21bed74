"""Whether DNS holds our own record; said in the log once and then rarely, and to `--health` in the same words."""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery, Found, find_key
from idlib.discovery.misplacement import explain_absence
from idlib.errors import (
    BogusError,
    DiscoveryError,
    KeyFileError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    UnprovenAbsenceError,
    UnusableRecordError,
    quoted,
)
from idlib.keys import HOW_TO_GET_A_KEY, certificate_path, read_certificate
from idlib.program.command_line import of_service
from idlib.records import WHOLE_CERTIFICATE, TlsaRecord, render
from idlib.settings import Settings
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

# A line comes again a minute and ten minutes after the first, and then each hour.
_PAUSES: Final = (60.0, 540.0, 3600.0)
_PUBLISH: Final = "publish the record that generate_tlsa.py prints"
_ABSENT: Final = (NoRecordError, UnprovenAbsenceError)


class OwnRecord:
    """Looks for the device's own record in DNS and says what is wrong with it; used by any number of threads.

    Args:
        settings: What the environment says.
        discovery: Asks DNS.
        clock: Seconds that never go back.
    """

    def __init__(self, settings: Settings, discovery: Discovery, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = settings.identity_name
        self._certificate_path = certificate_path(settings.crypto_path, settings.identity_name)
        self._discovery = discovery
        self._outage = FailureLog(_LOG, clock, _PAUSES)
        self._lock = threading.Lock()
        self._has_been_right = False
        self._announced: str | None = None

    @property
    def problem(self) -> str | None:
        """What was wrong when it was looked for last, or None."""
        return self._outage.cause

    def look(self, key: PrivateKey) -> Found | None:
        """Ask DNS for our record, say in the log if it is not right, and again once it is.

        Args:
            key: Our present private key.

        Returns:
            The records that DNS holds, ours or not; None if it holds none that can be used or could not be asked.
        """
        try:
            found = find_key(self._discovery, self._name, key.public.der)
        except DiscoveryError as error:
            self._outage.begin(*self._problem_of(error))
            if isinstance(error, (*_ABSENT, NoUsableRecordError)):
                self._announce(key)
            return None
        if key.public.der in found.accepted:
            self._note_right()
        else:
            self._outage.begin("own record in DNS does not match our key", f"; {_PUBLISH}")
            self._announce(key)
        return found

    def note_unusable_key(self, error: KeyFileError) -> None:
        """Say that there is nothing to look for, because our private key is missing or cannot be used.

        Args:
            error: Why.
        """
        if _is_missing(error):
            order = of_service("maintenance", "create_selfsigned_id.py", "identity create")
            self._outage.begin(f"no identity yet: run {order}", f" ({_without_an_order(error)})")
        else:
            self._outage.begin(f"own key cannot be used: {error.fact}", f"; {error.hint}")

    def _problem_of(self, error: DiscoveryError) -> tuple[str, str]:
        """Return what is wrong, and what the log says beyond that."""
        if isinstance(error, NoRecordError):
            explained = explain_absence(error, self._name, self._discovery)
            if explained is not error:
                return f"own record is misplaced: {explained.hint}", _until(error)
        return self._cause_of(error), _detail_of(error)

    def _cause_of(self, error: DiscoveryError) -> str:
        """Return what is wrong, in words that stay the same as long as it does; `--health` shows 100 characters."""
        if isinstance(error, _ABSENT):
            return "own record is no longer in DNS" if self._has_been_right else "own record is not in DNS yet"
        if isinstance(error, NoUsableRecordError):
            return f"own record in DNS cannot be used: {error.fact}"
        if isinstance(error, NotSecureError):
            return f"own record: the answer is not secure: {error.fact}"
        if isinstance(error, BogusError):
            return f"own record: DNSSEC validation fails: {error.fact}"
        return f"own record: DNS look-up failed: {error.fact}"

    def _note_right(self) -> None:
        self._has_been_right = True
        if self._outage.end():
            _LOG.info("Own record found: DNS has the key of %s", self._name)

    def _announce(self, key: PrivateKey) -> None:
        """Say what to publish, once for each record."""
        try:
            text = f"Publish this record: {self._name}. IN TLSA {self._record_of(key)}"
        except (KeyFileError, UnusableRecordError) as error:
            text = f"No record to publish: {error}"
        with self._lock:
            if text == self._announced:
                return
            is_first, self._announced = self._announced is None, text
        if is_first and not self._has_been_right:
            _LOG.error("Public identity is not valid!")
            _LOG.error("Ensure that your identity is provisioned at %s", self._name)
        _LOG.error("%s", text)

    def _record_of(self, key: PrivateKey) -> TlsaRecord:
        path = self._certificate_path
        try:
            certificate = read_certificate(path)
        except KeyFileError as error:
            if not _is_missing(error):
                raise
            # The key is there, so a CA is being asked, and the hint to make another key would be wrong.
            raise KeyFileError(error.fact, "install your CA's certificate with install_certificate.py") from error
        record = render(certificate, WHOLE_CERTIFICATE)
        if certificate.public_key() != key.public.native:
            raise KeyFileError(
                f"the certificate {quoted(path)} is not for the current key",
                "install the certificate that your CA issued for this key with install_certificate.py",
            )
        return record


def _is_missing(error: KeyFileError) -> bool:
    return isinstance(error.__cause__, FileNotFoundError)


def _detail_of(error: DiscoveryError) -> str:
    """Return what the log says beyond the cause."""
    if not isinstance(error, _ABSENT):
        return f"; {error.hint}"
    return f": {error.fact}; {_PUBLISH}{_until(error)}"


def _until(error: DiscoveryError) -> str:
    """Return how long the resolver repeats that there is no record, if that is worth a word."""
    kept = error.kept_seconds if isinstance(error, NoRecordError) else 0
    return f"; the resolver keeps this answer for up to another {math.ceil(kept / 60)} min" if kept > 60 else ""


def _without_an_order(error: KeyFileError) -> str:
    """Return what the error of a missing key says, less how to make one."""
    rest = error.hint.removesuffix(HOW_TO_GET_A_KEY).removesuffix(" If so, ")
    return f"{error.fact}; {rest}" if rest else error.fact
