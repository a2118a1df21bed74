"""A connection to the database that is made again after it is lost, and knows whether a commit has succeeded."""

import contextlib
import importlib
import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from idlib.errors import ConfigurationError, DatabaseError, StoreError
from idlib.settings import Settings
from idlib.settings.named_files import read_password
from idlib.settings.store_urls import StoreUrl

if TYPE_CHECKING:
    import psycopg

_LOG = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 5
# A server that does not answer is noticed within about so many seconds.
_SILENCE_SECONDS: Final = 10
# For how long the outcome of a commit is asked for, and how long to wait between two attempts.
_OUTCOME_SECONDS: Final = 5.0
_OUTCOME_PAUSE_SECONDS: Final = 0.1
# A receiver that ends does not wait for a server that does not answer; the system closes the connection.
_CLOSE_SECONDS: Final = 0.2
_LOGIN_FAILURES: Final = ("authentication failed", "no password supplied", "role ", "no pg_hba.conf entry")
# The table or sequence that the user may not use, in the server's message.
_DENIED: Final = re.compile(r'permission denied for (?:table|sequence) "?([^"\s]+)')
_OWNER: Final = """\
SELECT quote_ident(pg_get_userbyid(relowner)), quote_ident(current_user), quote_ident(nspname)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = ? AND nspname = current_schema()
"""
# What psycopg and libpq put before the cause of a failed connection. Of several servers, it names the one that failed.
_CONNECTION: Final = re.compile(r"connection (failed|is bad): ")
_SERVER: Final = re.compile(r'connection to server at "[^"]*"( \([^)]*\))?, port \d+ failed: (FATAL: +)?')
_SCHEMA_LOCK: Final = 0x44414E45
# The server's own settings may be weaker. A receiver that hangs must not block the others, nor the removal of old rows.
_SESSION: Final = (
    "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '10s';"
    " SET statement_timeout = '60s'; SET TIME ZONE 'UTC'"
)


class Statements:
    """Runs statements in a transaction; parameters are written as `?`, as in SQLite.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = ()) -> "psycopg.Cursor[tuple[Any, ...]]":
        """Run a statement and return its rows.

        Args:
            statement: In SQL, without `?` other than for parameters.
            values: The parameters.
        """
        if not values:
            return self._connection.execute(statement.encode())
        return self._connection.execute(_translated(statement).encode(), tuple(values))

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> "psycopg.Cursor[tuple[Any, ...]]":
        """Run a statement once for each row of parameters.

        Args:
            statement: As for `execute`.
            rows: The parameters.
        """
        cursor = self._connection.cursor()
        cursor.executemany(_translated(statement).encode(), [tuple(row) for row in rows])
        return cursor


class PostgresDatabase:
    """One connection to the database. Any number of threads may use it; each waits until the one before is done.

    Every method may raise `DatabaseError`; what a transaction has changed is then undone. After `UnknownOutcomeError`
    it may have been committed, so every operation must be such that repeating it changes nothing more.

    Args:
        url: The address of the database.
        password: The password there; None if there is none, or libpq finds it elsewhere.
    """

    def __init__(self, url: StoreUrl, password: str | None = None) -> None:
        self._url = url
        self._password = password
        self._psycopg = _import_psycopg()
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._is_closed = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return a connection to the database in STORE, which must be set; it is made when it is first used.

        Args:
            settings: From the environment.

        Raises:
            ConfigurationError: The file in STORE_PASSWORD_FILE cannot be read, or the library is not installed.
        """
        assert settings.store is not None  # noqa: S101  # as documented
        return cls(settings.store, read_password("STORE_PASSWORD_FILE", settings.store_password_file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """Host and database, for log lines and errors."""
        return self._url.place

    def another(self) -> Self:
        """Return another connection to the same database, for a thread that must not wait for the users of this one."""
        return type(self)(self._url, self._password)

    def close(self) -> None:
        """Close the connection, unless a thread waits for the server; it cannot be used afterwards."""
        self._is_closed = True
        if self._lock.acquire(timeout=_CLOSE_SECONDS):
            try:
                self._disconnect()
            finally:
                self._lock.release()

    def prepare(self, part: str, version: int, schema: str) -> None:
        """Create the tables of a part, unless they exist.

        Args:
            part: The name of the part.
            version: The version of its tables.
            schema: The statements that create them if they are missing.

        Raises:
            StoreError: A newer version of this software has created them, or the database cannot be used.
        """
        with self.transaction() as statements:
            # Several receivers may start at the same moment, and CREATE TABLE IF NOT EXISTS is not atomic.
            statements.execute("SELECT pg_advisory_xact_lock(?)", (_SCHEMA_LOCK,))
            statements.execute("CREATE TABLE IF NOT EXISTS part (name text PRIMARY KEY, version integer NOT NULL)")
            row = statements.execute("SELECT version FROM part WHERE name = ?", (part,)).fetchone()
            if row is not None and row[0] > version:
                raise StoreError(
                    f"a newer version of this software has written the tables for {part} in the database {self.place}",
                    "use that version, or set STORE to another database",
                )
            if row is None:
                statements.execute(schema)
                statements.execute("INSERT INTO part VALUES (?, ?)", (part, version))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Statements]:
        """Run the block in a transaction, which is durable afterwards; nothing has changed if the block raises.

        Each statement sees what others have committed before it (READ COMMITTED).

        Raises:
            UnknownOutcomeError: The connection was lost while the transaction was committed, and the server cannot be
                asked if it was.
            DatabaseError: The database cannot be used.
        """
        with self._using() as connection:
            try:
                yield Statements(connection)
                row = connection.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
                self._commit(connection, None if row is None else row[0])
            except BaseException:
                self._roll_back(connection)
                raise

    @contextlib.contextmanager
    def separately(self) -> Iterator[Statements]:
        """Run the block without a transaction: each statement is one by itself, and takes only one round trip.

        Raises:
            DatabaseError: The database cannot be used; the last statement may have been committed nevertheless.
        """
        with self._using() as connection:
            connection.autocommit = True
            try:
                yield Statements(connection)
            finally:
                if not connection.closed:
                    connection.autocommit = False

    @contextlib.contextmanager
    def _using(self) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
        with self._lock, self._translating_errors():
            try:
                yield self._current_connection()
            finally:
                if self._is_closed:
                    # `close` has not waited for this thread.
                    self._disconnect()

    def _commit(self, connection: "psycopg.Connection[tuple[Any, ...]]", number: str | None) -> None:
        try:
            connection.commit()
        except self._psycopg.OperationalError as error:
            if number is None:
                # Nothing has changed.
                raise
            if not self._was_committed(number, error):
                raise

    def _was_committed(self, number: str, error: Exception) -> bool:
        """Return whether a transaction was committed although the connection was lost before the server said so.

        Args:
            number: The transaction's number.
            error: How the connection was lost.
        """
        deadline = time.monotonic() + _OUTCOME_SECONDS
        while True:
            with contextlib.suppress(self._psycopg.Error):
                self._disconnect()
                connection = self._current_connection()
                row = connection.execute("SELECT pg_xact_status(%s::xid8)", (number,)).fetchone()
                connection.rollback()
                # While it is in progress, the server has not noticed that the connection is lost.
                if row is not None and row[0] != "in progress":
                    _LOG.debug("transaction %s was %s", number, row[0])
                    return bool(row[0] == "committed")
            if time.monotonic() >= deadline:
                raise UnknownOutcomeError(
                    f"the database {self.place} was lost during a commit: {_first_line(error)}",
                    "the receiver repeats the write as soon as the database can be used",
                ) from error
            time.sleep(_OUTCOME_PAUSE_SECONDS)

    def _current_connection(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self._is_closed:
            raise DatabaseError(f"the connection to the database {self.place} is closed")
        if self._connection is None or self._connection.closed:
            connection = self._psycopg.connect(
                self._url.text,
                password=self._password,
                connect_timeout=_CONNECT_SECONDS,
                keepalives_idle=_SILENCE_SECONDS // 2,
                keepalives_interval=1,
                keepalives_count=_SILENCE_SECONDS // 2,
                tcp_user_timeout=_SILENCE_SECONDS * 1000,
                application_name="dane-messenger",
                # By default it is that of the database, and of SQL_ASCII psycopg decodes nothing.
                client_encoding="UTF8",
            )
            try:
                connection.execute(_SESSION)
                connection.commit()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _roll_back(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        try:
            if not connection.closed:
                connection.rollback()
        except self._psycopg.Error:
            self._disconnect()

    @contextlib.contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            hint = self._hint_of_owner(error) or _hint_for(self._psycopg, error)
            raise self._kind(error)(f"the database {self.place} cannot be used: {self._cause(error)}", hint) from error

    def _kind(self, error: Exception) -> type[DatabaseError]:
        if isinstance(error, _conflicts(self._psycopg)):
            return ConflictError
        return LoginError if _is_login_failure(self._psycopg, error) else DatabaseError

    def _hint_of_owner(self, error: Exception) -> str:
        """Return what to run if the table belongs to another role; empty if that is not the error."""
        denied = _DENIED.search(str(error))
        connection = self._connection
        if denied is None or connection is None:
            return ""
        with contextlib.suppress(self._psycopg.Error):
            row = Statements(connection).execute(_OWNER, denied.groups()).fetchone()
            connection.rollback()
            if row is not None:
                return hint_of_owner(*row)
        return ""

    def _cause(self, error: Exception) -> str:
        # The place stands before it, and `--health` has room for the beginning of the line only.
        cause = _CONNECTION.sub("", _first_line(error), 1)
        return cause if "," in self.place else _SERVER.sub("", cause, 1)


class UnknownOutcomeError(DatabaseError):
    """The connection was lost while a transaction was committed, and the server cannot be asked if it was."""


class LoginError(DatabaseError):
    """The server answers, and does not accept the user in STORE or its password."""


class ConflictError(DatabaseError):
    """Another transaction has changed the same rows at the same moment; the database works, and a new attempt too."""


def _import_psycopg() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise ConfigurationError(
            f"Error: STORE needs psycopg, which cannot be imported ({error}); install dane-mqtt-messenger[postgresql]"
        ) from error


def _translated(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _conflicts(psycopg: Any) -> Any:
    return psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected


def hint_of_owner(owner: str, user: str, schema: str) -> str:
    """Return what to do about tables that belong to another role than the user in STORE.

    Args:
        owner: The role, quoted for SQL.
        user: The user, quoted for SQL.
        schema: The schema of the tables, quoted for SQL.
    """
    return (
        f"the tables belong to the role {owner}: use that one in STORE, or let it run in this database: GRANT ALL ON"
        f" ALL TABLES IN SCHEMA {schema} TO {user}; GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {user}"
    )


def _is_login_failure(psycopg: Any, error: Exception) -> bool:
    errors = psycopg.errors
    # While it connects, libpq passes on only a text.
    return isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification) or (
        isinstance(error, psycopg.OperationalError) and any(text in str(error) for text in _LOGIN_FAILURES)
    )


def _hint_for(psycopg: Any, error: Exception) -> str:
    """Return what a user can do about an error of the database."""
    errors = psycopg.errors
    if isinstance(error, _conflicts(psycopg)):
        return "try again: another program changed the same rows at the same moment"
    if isinstance(error, errors.InsufficientPrivilege):
        return "let the user in STORE create tables: GRANT CREATE ON SCHEMA public TO the user"
    if _is_login_failure(psycopg, error):
        return "check the user in STORE, and STORE_PASSWORD_FILE"
    if isinstance(error, errors.LockNotAvailable):
        return "another program holds a lock in this database: see pg_locks, and who may connect (docs/scaling.md)"
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return "this server is a standby: add target_session_attrs=read-write and all hosts to STORE"
    if isinstance(error, errors.DiskFull):
        return "free space on the disk of the database server"
    return "check STORE, and that the database server runs"
