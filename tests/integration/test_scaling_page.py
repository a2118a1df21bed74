"""docs/scaling.md: the statements that create a database give its user what the receivers need, and no more."""

import pytest

from idlib.errors import StoreError
from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql.connection import PostgresDatabase
from testbed.daemons.postgresql import Postgresql
from tests import documents


@pytest.fixture(scope="module", autouse=True)
def _database(postgresql: Postgresql) -> None:
    for statement in documents.block("docs/scaling.md", "a database for the receivers").splitlines():
        # The superuser of the tests has the other name.
        postgresql.run(statement.replace("receiver", "own_receiver"))


def test_the_database_of_the_page_can_be_used_by_its_user(postgresql: Postgresql) -> None:
    url = read_store_url(f"postgresql://own_receiver@{postgresql.address}/messages")
    with PostgresDatabase(url, "choose one") as database:
        database.prepare("a part", 1, "CREATE TABLE IF NOT EXISTS text_of_utf8 (text text)")
        with database.transaction() as statements:
            statements.execute("INSERT INTO text_of_utf8 VALUES (?)", ("ü\u2028",))
            assert statements.execute("SELECT text FROM text_of_utf8").fetchall() == [("ü\u2028",)]
            assert statements.execute("SHOW is_superuser").fetchone() == ("off",)
        with pytest.raises(StoreError, match="permission denied"), database.transaction() as statements:
            statements.execute("CREATE ROLE another")


def test_no_other_login_can_connect_to_the_database_of_the_page(postgresql: Postgresql) -> None:
    postgresql.run("CREATE ROLE another_program LOGIN")
    url = read_store_url(f"postgresql://another_program@{postgresql.address}/messages")
    with (
        PostgresDatabase(url) as database,
        pytest.raises(StoreError, match="permission denied for database"),
        database.transaction() as statements,
    ):
        statements.execute("SELECT 1")
