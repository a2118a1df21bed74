"""Copies an SQLite file's write-ahead log (WAL) into the file while other threads use the file.

SQLite would do so within a commit, while every other thread waits for the connection. With a connection of its own, a
passive checkpoint (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint) makes no reader or writer wait.
"""

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Final

# Enough for the pages on the way to the schema: a copy needs no cache.
_CACHED_PAGES: Final = 10


class LogCopier:
    """A second connection to a file. The first one must be opened before it and closed after it."""

    def __init__(self) -> None:
        # While a copy runs, the connection cannot be closed.
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def open(self, path: Path) -> None:
        """Connect to a file.

        Args:
            path: The file; another connection of this process has it open.

        Raises:
            sqlite3.Error: The file cannot be opened.
        """
        with self._lock, contextlib.ExitStack() as stack:
            # Must not create a file, if another program has moved it away.
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                check_same_thread=False,
                isolation_level=None,
            )
            stack.callback(connection.close)
            connection.execute(f"PRAGMA cache_size = {_CACHED_PAGES}")
            connection.execute("PRAGMA synchronous = FULL")
            # SQLite opens the WAL when the file is first read.
            connection.execute("PRAGMA schema_version").fetchone()
            stack.pop_all()
            self._opened = connection

    def close(self) -> None:
        """Wait for a copy that is running, and disconnect; do nothing if there is no connection."""
        with self._lock:
            connection, self._opened = self._opened, None
            if connection is not None:
                connection.close()

    def copy(self) -> None:
        """Copy as much of the WAL as is committed; do nothing if there is no connection.

        Raises:
            sqlite3.Error: The file or the WAL cannot be read or written.
        """
        with self._lock:
            if self._opened is not None:
                self._opened.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
