"""Lists of names in files: read with the line that is wrong, and read again when the file changes."""

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
    """What the operator has listed at one moment.

    Args:
        denied: Senders that are refused (DENIED_SENDERS); None for nobody.
        allowed: Senders that are accepted (ALLOWED_SENDERS); None for everybody.
        binding_required: Senders whose messages must be bound (REQUIRE_BINDING); None for nobody.
    """

    denied: NamePatterns | None = None
    allowed: NamePatterns | None = None
    binding_required: NamePatterns | None = None

    def check(self, sender: IdentityName) -> None:
        """Accept a sender that the operator listens to; DENIED_SENDERS is asked first.

        Raises:
            Refusal: The operator does not listen to it; the fact says which list decides.
        """
        if self.denied is not None and self.denied.match(sender):
            raise Refusal(Reason.SENDER_NOT_ALLOWED, f"{sender} is in DENIED_SENDERS")
        if self.allowed is not None and not self.allowed.match(sender):
            raise Refusal(Reason.SENDER_NOT_ALLOWED, f"{sender} is not in ALLOWED_SENDERS")

    def names_exactly(self, sender: IdentityName) -> bool:
        """Return whether ALLOWED_SENDERS has this very name, and DENIED_SENDERS does not match it."""
        is_denied = self.denied is not None and self.denied.match(sender)
        return not is_denied and self.allowed is not None and self.allowed.lists(sender)

    def requires_binding(self, sender: IdentityName) -> bool:
        """Return whether a message of this sender must be bound."""
        return self.binding_required is not None and self.binding_required.match(sender)


def read_list(path: Path) -> NamePatterns:
    """Return the names and patterns in a file; there may be none.

    Args:
        path: A text file in UTF-8. Commas and white space separate; `#` begins a comment that ends with its line.

    Raises:
        MalformedListError: The file cannot be read or holds something else; the fact names the file and the line.
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
    """Return the names and patterns in a file, at least one.

    Raises:
        MalformedListError: As `read_list` does, and if there are none.
    """
    patterns = read_list(path)
    if not patterns.texts:
        raise MalformedListError(f"{quoted(path)} contains no names", _HINT)
    return patterns


class WatchedPatterns:
    """Patterns that are read again when the file that they come from changes; for any number of threads.

    If a file cannot be read or is malformed, the patterns that were read before stay in use, and one line is logged.

    Args:
        patterns: As the settings have read them; without a source they never change.
        read: Reads the file.
        clock: Seconds that never run backwards.
        now: Seconds since the epoch, to be compared with the time of a file.
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
        # Unknown, so that the first look finds what has changed since the settings were read.
        self._state: _State | None = ()
        self._next_look = clock()

    def current(self) -> NamePatterns:
        """Return the patterns as the file holds them; it is looked at once a second at most."""
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
            if self._state != () or patterns != self._patterns:
                _LOG.info("Reading %s", quoted(path))
            self._patterns = patterns
        self._state = state

    def _is_being_written(self, state: _State) -> bool:
        return 0 <= self._now() - state[-1] / 1e9 < _SETTLING_SECONDS


class WatchedLists:
    """The operator's lists as their files hold them now; for any number of threads.

    Args:
        denied: DENIED_SENDERS as the settings have read it; None if it is not set.
        allowed: ALLOWED_SENDERS, in the same way.
        binding_required: REQUIRE_BINDING, in the same way.
    """

    def __init__(
        self,
        denied: NamePatterns | None = None,
        allowed: NamePatterns | None = None,
        binding_required: NamePatterns | None = None,
    ) -> None:
        self._denied = None if denied is None else WatchedPatterns(denied, read_list)
        self._allowed = None if allowed is None else WatchedPatterns(allowed)
        self._binding_required = None if binding_required is None else WatchedPatterns(binding_required)

    def current(self) -> SenderLists:
        """Return the lists; each file is looked at once a second at most."""
        return SenderLists(
            None if self._denied is None else self._denied.current(),
            None if self._allowed is None else self._allowed.current(),
            None if self._binding_required is None else self._binding_required.current(),
        )


def _read_lines(path: Path) -> list[str]:
    try:
        octets = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise MalformedListError(f"{quoted(path)} cannot be read: {error.strerror}", _HINT) from error
    try:
        return octets.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise MalformedListError(f"{quoted(path)} line {line}: it is not UTF-8", _HINT) from error


def _check(word: str, path: Path, line: int) -> None:
    try:
        NamePatterns((word,))
    except MalformedNameError as error:
        raise MalformedListError(f"{quoted(path)} line {line}: {error.fact}", _HINT) from error
