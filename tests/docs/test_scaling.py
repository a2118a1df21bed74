"""docs/scaling.md: its settings and numbers match the code and docker-compose.scale.yml."""

import re
from typing import Final

from idlib.settings import RECEIVER_READS, Switch, load
from idlib.storage.postgresql.leases import LEASE_SECONDS, RENEWAL_SECONDS
from tests import documents
from tests.deployment.test_compose import read

PAGE: Final = "docs/scaling.md"
TEXT: Final = (documents.ROOT / PAGE).read_text()
SERVICES: Final = read("docker-compose.scale.yml")["services"]


def options(lines: str) -> dict[str, str]:
    """Return the options of a configuration of Mosquitto."""
    return dict(line.split(" ", 1) for line in lines.splitlines())


def test_the_settings_of_a_group_are_accepted() -> None:
    lines = documents.block(PAGE, "settings of a group").splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    assert set(environment) <= RECEIVER_READS
    settings = load(environment, RECEIVER_READS)
    assert settings.receiver_group is Switch.ON
    assert str(settings.store) == "db1.example.com,db2.example.com/messages"
    assert settings.store
    assert "target_session_attrs=read-write" in settings.store.text


def test_the_broker_of_the_page_keeps_what_the_one_of_the_compose_file_keeps() -> None:
    shown = options(documents.block(PAGE, "mosquitto.conf"))
    used = options(SERVICES["broker"]["environment"]["CONFIGURATION"])
    elsewhere = {"persistence_location"}
    assert {name: used[name] for name in shown.keys() - elsewhere} == {
        name: value for name, value in shown.items() if name not in elsewhere
    }
    assert f"at most {shown['autosave_interval']} seconds with these settings" in TEXT


def test_the_database_is_created_as_in_the_compose_file() -> None:
    shown = documents.block(PAGE, "a database for the receivers").splitlines()
    used = SERVICES["store_password"]["environment"]["CREATION"].splitlines()
    assert shown[1] == used[2]
    assert shown[0] == used[1].replace(":'password'", "'choose one'")


def test_the_times_of_a_lease_are_those_of_the_code() -> None:
    assert f"which it renews every {RENEWAL_SECONDS:g} seconds" in TEXT
    assert re.search(rf"at most\s+{LEASE_SECONDS:g} seconds", TEXT)


def test_the_page_names_what_the_tests_use() -> None:
    major = re.search(r"postgres:(\d+)-", SERVICES["database"]["image"])
    assert major
    assert f"Tested with PostgreSQL {major[1]}." in TEXT
