"""Writes content of messages to files whose names no sender can choose."""

import hashlib
import itertools
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import DIRECTORY_MODE, make_durable, replace_durably
from messaging_receiver.queue_items import ReceivedMessage

# What a file manager would run or a browser would interpret is not among them.
_SUFFIXES: Final = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
}
_OTHER_SUFFIX: Final = ".bin"
_DIGEST_CHARACTERS: Final = 32


class MessageDirectory:
    """A directory of messages, one file for each; only their owner has access to them.

    Args:
        path: The directory; created if it is missing, but its parent must exist.

    Raises:
        StoreError: It cannot be created, or this user may not write there.
    """

    def __init__(self, path: Path) -> None:
        # So that the printed names stay valid wherever they are read.
        self._path = path.absolute()
        try:
            self._path.mkdir(DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the directory {quoted(path)} cannot be created: {error.strerror}") from error
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise StoreError(f"the directory {quoted(path)} is read-only for this user", "choose another one")

    def __len__(self) -> int:
        """Return how many entries the directory has.

        Raises:
            StoreError: It cannot be read.
        """
        return self.count("")

    def count(self, suffix: str) -> int:
        """Return how many entries the directory has whose names have a certain end.

        Args:
            suffix: The end.

        Raises:
            StoreError: It cannot be read.
        """
        try:
            return sum(entry.name.endswith(suffix) for entry in self._path.iterdir())
        except OSError as error:
            raise self._error(error) from error

    def save(self, message: ReceivedMessage, content: bytes, suffix: str) -> Path:
        """Write a message to a file of its own, durably, and return the file; an existing file is never changed.

        If the same message was written before, and its file is still there, that file is returned.

        Args:
            message: The message, which determines the name of the file.
            content: What to write.
            suffix: The end of the name.

        Raises:
            StoreError: It cannot be written; there is no file then.
        """
        try:
            for path in self._names(message, content, suffix):
                if not os.path.lexists(path):
                    replace_durably(path, content)
                elif not _has(path, content):
                    continue
                # If the last run was killed before it could.
                make_durable(self._path)
                return path
        except OSError as error:
            raise self._error(error) from error
        raise AssertionError("there is always a next name")

    def _names(self, message: ReceivedMessage, content: bytes, suffix: str) -> "itertools.chain[Path]":
        seconds = message.received_at if message.sent_at is None else message.sent_at
        identity = f"{message.sender}\0{message.identifier}\0".encode(errors="surrogatepass")
        digest = hashlib.sha256(identity + content).hexdigest()[:_DIGEST_CHARACTERS]
        name = f"{_compact(seconds)}-{digest}"
        others = (self._path / f"{name}-{number}{suffix}" for number in itertools.count(2))
        return itertools.chain([self._path / f"{name}{suffix}"], others)

    def _error(self, error: OSError) -> StoreError:
        return StoreError(f"the directory {quoted(self._path)} cannot be used: {error.strerror}")


def suffix_of(content_type: str) -> str:
    """Return the end of a file's name for a media type: one of a fixed list, whatever the type is.

    Args:
        content_type: The media type, which the sender has chosen.
    """
    return _SUFFIXES.get(content_type.partition(";")[0].strip().lower(), _OTHER_SUFFIX)


def _compact(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    # Unlike strftime, it always writes four digits of the year.
    text = moment.replace(tzinfo=None).isoformat(timespec="seconds")
    return f"{text.replace('-', '').replace(':', '')}Z"


def _has(path: Path, content: bytes) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == len(content) and path.read_bytes() == content
