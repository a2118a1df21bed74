"""Opens the outbox: a file in DATA_PATH, or the database in STORE."""

from idlib.errors import ConfigurationError, StoreError
from idlib.settings import Settings
from idlib.storage import outbox, watching
from idlib.storage.queued import OutboxStore


def open_outbox(settings: Settings) -> OutboxStore:
    """Return the outbox, opened to queue messages.

    Args:
        settings: STORE, STORE_PASSWORD_FILE and DATA_PATH are used.

    Raises:
        ConfigurationError: The file in STORE_PASSWORD_FILE cannot be read, or the library for STORE is not installed.
        StoreError: The file or the database cannot be used.
    """
    if settings.store is None:
        return outbox.Outbox(settings.data_path)
    # Imported late, because most devices have no database.
    from idlib.storage.postgresql.outbox import PostgresOutbox

    return PostgresOutbox.from_settings(settings)


def is_to_be_opened(settings: Settings) -> bool:
    """Return whether there is an outbox; True if that cannot be found out without opening it.

    Args:
        settings: STORE and DATA_PATH are used.
    """
    return settings.store is not None or outbox.is_to_be_opened(settings.data_path)


def is_watched(settings: Settings) -> bool:
    """Return whether a resident sender delivers from the outbox; True if that cannot be found out.

    Args:
        settings: STORE, STORE_PASSWORD_FILE and DATA_PATH are used.
    """
    if settings.store is None:
        return watching.is_watched(settings.data_path)
    from idlib.storage.postgresql.outbox import PostgresOutbox

    try:
        with PostgresOutbox.from_settings(settings) as opened:
            return opened.has_senders()
    except (ConfigurationError, StoreError):
        return True
