"""Brokers that bind the client id to the login: MQTT_CLIENT_ID, and what is said if it is missing or used twice."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import find
from testbed.lab import Lab
from testbed.programs import CHECK_IDENTITY, RECEIVER, Device
from tests import documents

USERS: Final = ("reader", "writer")
PASSWORD: Final = "correct horse"
SETTINGS: Final = dict(
    line.split("=") for line in documents.block("docs/brokers.md", "settings for client ids").splitlines()
)
FIXED: Final = SETTINGS["MQTT_CLIENT_ID"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client-ids")


@pytest.fixture(scope="module")
def login(directory: Path) -> str:
    """Return the lines of a configuration with a login for each user."""
    path = directory / "passwords"
    path.touch()
    for user in USERS:
        subprocess.run([find("mosquitto_passwd"), "-b", str(path), user, PASSWORD], check=True)
    (directory / "password").write_text(f"{PASSWORD}\n")
    return f"password_file {path}\n"


def broker_with(directory: Path, name: str, extra: str) -> Mosquitto:
    place = directory / name
    place.mkdir()
    return Mosquitto(place, anonymous=False, extra=extra)


@pytest.fixture(scope="module")
def prefixed(directory: Path, login: str) -> Iterator[Mosquitto]:
    """Yield a broker that accepts only client ids with a certain beginning."""
    with broker_with(
        directory, "prefixed", login + documents.block("docs/brokers.md", "client ids at Mosquitto")
    ) as broker:
        yield broker


def device_at(lab: Lab, broker: Mosquitto, directory: Path, user: str = "reader", **settings: str) -> Device:
    return lab.published_device("bound").with_settings(
        MQTT_HOST=broker.host,
        MQTT_PORT=str(broker.port),
        MQTT_USERNAME=user,
        MQTT_PASSWORD_FILE=str(directory / "password"),
        **settings,
    )


def error_of(device: Device) -> str:
    result = device.send(device, "never sent", "--timeout", "5")
    assert result.status == 3, result
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_demands_a_client_id_gets_it(
    version: str, lab: Lab, prefixed: Mosquitto, directory: Path
) -> None:
    device = device_at(lab, prefixed, directory, MQTT_VERSION=version)
    error = error_of(device)
    assert "did not accept the connection: Not authorized; " in error
    assert "if the broker binds client ids to logins, set MQTT_CLIENT_ID" in error
    fixed = device.with_settings(**SETTINGS)
    with fixed.receiver() as receiver:
        confirmed = fixed.send(fixed, "under a fixed client id", "--receipt")
        assert confirmed.status == 0, confirmed
        lines = [line for line in fixed.run(CHECK_IDENTITY).stdout.splitlines() if "  broker." in line]
        assert [line for line in lines if not line.startswith("ok ")] == []
        # No other connection has taken over the receiver's.
        assert not any("is lost" in line for line in receiver.stderr)
        assert receiver.stop() == 0
    assert fixed.send(fixed, "during an absence").status == 0
    with fixed.receiver() as receiver:
        receiver.wait_for_message("during an absence")


def test_a_new_client_id_begins_a_new_session_which_is_said(lab: Lab) -> None:
    device = lab.published_device("moved").with_settings(MQTT_USERNAME="anyone")
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    assert device.send(device, "in the earlier session").status == 0
    fixed = device.with_settings(MQTT_CLIENT_ID="moved")
    for told in (1, 0):
        with fixed.receiver() as receiver:
            assert len([line for line in receiver.stderr if "MQTT_CLIENT_ID begins a new session" in line]) == told
            assert receiver.stop() == 0
    with device.receiver() as receiver:
        receiver.wait_for_message("in the earlier session")


def test_two_receivers_with_one_client_id_are_told(lab: Lab, prefixed: Mosquitto, directory: Path) -> None:
    first, second = (device_at(lab, prefixed, directory, MQTT_CLIENT_ID="fleet-same") for _ in range(2))
    with first.receiver() as receiver, second.receiver():
        receiver.wait_for_log(
            "is lost: the broker closed the connection; if this repeats, another program uses the client id in"
            " MQTT_CLIENT_ID: give each receiver its own"
        )


def test_a_sender_leaves_the_session_that_a_broker_gives_it_by_the_user_name(
    lab: Lab, directory: Path, login: str
) -> None:
    with broker_with(directory, "by-name", f"{login}use_username_as_clientid true\n") as broker:
        reader = device_at(lab, broker, directory, MQTT_CLIENT_ID="ignored")
        writer = device_at(lab, broker, directory, "writer", MQTT_CLIENT_ID="ignored")
        with reader.receiver() as receiver:
            assert receiver.stop() == 0
        assert writer.send(reader, "before").status == 0
        error = error_of(reader)
        assert "answered with a session that is not ours; nothing was delivered" in error
        assert "give each program a user name of its own" in error
        with reader.receiver() as receiver:
            receiver.wait_for_message("before")
            assert writer.send(reader, "after").status == 0
            receiver.wait_for_message("after")


def test_a_login_with_exactly_one_client_id_is_for_a_receiver_only(lab: Lab, directory: Path) -> None:
    path = directory / "dynamic-security.json"
    path.write_text(json.dumps(_exact_logins({"reader": FIXED, "writer": None})))
    (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    extra = f"plugin {plugin}\nplugin_opt_config_file {path}\n"
    with broker_with(directory, "exact", extra) as broker:
        reader = device_at(lab, broker, directory, MQTT_CLIENT_ID=FIXED)
        writer = device_at(lab, broker, directory, "writer")
        with reader.receiver() as receiver:
            assert writer.send(reader, "to the one client").status == 0
            receiver.wait_for_message("to the one client")
            error = error_of(reader)
            assert "for every other connection the ids that begin with it and a hyphen" in error
            assert FIXED not in error
            assert not any("is lost" in line for line in receiver.stderr)
        with reader.with_settings(MQTT_CLIENT_ID="another").start(RECEIVER) as receiver:
            receiver.wait_for_log("let the broker accept the client id in MQTT_CLIENT_ID for the receiver")


def _exact_logins(client_ids: dict[str, str | None]) -> dict[str, object]:
    """Return a configuration of Mosquitto's plugin with users that may use one client id, or any."""
    salt, iterations = b"salt of 12 b", 101
    secret = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, iterations)
    clients = [
        {
            "username": user,
            **({} if client_id is None else {"clientid": client_id}),
            "password": base64.b64encode(secret).decode(),
            "salt": base64.b64encode(salt).decode(),
            "iterations": iterations,
            "roles": [],
        }
        for user, client_id in client_ids.items()
    ]
    kinds = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
    return {"defaultACLAccess": dict.fromkeys(kinds, True), "clients": clients, "groups": [], "roles": []}
