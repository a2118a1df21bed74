"""docs/scaling.md: the statements that create a database give its user what the receivers need, and no more."""

import pytest

from idlib.errors import StoreError
from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql.connection import PostgresDatabase
from testbed.daemons.postgresql import Postgresql
from tests import documents


def test_the_database_of_the_page_can_be_used_by_its_user(postgresql: Postgresql) -> None:
    for statement in documents.block("docs/scaling.md", "a database for the receivers").splitlines():
        # The superuser of the tests has the other name.
        postgresql.run(statement.replace("receiver", "own_receiver"))
    url = read_store_url(f"postgresql://own_receiver@{postgresql.address}/messages")
    with PostgresDatabase(url, "choose one") as database:
        database.prepare("a part", 1, "CREATE TABLE IF NOT EXISTS text_of_utf8 (text text)")
        with database.transaction() as statements:
            statements.execute("INSERT INTO text_of_utf8 VALUES (?)", ("ü\u2028",))
            assert statements.execute("SELECT text FROM text_of_utf8").fetchall() == [("ü\u2028",)]
            assert statements.execute("SHOW is_superuser").fetchone() == ("off",)
        with pytest.raises(StoreError, match="permission denied"), database.transaction() as statements:
            statements.execute("CREATE ROLE another")
