"""Checks that the device's own record is in DNS; reports problems in the log, and in the same words to `--health`."""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.commands import command, how_to_publish
from idlib.discovery import Discovery, Found, find_key
from idlib.discovery.misplacement import explain_absence
from idlib.errors import (
    BogusError,
    DiscoveryError,
    KeyFileError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
    UnusableRecordError,
    quoted,
)
from idlib.keys import certificate_path, how_to_get_a_key, read_certificate
from idlib.marks import Mark
from idlib.records import WHOLE_CERTIFICATE, TlsaRecord, render
from idlib.settings import Settings, Switch
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

# A line is repeated one minute and ten minutes after the first, and then every hour.
_PAUSES: Final = (60.0, 540.0, 3600.0)
_ABSENT: Final = (NoRecordError, UnprovenAbsenceError)


class OwnRecord:
    """Looks up the device's own record and logs what is wrong with it. Thread-safe.

    Args:
        settings: The settings from the environment.
        discovery: Looks names up in DNS.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, settings: Settings, discovery: Discovery, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = settings.identity_name
        self._certificate_path = certificate_path(settings.crypto_path, settings.identity_name)
        self._creates_epoch_keys = settings.epoch_keys is Switch.ON
        self._discovery = discovery
        self._outage = FailureLog(_LOG, clock, _PAUSES)
        self._lock = threading.Lock()
        self._has_been_right = False
        self._is_present: bool | None = None
        self._announced: str | None = None

    @property
    def problem(self) -> str | None:
        """What was wrong at the last look-up, or None."""
        return self._outage.cause

    @property
    def is_present(self) -> bool | None:
        """Whether DNS had a record of our key when it last answered; None before its first answer."""
        return self._is_present

    def look(self, key: PrivateKey) -> Found | None:
        """Look up our own record; log if it is wrong, and log again once it is right.

        Args:
            key: Our current private key.

        Returns:
            The records found, even if none is for our key; None if there are no usable ones or the look-up failed.
        """
        try:
            found = find_key(self._discovery, self._name, key.public.der)
        except DiscoveryError as error:
            if isinstance(error, _ABSENT) or not isinstance(error, BogusError | TemporaryDiscoveryError):
                self._is_present = False
            self._outage.begin(*self._problem_of(error))
            if isinstance(error, (*_ABSENT, NoUsableRecordError)):
                self._announce(key)
            return None
        self._is_present = key.public.der in found.accepted
        if key.public.der not in found.accepted:
            self._outage.begin("own record in DNS does not match our key", f"; {how_to_publish()}")
            self._announce(key)
        elif found.mark is not Mark.UNMARKED and not self._creates_epoch_keys:
            # Senders would wait once the last key is destroyed, days later.
            self._outage.begin(
                "own record is marked, but EPOCH_KEYS is off: others can send nothing once its last key is gone",
                f"; set EPOCH_KEYS=on, or run {command('identity epoch off')}",
            )
        else:
            self._note_right()
        return found

    def note_unusable_key(self, error: KeyFileError) -> None:
        """Log that our private key is missing or cannot be used, so that there is no record to look up.

        Args:
            error: The error from reading the key.
        """
        if _is_missing(error):
            order = command("identity create")
            self._outage.begin(f"no identity yet: run {order}", f" ({_without_an_order(error)})")
        else:
            self._outage.begin(f"own key cannot be used: {error.fact}", f"; {error.hint}")

    def _problem_of(self, error: DiscoveryError) -> tuple[str, str]:
        """Return what is wrong, and further details for the log."""
        if isinstance(error, NoRecordError):
            explained = explain_absence(error, self._name, self._discovery)
            if explained is not error:
                return f"own record is misplaced: {explained.hint}", _until(error)
        return self._cause_of(error), _detail_of(error)

    def _cause_of(self, error: DiscoveryError) -> str:
        """Return what is wrong, in the same words while the problem lasts; `--health` shows 100 characters of it."""
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
        """Log which record to publish, once for each record."""
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
            # The key exists, so its certificate comes from a CA; the error's hint to create a new key would be wrong.
            raise KeyFileError(
                error.fact, f"install your CA's certificate with {command('identity install')}"
            ) from error
        record = render(certificate, WHOLE_CERTIFICATE)
        if certificate.public_key() != key.public.native:
            raise KeyFileError(
                f"the certificate {quoted(path)} is not for the current key",
                f"install the certificate that your CA issued for this key with {command('identity install')}",
            )
        return record


def _is_missing(error: KeyFileError) -> bool:
    return isinstance(error.__cause__, FileNotFoundError)


def _detail_of(error: DiscoveryError) -> str:
    """Return what the log adds to the cause."""
    if isinstance(error, NoUsableRecordError):
        return f"; {how_to_publish()}"
    if not isinstance(error, _ABSENT):
        return f"; {error.hint}"
    return f": {error.fact}; {how_to_publish()}{_until(error)}"


def _until(error: DiscoveryError) -> str:
    """Return how long the resolver caches that there is no record; "" if that is at most a minute."""
    kept = error.kept_seconds if isinstance(error, NoRecordError) else 0
    return f"; the resolver keeps this answer for up to another {math.ceil(kept / 60)} min" if kept > 60 else ""


def _without_an_order(error: KeyFileError) -> str:
    """Return the text of a missing key's error without the instructions to create a key."""
    rest = error.hint.removesuffix(how_to_get_a_key()).removesuffix(" If so, ")
    return f"{error.fact}; {rest}" if rest else error.fact
