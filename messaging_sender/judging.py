"""Checks if messages can be sent with the settings, before there is one to send."""

from collections.abc import Callable

from idlib.discovery import Discovery
from idlib.errors import ConfigurationError
from idlib.settings import Settings
from idlib.transport import Broker


def judge(settings: Settings) -> None:
    """Check that the settings are consistent and that the files they name can be used.

    Args:
        settings: From the environment.

    Raises:
        ConfigurationError: The settings or files cannot be used; lists all problems.
    """
    problems: list[str] = []
    makers: list[Callable[[Settings], object]] = [Broker.from_settings, Discovery.from_settings]
    if settings.store is not None:
        # Imported late, because most devices have no database.
        from idlib.storage.postgresql.connection import PostgresDatabase

        makers.append(PostgresDatabase.from_settings)
    for make in makers:
        try:
            make(settings)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
