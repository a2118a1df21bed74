import ast
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from idlib.errors import ConfigurationError
from idlib.settings import (
    CHECK_READS,
    DISCOVERY_READS,
    EPOCH_PUBLISHING_READS,
    MAINTENANCE_READS,
    METRICS_READS,
    PUBLISHING_READS,
    RECEIVER_READS,
    RESIDENT_SENDER_READS,
    ROTATION_READS,
    SENDER_READS,
    VARIABLES,
    Settings,
    load,
)
from tests.idlib.settings.loading import NAME

ROOT = Path(__file__).parents[3]

# A wrong value for each variable.
WRONG = {
    variable.name: "@/nonexistent" if variable.name.endswith(("SENDERS", "BINDING")) else "\0" for variable in VARIABLES
}

READ_BY_EVERY_PROGRAM = {"IDENTITY_NAME", "LOG_LEVEL", "LOG_FORMAT"}


def complaints(names: frozenset[str] | None, environment: dict[str, str]) -> set[str]:
    """Return the variables that are reported as wrong if a program reads those names."""
    try:
        load(environment) if names is None else load(environment, names)
    except ConfigurationError as error:
        return {word for line in error.problems for word in re.findall(r"env var:? (\w+)", line)}
    return set()


@pytest.mark.parametrize(
    "names",
    [
        MAINTENANCE_READS,
        PUBLISHING_READS,
        CHECK_READS,
        SENDER_READS,
        RESIDENT_SENDER_READS,
        RECEIVER_READS,
        DISCOVERY_READS,
        None,
    ],
)
def test_a_program_checks_only_the_settings_that_it_uses(names: frozenset[str] | None) -> None:
    every = {variable.name for variable in VARIABLES}
    # Every program needs a name.
    judged = every if names is None else names | {"IDENTITY_NAME"}
    assert complaints(names, WRONG) == judged
    assert complaints(names, {**NAME, **{name: WRONG[name] for name in every - judged}}) == set()
    assert complaints(names, dict.fromkeys(every, "")) == judged


def test_every_variable_is_used_by_a_program() -> None:
    assert {variable.name for variable in VARIABLES} == (
        MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS | SENDER_READS | RECEIVER_READS | CHECK_READS
    )


def fields_used_in(*files: Path) -> set[str]:
    """Return the settings that the code in those files uses."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Attribute(
                    value=ast.Name(id="settings" | "read") | ast.Attribute(attr="settings" | "_settings"), attr=field
                ) if field in get_type_hints(Settings):
                    found.add(field.upper())
                case ast.Attribute(attr="epoch_directory"):
                    found |= {"EPOCH_PATH", "DATA_PATH"}
                case ast.Attribute(attr="certificate_subject"):
                    found |= {"STATE", "COUNTRY", "LOCALITY", "ORGANIZATION"}
    return found


@pytest.mark.parametrize(
    ("names", "package", "parts"),
    [
        (
            # The check only looks whether the values of these are valid.
            MAINTENANCE_READS
            | PUBLISHING_READS
            | EPOCH_PUBLISHING_READS
            | ROTATION_READS
            | METRICS_READS
            | CHECK_READS - {"MAX_MESSAGE_SIZE"},
            "messaging_maintenance",
            [
                "bootstrap.py",
                "discovery/__init__.py",
                "discovery/resolver.py",
                "local_broker/place.py",
                "publishing/__init__.py",
                "publishing/zone.py",
                "settings/local_settings.py",
                "storage/postgresql/connection.py",
                "transport/broker.py",
                "transport/topics.py",
            ],
        ),
        # The name that balena gives the container is only used in texts about the container.
        (
            RESIDENT_SENDER_READS - {"BALENA_SERVICE_NAME"},
            "messaging_sender",
            [
                "discovery/__init__.py",
                "discovery/resolver.py",
                "storage/postgresql/connection.py",
                "transport/broker.py",
                "transport/topics.py",
            ],
        ),
        (
            RECEIVER_READS,
            "messaging_receiver",
            [
                "discovery/__init__.py",
                "discovery/resolver.py",
                "local_broker/place.py",
                "settings/local_settings.py",
                "storage/postgresql/connection.py",
                "transport/broker.py",
                "transport/topics.py",
                "trust.py",
            ],
        ),
    ],
)
def test_the_documented_settings_of_a_program_are_those_its_code_uses(
    names: frozenset[str], package: str, parts: list[str]
) -> None:
    own = (ROOT / package).rglob("*.py")
    used = fields_used_in(*own, *(ROOT / "idlib" / part for part in parts))
    assert used | READ_BY_EVERY_PROGRAM == names


def test_the_listed_settings_of_discovery_are_those_its_code_uses() -> None:
    files = [ROOT / "idlib/discovery" / name for name in ("__init__.py", "resolver.py")]
    assert fields_used_in(*files) == DISCOVERY_READS
