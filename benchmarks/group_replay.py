"""The replay memory in PostgreSQL: how fast messages are recorded and forgotten, with 4 million of them remembered.

A group of 32 messages is claimed in one transaction and recorded in another, as each receiver does it; each commit
waits for the disk. Usage: python -m benchmarks.group_replay [--entries 4000000]
"""

import argparse
import itertools
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.replay_load import DAY, DAYS, NOW, SENDERS, printed, sender_of, tidy
from benchmarks.report import run
from benchmarks.target import Better, Target
from idlib.settings.store_urls import read_store_url
from idlib.storage import Claim, PrintingStore, ReplayEntry, rules
from idlib.storage.postgresql.claims import PostgresPrinting
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import Leases, new_holder
from idlib.storage.postgresql.replay import PostgresReplay
from idlib.storage.sender_rows import POOL
from testbed.daemons.postgresql import Postgresql

_GROUP: Final = 32
_GROUPS: Final = 100
_RECORDING: Final = Target(
    "messages claimed and recorded in PostgreSQL by one receiver, 4 million remembered",
    "messages/s",
    "none remembered",
    Better.HIGHER,
    0.7,
    0.9,
)
_FORGETTING: Final = Target(
    "messages forgotten in PostgreSQL, of 4 million", "messages/s", "recorded by one receiver", Better.HIGHER, 1, 5
)
_WAIT: Final = Target("longest wait for PostgreSQL while it forgets 4 million messages", "ms", "", Better.LOWER, 50, 20)
_numbers: Final = itertools.count()


def measure(_world: BenchmarkEnvironment, entries: int = rules.MAX_REMEMBERED) -> Iterator[Measurement]:
    """Record with an empty memory and with a full one, then forget everything in as many parts as there are runs."""
    with Postgresql() as server, PostgresDatabase(read_store_url(server.new_database())) as database:
        leases = Leases(database, new_holder(), lambda: str(uuid.uuid4()))
        leases.prepare()
        with PostgresReplay(database, pause_seconds=0) as memory:
            printing = PostgresPrinting(database, leases.holder, lambda: leases.term, lambda: leases.may_take_over)
            empty = [_record(printing, leases) for _ in range(RUNS)]
            _fill(database, entries)
            full = [_record(printing, leases) for _ in range(RUNS)]
            rates, waits = [], []
            # The first pass forgets what exceeds the limit of unproven names, later ones what has expired meanwhile.
            for now in (NOW, *(NOW + DAYS * DAY * part // (RUNS - 1) for part in range(1, RUNS)), NOW + 365 * DAY):
                before = _number(database)
                tidied = tidy(memory, now)
                if forgotten := before - _number(database):
                    rates.append(forgotten / tidied.seconds)
                    waits.append(1000 * tidied.longest_wait)
    yield Measurement(_RECORDING, Sample(tuple(full)), Sample(tuple(empty)))
    yield Measurement(_FORGETTING, Sample(tuple(rates)), Sample((statistics.median(full),) * len(rates)))
    yield Measurement(_WAIT, Sample(tuple(waits)))


def _fill(database: PostgresDatabase, entries: int) -> None:
    """Remember many messages of unproven senders, issued in the last days before `NOW`, in one statement."""
    first = NOW - DAYS * DAY
    with database.transaction() as statements:
        statements.execute("SET LOCAL statement_timeout = 0")
        statements.execute(
            "INSERT INTO bound SELECT second / ?, ?, substr(sha256(number::text::bytea), 1, 16), second % ?"
            " FROM (SELECT number, ? + number * ?::bigint / ? AS second"
            " FROM generate_series(0, ?::bigint - 1) AS number) AS issued",
            (DAY, POOL, DAY, first, DAYS * DAY, entries, entries),
        )
        statements.execute("ANALYZE bound")


def _record(printing: PrintingStore, leases: Leases) -> float:
    """Claim and record groups of messages, and return how many a second."""
    # It may have expired while the memory was filled.
    leases.take()
    begun = time.perf_counter()
    for _ in range(_GROUPS):
        group = [ReplayEntry(sender_of(number, SENDERS), uuid.uuid4().bytes, NOW) for number in range(_GROUP)]
        claims = printing.claim(group)
        assert set(claims) == {Claim.CLAIMED}, claims
        printing.finish(printed(group), (), NOW)
    return _GROUP * _GROUPS / (time.perf_counter() - begun)


def _number(database: PostgresDatabase) -> int:
    with database.transaction() as statements:
        return int(statements.execute("SELECT count(*) FROM bound").fetchall()[0][0])


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=rules.MAX_REMEMBERED, help="how many messages are remembered")
    entries = parser.parse_args().entries
    return run(lambda world: measure(world, entries))


if __name__ == "__main__":
    sys.exit(_main())
