"""For how long the system has run in all boots, as the receiver counts it, for another program."""

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from idlib.errors import StoreError, quoted
from idlib.settings import Settings
from idlib.storage.clock_facts import FACT, ClockFacts
from idlib.storage.replay import FILE_NAME
from idlib.system import clock

_SECONDS: Final = 10.0


def elapsed_of(settings: Settings) -> float:
    """Return for how many seconds the system, or any receiver of the device's name, has run.

    Args:
        settings: The settings from the environment. With STORE, the receivers count in the database.

    Raises:
        StoreError: The database, or the file under DATA_PATH, cannot be read.
        ConfigurationError: The settings for the database cannot be used.
    """
    if settings.store is None:
        return elapsed(settings.data_path)
    # Imported late, because most devices have no database.
    from idlib.storage.postgresql.connection import PostgresDatabase
    from idlib.storage.postgresql.epoch_readers import read_elapsed

    with PostgresDatabase.from_settings(settings) as database:
        return read_elapsed(database)


def elapsed(data_path: Path) -> float:
    """Return for how many seconds the system has run, as `idlib.timekeeping.Timekeeper.elapsed` counts it.

    The receiver may be using the file, from which one value is read.

    Args:
        data_path: DATA_PATH.

    Raises:
        StoreError: The file cannot be read.
    """
    up = clock.boot_time()
    facts = ClockFacts.from_text(_fact(data_path / FILE_NAME))
    if facts.boot == clock.boot() and facts.up <= up:
        return facts.elapsed + up - facts.up
    return facts.elapsed + up


def _fact(path: Path) -> str | None:
    if not path.exists():
        # The receiver has not been started yet, so it begins to count with this start of the system.
        return None
    try:
        # Never created, but with permission to write, which SQLite needs to read a file with a log.
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=_SECONDS)
        try:
            row = connection.execute("SELECT value FROM fact WHERE name = ?", (FACT,)).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(
            f"{quoted(path)} cannot be read: {error}", "run this as the user of the receiver, and start the receiver"
        ) from error
    return None if row is None else str(row[0])
