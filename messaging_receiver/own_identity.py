"""The receiver's own keys: waits at the start until their record is in DNS, then reloads key files that change."""

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from idlib.algorithms import PrivateKey
from idlib.discovery import Found
from idlib.errors import KeyFileError, quoted
from idlib.keys import key_path, next_key_path, previous_key_paths, read_private_key
from idlib.names import IdentityName
from idlib.settings import Settings
from messaging_receiver.own_record import OwnRecord
from messaging_receiver.workers.key_ring import fingerprint

_LOG = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS: Final = 10.0
# A message stays at the broker for up to 7 days, and its sender may have cached the record for an hour.
PREVIOUS_KEY_SECONDS: Final = 8 * 24 * 3600
_POLL_SECONDS: Final = 0.25
_WHOLE_NUMBER: Final = re.compile("[0-9]{1,12}", re.ASCII)

_States = tuple[tuple[int, ...] | None, ...]


def wait_for_own_key(
    settings: Settings,
    own_record: OwnRecord,
    stopping: threading.Event,
    meanwhile: Callable[[], None] = lambda: None,
) -> PrivateKey | None:
    """Return our private key once its record is in DNS; until then, check every 10 s and log what is missing.

    Args:
        settings: The settings from the environment.
        own_record: Looks up the record.
        stopping: Set to stop the receiver; the result is then None.
        meanwhile: Called several times a second.
    """
    result: Future[PrivateKey | None] = Future()

    def look() -> None:
        try:
            result.set_result(_look_for_own_key(settings, own_record, stopping))
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits
            result.set_exception(error)

    # In a thread of its own, so that the receiver can stop at once even if DNS does not answer.
    threading.Thread(target=look, name="Own-Identity", daemon=True).start()
    while not stopping.is_set():
        meanwhile()
        try:
            return result.result(_POLL_SECONDS)
        except TimeoutError:
            continue
    return None


def _look_for_own_key(settings: Settings, own_record: OwnRecord, stopping: threading.Event) -> PrivateKey | None:
    path = key_path(settings.crypto_path, settings.identity_name)
    known: bytes | None = None
    while not stopping.is_set():
        try:
            key = read_private_key(path)
        except KeyFileError as error:
            own_record.note_unusable_key(error)
        else:
            if key.public.der != known:
                _LOG.info("Reading %s", quoted(path))
                known = key.public.der
            own_record.look(key)
            if own_record.problem is None:
                return key
        stopping.wait(LOOK_AGAIN_SECONDS)
    return None


class Facts(Protocol):
    """Named texts that survive a restart."""

    def get_fact(self, name: str) -> str | None:
        """Return the text with a name, or None."""

    def set_fact(self, name: str, value: str) -> None:
        """Store the text with a name; it is durable once the call returns."""


@dataclass(frozen=True, slots=True)
class _PreviousKey:
    """A private key that was replaced.

    Args:
        key: The key.
        path: Its file.
        replaced_at: When the key was replaced, which is when its file was written, in seconds since the epoch.
    """

    key: PrivateKey
    path: Path
    replaced_at: int


class OwnKeys:
    """The device's private keys: the current, the next and the previous ones, reloaded when their files change.

    A previous key is tried until its record has been gone from DNS for 8 days. By then, the broker no longer holds any
    message that was sealed to it, and each further key makes it more expensive to handle a stranger's message.

    Args:
        crypto_path: The directory of the key files.
        name: The device's name.
        present: The current key, which has already been read; read again, because it may have been replaced
            meanwhile.
        facts: Stores since when each record has been gone; None to always try every previous key.
        clock: Returns seconds since the epoch, or None while the clock may be wrong, when no key is retired.
    """

    def __init__(
        self,
        crypto_path: Path,
        name: IdentityName,
        present: PrivateKey,
        facts: Facts | None = None,
        clock: Callable[[], float | None] = time.time,
    ) -> None:
        # In the order in which a rotation moves keys, so that a key that moves while the files are read is not missed.
        self._paths = (
            next_key_path(crypto_path, name),
            key_path(crypto_path, name),
            *previous_key_paths(crypto_path, name),
        )
        self._facts = facts
        self._clock = clock
        # One thread calls `refresh`, another one `note_records`.
        self._lock = threading.Lock()
        self._states = self._look()
        self._next = self._read_next()
        self._present = self._read_present(present)
        self._previous = tuple(self._read_previous())
        self._retired: frozenset[bytes] = frozenset()
        self._keys: tuple[PrivateKey, ...] = ()
        self._fingerprints: tuple[bytes, ...] = ()
        self._choose()

    @property
    def keys(self) -> tuple[PrivateKey, ...]:
        """The keys to try for decryption, the current one first; at most five."""
        return self._keys

    @property
    def fingerprints(self) -> tuple[bytes, ...]:
        """The fingerprints of these keys, in the same order."""
        return self._fingerprints

    @property
    def present(self) -> PrivateKey:
        """The current key, whose record others use to encrypt messages to this device."""
        return self._present

    def refresh(self) -> None:
        """Read the key files again if one was replaced, added or removed; if the current key is unreadable, keep it.

        Raises:
            StoreError: The store cannot be read; the keys are unchanged.
        """
        # Checked before the files are read, so that a change in between is noticed at the next call.
        states = self._look()
        with self._lock:
            if states == self._states:
                return
            self._next = self._read_next()
            self._present = self._read_present(self._present)
            self._previous = tuple(self._read_previous())
            self._choose()
            self._states = states

    def note_records(self, found: Found) -> None:
        """Note which previous keys have a record, and retire those whose record has been gone for 8 days.

        Changes nothing while the clock may be wrong. If the look-up of the device's name fails, do not call this.

        Args:
            found: The records of the device's name.

        Raises:
            StoreError: The store cannot be written; the keys are unchanged.
        """
        shown = self._clock()
        if self._facts is None or shown is None:
            return
        published = {key.der for key in found.published}
        now = int(shown)
        with self._lock:
            if self._present.public.der in published:
                # A retired key may have become the current key again.
                self._note(self._facts, self._present, "")
            for previous in self._previous:
                known = self._gone_since(previous.key)
                if previous.key.public.der in published:
                    self._note(self._facts, previous.key, "")
                elif known is None:
                    # Its record has not been seen since the key was replaced.
                    self._note(self._facts, previous.key, str(min(previous.replaced_at, now)))
                elif not known or int(known) > now:
                    self._note(self._facts, previous.key, str(now))
            self._choose()

    def _note(self, facts: Facts, key: PrivateKey, gone_since: str) -> None:
        if self._gone_since(key) != gone_since:
            facts.set_fact(_fact_of(key), gone_since)

    def _gone_since(self, key: PrivateKey) -> str | None:
        """Return since when a key's record has been gone, in seconds since the epoch; "" if it is in DNS.

        A damaged value counts as "", so that damage retires no key.
        """
        text = None if self._facts is None else self._facts.get_fact(_fact_of(key))
        return text if text is None or _WHOLE_NUMBER.fullmatch(text) else ""

    def _choose(self) -> None:
        """Leave out previous keys whose record has been gone for too long, and log each of them once."""
        kept, retired = [self._present], set()
        if self._next is not None and self._next.public.der != self._present.public.der:
            kept.append(self._next)
        now = self._clock()
        for previous in self._previous:
            gone_since = self._gone_since(previous.key)
            if not gone_since or now is None or now <= int(gone_since) + PREVIOUS_KEY_SECONDS:
                kept.append(previous.key)
                continue
            retired.add(previous.key.public.der)
            if previous.key.public.der not in self._retired:
                _LOG.info("The key in %s is no longer tried: its record has been gone for 8 days", previous.path)
        self._retired = frozenset(retired)
        self._keys = tuple(kept)
        self._fingerprints = tuple(map(fingerprint, kept))

    def _look(self) -> _States:
        return tuple(map(_state_of, self._paths))

    def _read_next(self) -> PrivateKey | None:
        """Return the key that will replace the present one: once its record is published, others encrypt to it."""
        try:
            return read_private_key(self._paths[0])
        except KeyFileError as error:
            # It is the current key by now, or there was none.
            if not isinstance(error.__cause__, FileNotFoundError):
                _LOG.warning("Next key skipped: %s", error)
            return None

    def _read_present(self, known: PrivateKey) -> PrivateKey:
        path = self._paths[1]
        try:
            key = read_private_key(path)
        except KeyFileError as error:
            _LOG.error("Key not reloaded, the old one stays in use: %s", error)
            return known
        if key.public.der != known.public.der:
            _LOG.info("Reading %s", quoted(path))
        return key

    def _read_previous(self) -> Iterator[_PreviousKey]:
        for path in self._paths[2:]:
            # Looked at again, because a key may have moved here since.
            state = _state_of(path)
            if state is None:
                continue
            try:
                key = read_private_key(path)
            except KeyFileError as error:
                _LOG.warning("Previous key skipped: %s", error)
            else:
                _LOG.info("Reading %s", quoted(path))
                yield _PreviousKey(key, path, state[3] // 10**9)


def _fact_of(key: PrivateKey) -> str:
    return f"own_record_gone_since {hashlib.sha256(key.public.der).hexdigest()}"


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Return values that change if a file is replaced or written; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
