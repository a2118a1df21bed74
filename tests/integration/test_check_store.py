"""What `identity check` says about the database in STORE."""

import time
from pathlib import Path

import pytest

from idlib.settings import CHECK_READS, load
from messaging_maintenance.checks import store as store_module
from messaging_maintenance.checks.catalogue import STORE_IDS
from messaging_maintenance.checks.result import Item, Status
from messaging_maintenance.checks.store import check_store
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import LOOPBACK, free_port
from testbed.lab import Lab
from tests.integration.test_check_device import Checked, in_lab

REACHABLE, LOGIN, VERSION, TABLES, CLOCK = STORE_IDS


@pytest.fixture
def store(postgresql: Postgresql) -> str:
    return postgresql.new_database()


def checked(**environment: str) -> dict[str, Item]:
    items = check_store(load({"IDENTITY_NAME": "alice.example", **environment}, CHECK_READS))
    return {item.id: item for item in items}


def statuses(items: dict[str, Item]) -> list[str]:
    return [items[identifier].status for identifier in STORE_IDS]


def test_without_a_database_it_says_so() -> None:
    (item,) = checked().values()
    assert item.status is Status.SKIP
    assert item.evidence.startswith("STORE is not set")


def test_a_database_that_lacks_nothing_is_left_as_it_is(store: str, postgresql: Postgresql) -> None:
    assert statuses(checked(STORE=store)) == [Status.OK] * 5
    assert postgresql.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", store).strip() == "0"


def test_the_command_reports_it(lab: Lab, store: str) -> None:
    device = in_lab(lab, lab.published_device("with-a-store"))
    assert Checked(device.with_settings(STORE=store)).of(TABLES)["status"] == "ok"
    assert Checked(device).of(REACHABLE)["evidence"].startswith("STORE is not set")


def test_a_server_that_is_away_is_one_failure() -> None:
    items = checked(STORE=f"postgresql://receiver@{LOOPBACK}:{free_port()}/messages")
    assert statuses(items) == [Status.FAIL, *[Status.SKIP] * 4]
    assert items[REACHABLE].hint == "check STORE, and that the database server runs"


def test_a_silent_server_is_one_failure(own_postgresql: Postgresql) -> None:
    store = own_postgresql.new_database()
    with own_postgresql.silent():
        assert statuses(checked(STORE=store)) == [Status.FAIL, *[Status.SKIP] * 4]


def test_a_password_file_that_is_missing_is_named(store: str, tmp_path: Path) -> None:
    items = checked(STORE=store, STORE_PASSWORD_FILE=str(tmp_path / "missing"))
    assert items[REACHABLE].status is Status.FAIL
    assert "STORE_PASSWORD_FILE" in items[REACHABLE].evidence


def test_a_user_that_does_not_exist_is_a_failed_login(store: str) -> None:
    items = checked(STORE=store.replace("receiver@", "nobody@"))
    assert statuses(items) == [Status.OK, Status.FAIL, *[Status.SKIP] * 3]
    assert items[LOGIN].hint == "check the user in STORE, and STORE_PASSWORD_FILE"


def test_an_old_version_is_reported(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_TESTED_VERSION", 99)
    assert checked(STORE=store)[VERSION].status is Status.WARN
    monkeypatch.setattr(store_module, "_OLDEST_VERSION", 98)
    assert checked(STORE=store)[VERSION].status is Status.FAIL


def test_the_statement_of_the_hint_helps_a_user_that_may_not_create_tables(store: str, postgresql: Postgresql) -> None:
    postgresql.run('CREATE ROLE "New One" LOGIN')
    theirs = store.replace("receiver@", "New%20One@")
    item = checked(STORE=theirs)[TABLES]
    assert item.status is Status.FAIL
    postgresql.run(item.hint.partition(": ")[2], store)
    assert checked(STORE=theirs)[TABLES].status is Status.OK


@pytest.mark.parametrize(
    ("created", "name"), [("TABLE fact (name text)", "fact"), ("SEQUENCE waiting_number", "waiting_number")]
)
def test_the_owner_of_what_the_user_may_not_use_is_named(
    created: str, name: str, store: str, postgresql: Postgresql
) -> None:
    user = postgresql.new_role()
    postgresql.run(f"GRANT CREATE ON SCHEMA public TO {user}; CREATE {created}", store)
    theirs = store.replace("receiver@", f"{user}@")
    item = checked(STORE=theirs)[TABLES]
    assert item.evidence == f"{user} may not use {name}"
    postgresql.run(item.hint.partition("in this database: ")[2], store)
    assert checked(STORE=theirs)[TABLES].status is Status.OK


def test_tables_of_other_programs_do_not_matter(store: str, postgresql: Postgresql) -> None:
    user = postgresql.new_role()
    postgresql.run(f"GRANT CREATE ON SCHEMA public TO {user}; CREATE TABLE spatial_ref_sys (srid integer)", store)
    assert checked(STORE=store.replace("receiver@", f"{user}@"))[TABLES].status is Status.OK


def test_every_table_of_a_receiver_and_of_a_sender_is_looked_at(
    lab: Lab, store: str, postgresql: Postgresql, tmp_path: Path
) -> None:
    device = lab.published_device("with-tables").with_settings(STORE=store)
    epochs, spool = str(tmp_path / "epochs"), str(tmp_path / "spool")
    with device.with_settings(
        RECEIVER_GROUP="on", EPOCH_KEYS="on", EPOCH_PATH=epochs, EPOCH_SPOOL=spool
    ).receiver() as receiver:
        receiver.stop()
    assert device.send(device, "hello", "--queue").status == 0
    user = postgresql.new_role()
    tables = postgresql.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", store).split()
    assert {"claim", "epoch_reader", "outgoing_lease"} <= {*tables}
    item = checked(STORE=store.replace("receiver@", f"{user}@"))[TABLES]
    # Beside them, the numbers of deferred messages.
    assert item.evidence == f"{user} may not use {tables[0]} and {len(tables)} others"


@pytest.mark.parametrize(("difference", "status"), [(290, Status.OK), (310, Status.FAIL), (-310, Status.FAIL)])
def test_the_clocks_are_compared(difference: int, status: Status, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + difference
    monkeypatch.setattr(time, "time", lambda: now)
    assert checked(STORE=store)[CLOCK].status is status
