"""What a group has left in its database and at the broker."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from testbed.daemons.postgresql import Postgresql
from testbed.raw_mqtt import RawClient, connect_packet

_CONNECTED: Final = re.compile(r"New client connected from \S+ as (\S+) \(p\d, c(\d)")
_DISCONNECTED: Final = re.compile(r"(\d+): Client (\S+) disconnected\.$")
# The log has whole seconds.
_UNSAVED_SECONDS: Final = 2.0
_TYPE: Final = 0xF0
_PUBLISH: Final = 0x30
_QUIET_SECONDS: Final = 0.5


def in_database(postgresql: Postgresql, database: str) -> tuple[str, ...]:
    """Return what the database holds although no receiver runs: a line for each table that should be empty.

    Args:
        postgresql: The server.
        database: The value of STORE.
    """
    lines = []
    for table, what in (("claim", "claims of messages"), ("waiting", "messages that wait")):
        number = int(postgresql.run(f"SELECT count(*) FROM {table}", database))
        if number:
            lines.append(f"{number} {what} left in the database")
    leases = leased_client_ids(postgresql, database)
    if len(leases) != 1:
        lines.append(f"{len(leases)} leases left instead of that of the last receiver: {' '.join(leases)}")
    return tuple(lines)


def leased_client_ids(postgresql: Postgresql, database: str) -> tuple[str, ...]:
    """Return the client ids in the table of leases.

    Args:
        postgresql: The server.
        database: The value of STORE.
    """
    return tuple(postgresql.run("SELECT client_id FROM receiver ORDER BY client_id", database).split())


def at_broker(port: int, log: Path, leased: tuple[str, ...], kills: Sequence[float] = ()) -> tuple[str, ...]:
    """Return what the broker holds although no receiver runs; it holds that no longer afterwards.

    A session without messages does not count if the broker cannot know that it was ended: it was killed just
    afterwards, before it wrote that to its disk, or the connection broke before its DISCONNECT, which is never
    acknowledged. Its subscription had ended before, so nothing can come into it.

    Args:
        port: The broker's.
        log: Its log, which names all clients that have connected.
        leased: The client ids that may have a session, without messages.
        kills: When the broker was killed, in seconds since the epoch.
    """
    lines = []
    text = log.read_text(errors="replace")
    ends = _last_ends(text)
    for client_id in client_ids(text):
        messages = _taken_from_session(port, client_id)
        if messages:
            lines.append(f"{messages} messages or more left at the broker in the session of {client_id}")
        elif messages is not None and client_id not in leased and not _may_not_know(ends.get(client_id), kills):
            lines.append(f"a session left at the broker, without a lease: {client_id}")
    return tuple(lines)


def client_ids(log: str) -> tuple[str, ...]:
    """Return the client ids that have had a session that outlives a connection, by the log of Mosquitto.

    Args:
        log: The whole log.
    """
    return tuple(sorted({found[1] for found in _CONNECTED.finditer(log) if found[2] == "0"}))


def _last_ends(log: str) -> dict[str, int]:
    """Return when each client ended its last connection by itself, in seconds since the epoch; not if that broke."""
    ends: dict[str, int] = {}
    for line in log.splitlines():
        if begun := _CONNECTED.search(line):
            ends.pop(begun[1], None)
        elif ended := _DISCONNECTED.match(line):
            ends[ended[2]] = int(ended[1])
    return ends


def _may_not_know(ended_at: int | None, kills: Sequence[float]) -> bool:
    return ended_at is None or any(0 <= kill - ended_at <= _UNSAVED_SECONDS for kill in kills)


def _taken_from_session(port: int, client_id: str) -> int | None:
    """End a session, and return how many messages it delivered at once; None if the session does not exist."""
    # Without a property, a session ends with its connection (MQTT 5, section 3.1.2.11.2).
    with RawClient(port, connect=connect_packet(client_id, flags=0)) as client:
        if not client.has_earlier_session:
            return None
        return sum(1 for header, _ in client.read_until_quiet(_QUIET_SECONDS) if header & _TYPE == _PUBLISH)
