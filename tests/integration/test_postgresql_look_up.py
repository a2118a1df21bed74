"""How the database looks up messages in the replay memory, whatever it knows about the number of rows."""

import re

from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.printed import _VERDICTS
from idlib.storage.postgresql.replay import PostgresReplay
from testbed.daemons.postgresql import Postgresql


def test_a_look_up_is_planned_as_steps_in_an_index_also_while_the_tables_are_empty(postgresql: Postgresql) -> None:
    asked = (["a.example"], [bytes(16)], [True])
    with (
        PostgresDatabase(read_store_url(postgresql.new_database())) as database,
        PostgresReplay(database),
        database.transaction() as statements,
    ):
        plan = [line for (line,) in statements.execute(f"EXPLAIN {_VERDICTS}", asked)]
    # The server keeps this plan until it has counted the rows, which may be millions by then.
    conditions = [line for line in plan if re.search(r"Index Cond: .*identifier", line)]
    assert len(conditions) == 4, plan
    assert all("slot = ANY" in line and "owner = " in line for line in conditions), plan
    assert not any(re.search("Filter: .*(owner|identifier)", line) for line in plan), plan
