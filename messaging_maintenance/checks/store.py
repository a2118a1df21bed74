"""The database in STORE, if there is one: whether the receivers and senders can use it. Nothing in it is changed."""

import time
from dataclasses import dataclass
from typing import Final

from idlib.errors import ConfigurationError, DatabaseError
from idlib.output import counted, rfc3339
from idlib.settings import Settings
from idlib.timekeeping import MAX_DIVERGENCE_SECONDS
from messaging_maintenance.checks.catalogue import STORE_IDS
from messaging_maintenance.checks.result import Item, fail, ok, skip, warn

_REACHABLE, _LOGIN, _TESTED, _TABLES, _CLOCK = STORE_IDS
# The first version with pg_current_xact_id_if_assigned, and the one that the tests use.
_OLDEST_VERSION: Final = 13
_TESTED_VERSION: Final = 15
_SERVER: Final = """\
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, pg_is_in_recovery(),
    extract(epoch FROM clock_timestamp())::float8, quote_ident(current_user), quote_ident(current_schema()),
    current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE')
"""
# Those of other programs in the same schema do not matter.
_OUR_TABLES: Final = (
    *("part", "shared_clock", "fact", "sender", "bound", "unbound"),
    *("receiver", "claim", "waiting", "waiting_sender", "epoch_reader", "epoch_keeper"),
    *("outgoing", "outgoing_owner", "outgoing_sender", "outgoing_lease", "marked"),
)
_OUR_SEQUENCES: Final = ("waiting_number",)
_UNUSABLE: Final = """\
SELECT relname, quote_ident(pg_get_userbyid(relowner))
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND CASE
        WHEN relkind = 'r' AND relname = ANY(?::text[]) THEN NOT (
            has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
            AND has_table_privilege(pg_class.oid, 'UPDATE') AND has_table_privilege(pg_class.oid, 'DELETE'))
        WHEN relkind = 'S' AND relname = ANY(?::text[]) THEN NOT has_sequence_privilege(pg_class.oid, 'USAGE')
        ELSE false END
    ORDER BY relname
"""


@dataclass(frozen=True, slots=True)
class _Server:
    """What the server says about itself and the user.

    Args:
        version: Its version, as it calls it.
        major: The first number of it.
        is_standby: Whether nothing can be written there.
        time: What its clock shows, in seconds since the epoch.
        user: The user, quoted for SQL.
        schema: The schema for new tables, quoted for SQL; None if there is none.
        may_create: Whether the user may create tables there.
    """

    version: str
    major: int
    is_standby: bool
    time: float
    user: str
    schema: str | None
    may_create: bool


def check_store(settings: Settings) -> list[Item]:
    """Return what there is to say about the database.

    Args:
        settings: From the environment.
    """
    if settings.store is None:
        return _skipped((_REACHABLE,), "STORE is not set: messages are remembered in files")
    # Imported late, because most devices have no database.
    from idlib.storage.postgresql.connection import LoginError, PostgresDatabase

    try:
        database = PostgresDatabase.from_settings(settings)
    except ConfigurationError as error:
        problem = error.problems[0]
        return [
            fail(_REACHABLE, problem.removeprefix("Error: "), "correct the settings; see docs/scaling.md"),
            *_skipped(STORE_IDS[1:], "the settings of the database cannot be used"),
        ]
    with database:
        names = (list(_OUR_TABLES), list(_OUR_SEQUENCES))
        reached = ok(_REACHABLE, f"the database {database.place} answers")
        try:
            with database.separately() as statements:
                server = _Server(*statements.execute(_SERVER).fetchall()[0])
                # Before another statement takes its time.
                difference = server.time - time.time()
                unusable = statements.execute(_UNUSABLE, names).fetchall()
        except LoginError as error:
            return [reached, fail(_LOGIN, error.fact, error.hint), *_skipped(STORE_IDS[2:], "the login is rejected")]
        except DatabaseError as error:
            return [fail(_REACHABLE, error.fact, error.hint), *_skipped(STORE_IDS[1:], "it cannot be used")]
    accepted = ok(_LOGIN, f"it accepts the user {server.user}")
    return [reached, accepted, _version(server), _tables(server, unusable), _clock(server, difference)]


def _skipped(ids: tuple[str, ...], why: str) -> list[Item]:
    return [skip(identifier, why) for identifier in ids]


def _version(server: _Server) -> Item:
    evidence = f"PostgreSQL {server.version}"
    if server.major < _OLDEST_VERSION:
        return fail(_TESTED, evidence, f"use PostgreSQL {_OLDEST_VERSION} or newer; {_TESTED_VERSION} is tested")
    if server.major < _TESTED_VERSION:
        return warn(_TESTED, evidence, f"use PostgreSQL {_TESTED_VERSION}, which is tested, or a newer one")
    return ok(_TESTED, evidence)


def _tables(server: _Server, unusable: list[tuple[str, str]]) -> Item:
    from idlib.storage.postgresql.connection import hint_of_owner

    if server.is_standby:
        hint = "add target_session_attrs=read-write and all hosts to STORE"
        return fail(_TABLES, "this server is a standby, which writes nothing", hint)
    if server.schema is None:
        return fail(_TABLES, "the user has no schema for its tables", "see search_path of the user and the database")
    if unusable:
        (name, owner), *others = unusable
        evidence = f"{server.user} may not use {name}" + (f" and {counted(len(others), 'other')}" if others else "")
        return fail(_TABLES, evidence, hint_of_owner(owner, server.user, server.schema))
    if not server.may_create:
        evidence = f"{server.user} may not create tables in the schema {server.schema}"
        return fail(_TABLES, evidence, f"as a superuser: GRANT CREATE ON SCHEMA {server.schema} TO {server.user}")
    return ok(_TABLES, f"{server.user} may create tables in the schema {server.schema}, and use those that exist")


def _clock(server: _Server, difference: float) -> Item:
    if abs(difference) <= MAX_DIVERGENCE_SECONDS:
        return ok(_CLOCK, f"its clock differs from this device's by {abs(difference):.0f} s")
    return fail(
        _CLOCK,
        f"its clock shows {rfc3339(int(server.time))}, and this device's {rfc3339(int(server.time - difference))}",
        "set the one that is wrong; the receivers use the database's",
    )
