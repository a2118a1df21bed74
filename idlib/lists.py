"""Lists of names in files: errors name the line, and changed files are read again."""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from idlib.errors import MalformedListError, MalformedNameError, Reason, Refusal, quoted
from idlib.files import read_regular, state_of
from idlib.names import IdentityName, NamePatterns

_LOG = logging.getLogger(__name__)

MAX_BYTES: Final = 8 * 1024 * 1024
SECONDS_BETWEEN_LOOKS: Final = 1.0
# A file that was written a moment ago may not be complete yet.
_SETTLING_SECONDS: Final = 1.0
_SEPARATORS: Final = re.compile(r"[,\s]+")
_HINT: Final = (
    "write names and patterns such as *._device.example.com, separated by commas or line breaks; # starts a comment"
)

_State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SenderLists:
    """The operator's lists of senders at one moment.

    Args:
        denied: Senders that are refused (DENIED_SENDERS); None for no one.
        allowed: Senders that are accepted (ALLOWED_SENDERS); None for everyone.
        binding_required: Senders whose messages must be bound (REQUIRE_BINDING); None for no one.
        secrecy_required: Devices from which, and to which, messages must be encrypted to an epoch key
            (REQUIRE_FORWARD_SECRECY); None for no one.
    """

    denied: NamePatterns | None = None
    allowed: NamePatterns | None = None
    binding_required: NamePatterns | None = None
    secrecy_required: NamePatterns | None = None

    def check(self, sender: IdentityName) -> None:
        """Check that a sender is allowed; DENIED_SENDERS is checked first.

        Raises:
            Refusal: The sender is not allowed; the fact names the list that decided.
        """
        if self.denied is not None and self.denied.match(sender):
            raise Refusal(Reason.SENDER_NOT_ALLOWED, f"{sender} is in DENIED_SENDERS")
        if self.allowed is not None and not self.allowed.match(sender):
            raise Refusal(Reason.SENDER_NOT_ALLOWED, f"{sender} is not in ALLOWED_SENDERS")

    def names_exactly(self, sender: IdentityName) -> bool:
        """Return whether ALLOWED_SENDERS contains exactly this name, and DENIED_SENDERS does not match it."""
        is_denied = self.denied is not None and self.denied.match(sender)
        return not is_denied and self.allowed is not None and self.allowed.lists(sender)

    def requires_binding(self, sender: IdentityName) -> bool:
        """Return whether a message of this sender must be bound."""
        return self.binding_required is not None and self.binding_required.match(sender)

    def requires_forward_secrecy(self, name: IdentityName) -> bool:
        """Return whether messages from this device, and to it, must be encrypted to an epoch key."""
        return self.secrecy_required is not None and self.secrecy_required.match(name)


def read_list(path: Path) -> NamePatterns:
    """Return the names and patterns in a file, which may be none.

    Args:
        path: A UTF-8 text file. Names are separated by commas or white space; `#` starts a comment up to the line end.

    Raises:
        MalformedListError: The file cannot be read or is malformed; the fact names the file and the line.
    """
    lines = [_SEPARATORS.split(line.partition("#")[0]) for line in _read_lines(path)]
    words = tuple(word for line in lines for word in line if word)
    try:
        return NamePatterns(words, path)
    except MalformedNameError as error:
        for number, line in enumerate(lines, 1):
            for word in filter(None, line):
                _check(word, path, number)
        raise MalformedListError(f"{quoted(path)}: {error.fact}", _HINT) from error


def read_filled_list(path: Path) -> NamePatterns:
    """Return the names and patterns in a file, of which there must be at least one.

    Raises:
        MalformedListError: As for `read_list`, or the file contains no names.
    """
    patterns = read_list(path)
    if not patterns.texts:
        raise MalformedListError(f"{quoted(path)} contains no names", _HINT)
    return patterns


class WatchedPatterns:
    """Patterns that are read again when their file changes. Thread-safe.

    If the file cannot be read or is malformed, the patterns that were read before stay in use, and one line is logged.

    Args:
        patterns: The patterns from the settings; if they are not from a file, they never change.
        read: Reads the file.
        clock: A monotonic clock, in seconds.
        now: Returns seconds since the epoch, to compare with the modification time of the file.
    """

    def __init__(
        self,
        patterns: NamePatterns,
        read: Callable[[Path], NamePatterns] = read_filled_list,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._patterns = patterns
        self._read = read
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        # A pipe can be read only once.
        is_watched = patterns.source is not None and (patterns.source.is_file() or not patterns.source.exists())
        self._path = patterns.source if is_watched else None
        # Empty, so that the first look reads the file again, in case it has changed since the settings were read.
        self._state: _State | None = ()
        self._next_look = clock()

    def current(self) -> NamePatterns:
        """Return the current patterns; checks the file for changes at most once a second."""
        if self._path is not None and self._clock() >= self._next_look:
            with self._lock:
                if self._clock() >= self._next_look:
                    self._next_look = self._clock() + SECONDS_BETWEEN_LOOKS
                    self._look(self._path)
        return self._patterns

    def _look(self, path: Path) -> None:
        state = state_of(path)
        if state == self._state or (state is not None and self._is_being_written(state)):
            return
        try:
            patterns = self._read(path)
        except MalformedListError as error:
            _LOG.warning("List not reloaded, the old one stays in use: %s", error.fact)
        else:
            if state_of(path) != state:
                return
            is_changed = patterns != self._patterns
            if self._state != () or is_changed:
                _LOG.info("Reading %s", quoted(path))
            if is_changed:
                # Otherwise a fleet's names would be in memory twice, because the settings keep the first ones.
                self._patterns = patterns
        self._state = state

    def _is_being_written(self, state: _State) -> bool:
        return 0 <= self._now() - state[-1] / 1e9 < _SETTLING_SECONDS


class WatchedLists:
    """The operator's lists, read again when their files change. Thread-safe.

    Args:
        denied: DENIED_SENDERS from the settings; None if it is not set.
        allowed: ALLOWED_SENDERS from the settings; None if it is not set.
        binding_required: REQUIRE_BINDING from the settings; None if it is not set.
        secrecy_required: REQUIRE_FORWARD_SECRECY from the settings; None if it is not set.
    """

    def __init__(
        self,
        denied: NamePatterns | None = None,
        allowed: NamePatterns | None = None,
        binding_required: NamePatterns | None = None,
        secrecy_required: NamePatterns | None = None,
    ) -> None:
        self._denied = None if denied is None else WatchedPatterns(denied, read_list)
        self._allowed = None if allowed is None else WatchedPatterns(allowed)
        self._binding_required = None if binding_required is None else WatchedPatterns(binding_required)
        self._secrecy_required = None if secrecy_required is None else WatchedPatterns(secrecy_required)
        self._lists = SenderLists(denied, allowed, binding_required, secrecy_required)

    def current(self) -> SenderLists:
        """Return the current lists, the same object until one changes; checks each file at most once a second."""
        denied = None if self._denied is None else self._denied.current()
        allowed = None if self._allowed is None else self._allowed.current()
        binding_required = None if self._binding_required is None else self._binding_required.current()
        secrecy_required = None if self._secrecy_required is None else self._secrecy_required.current()
        lists = self._lists
        if (
            denied is not lists.denied
            or allowed is not lists.allowed
            or binding_required is not lists.binding_required
            or secrecy_required is not lists.secrecy_required
        ):
            lists = self._lists = SenderLists(denied, allowed, binding_required, secrecy_required)
        return lists


def _read_lines(path: Path) -> list[str]:
    try:
        content = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise MalformedListError(f"{quoted(path)} cannot be read: {error.strerror}", _HINT) from error
    try:
        return content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MalformedListError(f"{quoted(path)} line {line}: it is not UTF-8", _HINT) from error


def _check(word: str, path: Path, line: int) -> None:
    try:
        NamePatterns((word,))
    except MalformedNameError as error:
        raise MalformedListError(f"{quoted(path)} line {line}: {error.fact}", _HINT) from error
