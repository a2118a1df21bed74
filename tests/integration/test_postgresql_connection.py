"""The connection to the database, with a real server that is killed."""

import contextlib
import socket
import threading
from typing import Self

import psycopg
import pytest

from idlib.errors import StoreError
from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql.connection import PostgresDatabase, UnknownOutcomeError
from idlib.storage.postgresql.replay import PostgresReplay
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import LOOPBACK, free_port

_SCHEMA = "CREATE TABLE note (number bigint PRIMARY KEY, text text)"
_SLOW_COMMITS = """\
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION be_slow()
"""


@pytest.fixture
def store(postgresql: Postgresql) -> str:
    return postgresql.new_database()


def _open(url: str) -> PostgresDatabase:
    database = PostgresDatabase(read_store_url(url))
    database.prepare("notes", 1, _SCHEMA)
    return database


def test_what_was_committed_is_there_after_a_new_connection(store: str) -> None:
    with _open(store) as database, database.transaction() as statements:
        statements.execute("INSERT INTO note VALUES (?, ?)", (1, "100 %"))
    with _open(store) as database, database.transaction() as statements:
        assert statements.execute("SELECT text FROM note WHERE number = ?", (1,)).fetchall() == [("100 %",)]


def test_a_block_that_raises_changes_nothing(store: str) -> None:
    def run(database: PostgresDatabase) -> None:
        with database.transaction() as statements:
            statements.execute("INSERT INTO note VALUES (1, 'one')")
            raise ValueError("reason")

    with _open(store) as database:
        with pytest.raises(ValueError, match="reason"):
            run(database)
        with database.transaction() as statements:
            assert statements.execute("SELECT count(*) FROM note").fetchone() == (0,)


def test_receivers_may_create_the_tables_at_the_same_moment(store: str) -> None:
    threads = [threading.Thread(target=lambda: _open(store).close()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with _open(store) as database, database.transaction() as statements:
        assert statements.execute("SELECT name, version FROM part").fetchall() == [("notes", 1)]


def test_tables_of_a_newer_version_are_left_alone(store: str) -> None:
    with _open(store) as database:
        database.prepare("things", 2, "CREATE TABLE thing (number bigint)")
        with pytest.raises(StoreError, match="a newer version"):
            database.prepare("things", 1, "")


def test_a_killed_server_is_used_again_once_it_runs(own_postgresql: Postgresql) -> None:
    with _open(own_postgresql.new_database()) as database:
        with database.transaction() as statements:
            statements.execute("INSERT INTO note VALUES (1, 'one')")
        with own_postgresql.away(), pytest.raises(StoreError, match="cannot be used"), database.transaction():
            pass
        with database.transaction() as statements:
            assert statements.execute("SELECT text FROM note").fetchall() == [("one",)]


@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "not-committed"])
def test_the_outcome_of_a_commit_is_asked_for_if_the_connection_is_lost(store: str, *, is_committed: bool) -> None:
    """The proxy ends the connection when it sees the commit: before or after the server gets it."""
    host, _, rest = store.partition("@")[2].partition(":")
    port, _, name = rest.partition("/")
    with _LosingProxy((host, int(port)), passes_commit=is_committed) as proxy:
        url = f"postgresql://receiver@{LOOPBACK}:{proxy.port}/{name}?sslmode=disable"
        with _open(url) as database:
            proxy.arm()
            if is_committed:
                with database.transaction() as statements:
                    statements.execute("INSERT INTO note VALUES (1, 'one')")
            else:
                with pytest.raises(StoreError, match="cannot be used"), database.transaction() as statements:
                    statements.execute("INSERT INTO note VALUES (1, 'one')")
            with database.transaction() as statements:
                assert statements.execute("SELECT count(*) FROM note").fetchone() == (int(is_committed),)


def test_the_outcome_of_a_commit_that_is_still_in_progress_is_waited_for(store: str, postgresql: Postgresql) -> None:
    with _LosingProxy((postgresql.host, postgresql.port), passes_commit=True) as proxy:
        url = f"postgresql://receiver@{LOOPBACK}:{proxy.port}/{store.rpartition('/')[2]}?sslmode=disable"
        with _open(url) as database:
            with database.transaction() as statements:
                statements.execute(_SLOW_COMMITS)
            proxy.arm(waits=False)
            with database.transaction() as statements:
                statements.execute("INSERT INTO note VALUES (1, 'one')")
            with database.transaction() as statements:
                assert statements.execute("SELECT count(*) FROM note").fetchone() == (1,)


def test_the_outcome_is_unknown_if_the_server_stays_away(own_postgresql: Postgresql) -> None:
    url = own_postgresql.new_database()
    with _LosingProxy((own_postgresql.host, own_postgresql.port), passes_commit=True) as proxy:
        place = f"postgresql://receiver@{LOOPBACK}:{proxy.port}/{url.rpartition('/')[2]}?sslmode=disable"
        with _open(place) as database:
            proxy.arm(stays_away=True)
            with (
                pytest.raises(UnknownOutcomeError, match="was lost during a commit"),
                database.transaction() as statements,
            ):
                statements.execute("INSERT INTO note VALUES (1, 'one')")


@pytest.mark.parametrize(("user", "fact"), [("nobody", 'role "nobody" does not exist'), ("receiver", "does not exist")])
def test_an_error_of_the_server_is_one_line(postgresql: Postgresql, user: str, fact: str) -> None:
    url = f"postgresql://{user}@{postgresql.address}/absent"
    with (
        PostgresDatabase(read_store_url(url)) as database,
        pytest.raises(StoreError, match=fact) as raised,
        database.transaction(),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_tables_of_another_role_are_named_and_what_to_run_helps(postgresql: Postgresql) -> None:
    store = postgresql.new_database()
    user = postgresql.new_role()
    postgresql.run(f"GRANT CREATE ON SCHEMA public TO {user}", store)
    with PostgresDatabase(read_store_url(store)) as database:
        PostgresReplay(database).set_fact("colour", "green")
    with PostgresDatabase(read_store_url(store.replace("receiver@", f"{user}@"))) as database:
        with pytest.raises(StoreError, match="permission denied for table part") as raised:
            PostgresReplay(database)
        assert raised.value.hint.startswith("the tables belong to the role receiver: use that one in STORE, or let it")
        postgresql.run(raised.value.hint.partition("in this database: ")[2], store)
        assert PostgresReplay(database).get_fact("colour") == "green"


def test_a_lock_that_another_program_holds_is_named_as_the_cause(postgresql: Postgresql) -> None:
    url = read_store_url(postgresql.new_database())
    take = "SELECT pg_advisory_xact_lock(1)"
    with PostgresDatabase(url) as database, PostgresDatabase(url) as other, other.transaction() as holding:
        holding.execute(take)
        with (
            pytest.raises(StoreError, match=r"lock timeout; another program holds a lock in this database"),
            database.transaction() as statements,
        ):
            statements.execute(f"SET LOCAL lock_timeout = '1ms'; {take}")


class _LosingProxy:
    """Passes connections on; once it is armed, it ends the connection that commits.

    Args:
        server: Where connections are passed on to.
        passes_commit: Whether the server gets the commit; the client never gets the answer.
    """

    def __init__(self, server: tuple[str, int], *, passes_commit: bool) -> None:
        self._server = server
        self._passes_commit = passes_commit
        self._is_armed = False
        self._stays_away = False
        self._waits = True
        self._answered = threading.Event()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def arm(self, *, stays_away: bool = False, waits: bool = True) -> None:
        """End the connection that commits next.

        Args:
            stays_away: Whether no other connection is accepted afterwards.
            waits: Whether the server has committed before the connection ends.
        """
        self._is_armed, self._stays_away, self._waits = True, stays_away, waits

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            losing = threading.Event()
            threading.Thread(target=self._pass_requests, args=(client, server, losing), daemon=True).start()
            threading.Thread(target=self._pass_answers, args=(server, client, losing), daemon=True).start()

    def _pass_requests(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        with client, server, contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._is_armed and b"COMMIT" in data:
                    self._is_armed = False
                    losing.set()
                    if self._stays_away:
                        # A listener that another thread waits at is closed only by a shutdown.
                        self._listener.shutdown(socket.SHUT_RDWR)
                    if self._passes_commit:
                        server.sendall(data)
                        self._answered.wait(10 if self._waits else 0)
                    server.shutdown(socket.SHUT_RDWR)
                    client.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)

    def _pass_answers(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if losing.is_set():
                    self._answered.set()
                    return
                client.sendall(data)


def test_the_cause_stands_directly_behind_the_name_of_the_database() -> None:
    place = f"{LOOPBACK}:{free_port()}/messages"
    with pytest.raises(StoreError) as raised:
        _open(f"postgresql://receiver@{place}")
    assert str(raised.value).startswith(f"the database {place} cannot be used: Connection refused; check STORE")


def test_the_advice_for_a_full_disk_is_to_free_space(store: str) -> None:
    with (
        _open(store) as database,
        pytest.raises(StoreError, match="No space left on device; free space on the disk of the database server"),
        database.transaction(),
    ):
        raise psycopg.errors.DiskFull("could not extend file: No space left on device")


def test_of_several_servers_the_one_that_failed_is_named() -> None:
    first, second = free_port(), free_port()
    with pytest.raises(StoreError, match=f"cannot be used: connection to server at .*port {second} failed: Connection"):
        _open(f"postgresql://receiver@{LOOPBACK}:{first},{LOOPBACK}:{second}/messages")
