"""What docker-compose.scale.yml promises: a durable broker and database, no open port, a password in no environment."""

import re
from typing import Any, Final

import pytest

from idlib.settings import RECEIVER_READS, load
from tests.deployment.test_compose import MEBIBYTE, STACK, read, walk

SCALE: Final = read("docker-compose.scale.yml")
SERVICES: Final[dict[str, dict[str, Any]]] = SCALE["services"]
OUTSIDERS: Final = ("broker", "database", "store_password")
PROGRAMS: Final = ("maintenance", "messaging_sender", "messaging_receiver")
PASSWORD_VOLUME: Final = "store_password"


def test_it_adds_a_broker_and_a_database_to_the_stack() -> None:
    assert set(SERVICES) == {*PROGRAMS, *OUTSIDERS}
    assert set(PROGRAMS) < set(STACK["services"])


def test_no_service_opens_a_port_of_the_host_or_has_its_privileges() -> None:
    for one in SERVICES.values():
        assert not one.keys() & {"ports", "privileged", "cap_add", "devices", "labels", "pid", "ipc", "userns_mode"}


@pytest.mark.parametrize("name", OUTSIDERS)
def test_broker_and_database_are_limited_like_the_services(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert 0 < service["pids_limit"] <= 128
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["logging"]["driver"] == "json-file"
    assert service["user"] != "root" or (service["network_mode"] == "none" and service["restart"] == "no")


def test_the_images_are_those_of_the_projects_and_their_major_versions_are_pinned() -> None:
    assert SERVICES["broker"]["image"] == "${MOSQUITTO_IMAGE:-eclipse-mosquitto:2.0}"
    for name in ("database", "store_password"):
        assert re.fullmatch(r"\$\{POSTGRESQL_IMAGE:-postgres:\d+-bookworm\}", SERVICES[name]["image"])


def test_the_broker_keeps_sessions_and_messages() -> None:
    lines = dict(line.split(" ", 1) for line in SERVICES["broker"]["environment"]["CONFIGURATION"].splitlines())
    assert lines["persistence"] == "true"
    assert f"broker:{lines['persistence_location'].rstrip('/')}" in SERVICES["broker"]["volumes"]
    assert int(lines["autosave_interval"]) <= 10
    assert int(lines["max_queued_messages"]) >= 100_000
    # Four receivers fit.
    assert 4 * int(lines["max_queued_bytes"]) <= 1024 * MEBIBYTE
    # Longer than a message waits for a receiver.
    assert lines["persistent_client_expiration"] == "8d"


def test_the_receivers_are_a_group_with_one_database() -> None:
    environment = SERVICES["messaging_receiver"]["environment"]
    known = {name: value for name, value in environment.items() if not value.startswith("${")}
    settings = load({"IDENTITY_NAME": "alice._device.example.com", **known}, RECEIVER_READS)
    assert str(settings.store) == "database/messages"
    assert SERVICES["messaging_sender"]["environment"]["STORE"] == environment["STORE"]
    assert environment["RECEIVER_GROUP"] == "on"
    assert "RECEIVER_GROUP" not in SERVICES["messaging_sender"]["environment"]


def test_only_those_who_need_the_password_of_the_database_can_read_it() -> None:
    mounts = {
        name: [mount for mount in one.get("volumes", []) if mount.startswith(f"{PASSWORD_VOLUME}:")]
        for name, one in SERVICES.items()
    }
    assert {name for name, found in mounts.items() if found} == {
        "database",
        "messaging_sender",
        "messaging_receiver",
        "store_password",
    }
    for name, found in mounts.items():
        assert all(mount.endswith(":ro") for mount in found) or name == "store_password"
    assert not [
        text for text in walk(SCALE) if isinstance(text, str) and re.search(r"POSTGRES_PASSWORD[:=](?!\$)", text)
    ]


def test_the_receivers_share_keys_and_records_but_not_their_data() -> None:
    (own,) = SERVICES["messaging_receiver"]["tmpfs"]
    assert own.startswith("/data:")
    shared = {mount.split(":")[0] for mount in SERVICES["messaging_receiver"]["volumes"]}
    assert shared == {"identity", "epoch_records", "store_password", "epochs"}
    environment = SERVICES["messaging_receiver"]["environment"]
    assert f"epochs:{environment['EPOCH_PATH']}" in SERVICES["messaging_receiver"]["volumes"]


def test_every_volume_is_declared() -> None:
    named = {mount.split(":")[0] for one in SERVICES.values() for mount in one.get("volumes", []) if ":" in mount}
    assert named <= set(SCALE["volumes"]) | set(STACK["volumes"])


def test_what_store_needs_is_built_into_the_images_of_those_who_use_it() -> None:
    for name in PROGRAMS[1:]:
        assert SERVICES[name]["build"]["args"] == {"STORE_ENGINE": "postgresql"}
        # An image of that name is published without it.
        assert SERVICES[name]["image"] is None
    assert "build" not in SERVICES["maintenance"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_gets_the_variables_of_the_shell_and_its_log_is_limited(name: str) -> None:
    assert SERVICES[name]["extends"] == {"file": "docker-compose.override.yml", "service": name}
