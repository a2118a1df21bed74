"""Logs an outage of the database in STORE: one line when it begins, and one when it ends."""

import logging
from typing import Final

from idlib.errors import DatabaseError
from idlib.system.failure_log import FailureLog

_BEGUN: Final = "Messages wait for the database"


class DatabaseOutage:
    """Whether the database can be used; any number of threads may say so.

    Args:
        log: Receives the lines.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._failures = FailureLog(log)
        self._error = ""
        # Each thread notices with its next statement that its connection is lost, perhaps after others have made theirs
        # again.
        self._is_logged = False

    @property
    def problem(self) -> str | None:
        """Why the database cannot be used now; None if it can."""
        return None if self._failures.cause is None else self._error

    def begin(self, error: DatabaseError) -> None:
        """Note that the database cannot be used.

        Args:
            error: What has failed.
        """
        self._error = str(error)
        # The error changes in an outage, for example while the server starts; the outage is the same.
        if self._failures.begin(_BEGUN, f": {error}"):
            self._is_logged = True

    def end(self) -> None:
        """Note that the database can be used."""
        if self._failures.end() and self._is_logged:
            self._is_logged = False
            self._log.info("The database can be used again")
