"""What tests of receivers that share a database need: their leases, and waiting for a lock."""

import time
from collections.abc import Callable

from idlib.storage.postgresql.connection import PostgresDatabase, Statements
from idlib.storage.postgresql.leases import Leases, new_holder
from idlib.system.clock import boot_time


def taken_leases(database: PostgresDatabase, boot_clock: Callable[[], float] = boot_time) -> Leases:
    """Return the leases of another receiver, which has taken one to subscribe with."""
    leases = Leases(database, new_holder(), new_holder, boot_clock)
    leases.prepare()
    leases.take()
    return leases


def wait_for_a_waiting_statement(statements: Statements) -> None:
    """Return once a statement of another connection waits for a lock."""
    while not statements.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
        time.sleep(0.01)
