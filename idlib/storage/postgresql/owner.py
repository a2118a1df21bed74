"""Whose database it is: both the receivers and the senders of a device have noted its name there."""

from typing import Final

from idlib.errors import StoreError
from idlib.storage.postgresql.connection import PostgresDatabase

# By the table in which it is noted, which a device that only sends, or only receives, does not have.
_NAMES: Final = {
    "fact": "SELECT value FROM fact WHERE name = 'identity_name'",
    "outgoing_owner": "SELECT name FROM outgoing_owner",
}


def check_owner(database: PostgresDatabase, ours: str) -> None:
    """Refuse the database of another device: its sender would sign our messages with its key, or we would sign its.

    Args:
        database: The database.
        ours: The name of this device.

    Raises:
        StoreError: It belongs to another name, or cannot be used.
    """
    with database.transaction() as statements:
        for table, statement in _NAMES.items():
            if statements.execute("SELECT to_regclass(?) IS NULL", (table,)).fetchall() == [(True,)]:
                continue
            row = statements.execute(statement).fetchone()
            if row is not None and row[0] != ours:
                raise StoreError(
                    f"the database {database.place} belongs to {row[0]}, and IDENTITY_NAME is {ours}",
                    "set STORE to another database",
                )
