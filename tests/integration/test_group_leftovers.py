"""The search at the end of `python -m chaos.group` finds what a group has left at the broker and in its database."""

import socket
import time

import pytest

from chaos.group import leftovers
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.postgresql import Postgresql
from testbed.lab import wait_until
from testbed.raw_mqtt import RawClient, connect_packet
from tests.integration.kept_session import keep_session

_TABLES = (
    "CREATE TABLE receiver (client_id text PRIMARY KEY); CREATE TABLE claim (sender text);"
    " CREATE TABLE waiting (number bigint)"
)


def keep(broker: Mosquitto, client_id: str) -> None:
    """Create a session that outlives its connection, and wait until the broker's log says that this has ended."""
    end = f"Client {client_id} disconnected.\n"
    before = broker.log.read_text().count(end)
    keep_session(broker, client_id, f"topic/{client_id}")
    wait_until(lambda: broker.log.read_text().count(end) > before, "end in the log")


def test_sessions_that_no_lease_names_and_messages_in_any_session_are_found(own_mosquitto: Mosquitto) -> None:
    for client_id in ("leased", "full", "forgotten"):
        keep(own_mosquitto, client_id)
    with RawClient(own_mosquitto.port) as publisher:
        publisher.publish("topic/full", b"a")
    found = leftovers.at_broker(own_mosquitto.port, own_mosquitto.log, ("leased", "full"))
    assert found == (
        "a session left at the broker, without a lease: forgotten",
        "1 messages or more left at the broker in the session of full",
    )
    assert leftovers.at_broker(own_mosquitto.port, own_mosquitto.log, ()) == ()


def test_a_session_that_was_ended_just_before_the_broker_was_killed_is_excused(own_mosquitto: Mosquitto) -> None:
    for client_id in ("empty", "full"):
        keep(own_mosquitto, client_id)
    now = time.time()
    with RawClient(own_mosquitto.port) as publisher:
        publisher.publish("topic/full", b"a")
    found = leftovers.at_broker(own_mosquitto.port, own_mosquitto.log, (), [now])
    assert found == ("1 messages or more left at the broker in the session of full",)
    keep(own_mosquitto, "empty")
    found = leftovers.at_broker(own_mosquitto.port, own_mosquitto.log, (), [now - 60, now + 60])
    assert found == ("a session left at the broker, without a lease: empty",)


def test_an_empty_session_whose_connection_broke_is_excused(own_mosquitto: Mosquitto) -> None:
    for client_id in ("empty", "full"):
        keep(own_mosquitto, client_id)
        expiry = b"\x11" + (3600).to_bytes(4)
        broken = connect_packet(client_id, properties=expiry, flags=0)
        with socket.create_connection(("127.0.0.1", own_mosquitto.port)) as connection:
            connection.sendall(broken)
            assert connection.recv(4096)
    with RawClient(own_mosquitto.port) as publisher:
        publisher.publish("topic/full", b"a")
    found = leftovers.at_broker(own_mosquitto.port, own_mosquitto.log, ())
    assert found == ("1 messages or more left at the broker in the session of full",)


@pytest.fixture
def database(postgresql: Postgresql) -> str:
    database = postgresql.new_database()
    postgresql.run(_TABLES, database)
    return database


def test_rows_that_no_receiver_needs_are_found(postgresql: Postgresql, database: str) -> None:
    postgresql.run("INSERT INTO receiver VALUES ('one')", database)
    assert leftovers.in_database(postgresql, database) == ()
    postgresql.run("INSERT INTO receiver VALUES ('other')", database)
    postgresql.run("INSERT INTO claim VALUES ('a'), ('b'); INSERT INTO waiting VALUES (1)", database)
    assert leftovers.in_database(postgresql, database) == (
        "2 claims of messages left in the database",
        "1 messages that wait left in the database",
        "2 leases left instead of that of the last receiver: one other",
    )


def test_a_group_whose_last_lease_is_gone_has_failed(postgresql: Postgresql, database: str) -> None:
    assert leftovers.in_database(postgresql, database) == ("0 leases left instead of that of the last receiver: ",)
