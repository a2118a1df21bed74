"""Writes JSON on stderr: one object for each line of the log, and for each line that is printed there.

Every line is ASCII, because another encoding of stderr would replace characters in a way that is not JSON.
"""

import io
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, TextIO

from idlib.output import harmless, rfc3339

if TYPE_CHECKING:
    from threading import ExceptHookArgs

_NO_MEMBERS: Final[Mapping[str, object]] = MappingProxyType({})
# How an object begins that `line` has returned.
_BEGINNING: Final = '{"time": "'
# Of a line without an end; what follows becomes another object.
MAX_CHARACTERS: Final = 65_536


def line(seconds: float, level: str, message: str, members: Mapping[str, object] = _NO_MEMBERS) -> str:
    """Return a JSON object in ASCII, without a line break.

    Args:
        seconds: The time, since the epoch.
        level: `debug`, `info`, `warning` or `error`.
        message: The text.
        members: Further members, with names of ours; they follow the others and replace none of them.
    """
    first = {"time": rfc3339(seconds), "level": level, "message": message}
    return harmless(json.dumps({**first, **members, **first}))


class JsonFormatter(logging.Formatter):
    """Formats a record of the log as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object.

        Args:
            record: Its attribute `members`, if there is one, has further members.
        """
        members: dict[str, object] = {"logger": record.name, "thread": record.threadName}
        members.update(getattr(record, "members", _NO_MEMBERS))
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return line(record.created, record.levelname.lower(), record.getMessage(), members)


class JsonStderr(io.TextIOBase):
    """Stderr that turns each line of text into a JSON object. For any number of threads.

    Args:
        stream: Stderr itself.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        # Of each thread, because `print` writes a line and its end separately.
        self._begun = threading.local()

    def write(self, text: str) -> int:
        """Write the lines of a text; keep what follows the last line break until its line is complete.

        Args:
            text: The text.
        """
        *complete, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = ""
        for one in complete:
            self.write_object("info", one)
        while len(rest) > MAX_CHARACTERS:
            self.write_object("info", rest[:MAX_CHARACTERS])
            rest = rest[MAX_CHARACTERS:]
        self._begun.text = rest
        return len(text)

    def write_object(self, level: str, message: str, members: Mapping[str, object] = _NO_MEMBERS) -> None:
        """Write one object.

        Args:
            level: `debug`, `info`, `warning` or `error`.
            message: The text.
            members: Further members.
        """
        self.stream.write(f"{line(time.time(), level, message, members)}\n")
        self.stream.flush()

    def relay(self, lines: str) -> None:
        """Write lines of another program; those that are not such objects become the messages of some.

        Args:
            lines: They end with a line break.
        """
        for one in lines.splitlines():
            if _is_object(one):
                self.stream.write(f"{one}\n")
            else:
                self.write_object("info", one)

    def flush(self) -> None:
        """Flush stderr itself."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Return False: what is only for people is left out."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True


def write_json() -> None:
    """Write JSON on stderr from now on, also for errors that no program has caught."""
    if sys.stderr is None or isinstance(sys.stderr, JsonStderr):
        return
    sys.stderr = JsonStderr(sys.stderr)
    sys.excepthook = _write_exception
    threading.excepthook = _write_exception_of_thread


def json_handler(stderr: JsonStderr) -> logging.Handler:
    """Return a handler that writes the log as JSON.

    Args:
        stderr: Where to.
    """
    handler = logging.StreamHandler(stderr.stream)
    handler.setFormatter(JsonFormatter())
    return handler


def _is_object(text: str) -> bool:
    if not text.startswith(_BEGINNING):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _write_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    members = {"traceback": "".join(traceback.format_exception(kind, error, trace))}
    stderr = sys.stderr
    if isinstance(stderr, JsonStderr):
        stderr.write_object("error", "Internal error", members)


def _write_exception_of_thread(arguments: "ExceptHookArgs") -> None:
    if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
        _write_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
