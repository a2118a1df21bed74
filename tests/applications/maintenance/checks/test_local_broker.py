"""The check of the broker at home, against a real one."""

import ipaddress
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from idlib.settings import CHECK_READS, load
from messaging_maintenance.checks.local_broker import check_local_broker
from messaging_maintenance.checks.result import Item, Status
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import free_port
from tests.applications.maintenance.checks.observations import NAME

_PUBLIC: Final = {"IDENTITY_NAME": str(NAME), "MQTT_HOST": "192.0.2.1"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Return a broker at home that demands a login."""
    directory = tmp_path_factory.mktemp("home")
    passwords = directory / "passwd"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "alice", "secret"], check=True, capture_output=True)
    with Mosquitto(directory, anonymous=False, extra=f"password_file {passwords}\n") as mosquitto:
        yield mosquitto


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("secret\n")
    return str(path)


def checked(**environment: str) -> Item:
    (item,) = check_local_broker(load({**_PUBLIC, **environment}, CHECK_READS))
    return item


def test_a_device_need_not_have_one() -> None:
    assert checked().status is Status.OK


def test_a_setting_that_needs_one_is_a_failure() -> None:
    item = checked(HOME_ASSISTANT="on")
    assert item.status is Status.FAIL
    assert item.evidence.startswith("HOME_ASSISTANT is set, and LOCAL_MQTT_URL is not")


def test_it_must_not_be_a_public_one() -> None:
    item = checked(LOCAL_MQTT_URL="mqtts://test.mosquitto.org")
    assert item.status is Status.FAIL
    assert "which anyone may use" in item.evidence


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_one_that_accepts_the_login_passes(version: str, broker: Mosquitto, password: str) -> None:
    item = checked(
        LOCAL_MQTT_URL=f"mqtt://alice@{broker.address}", LOCAL_MQTT_PASSWORD_FILE=password, MQTT_VERSION=version
    )
    assert (item.status, item.evidence) == (Status.OK, f"the local broker {broker.address} accepts this device")


def test_a_missing_login_is_named(broker: Mosquitto) -> None:
    item = checked(LOCAL_MQTT_URL=f"mqtt://{broker.address}")
    assert item.status is Status.FAIL
    assert item.hint == "write a user name into LOCAL_MQTT_URL, and set LOCAL_MQTT_PASSWORD_FILE"


def test_a_wrong_password_is_named(broker: Mosquitto, password: str) -> None:
    Path(password).write_text("wrong\n")
    item = checked(LOCAL_MQTT_URL=f"mqtt://alice@{broker.address}", LOCAL_MQTT_PASSWORD_FILE=password)
    assert item.status is Status.FAIL
    assert item.hint.startswith("check the user name in LOCAL_MQTT_URL and the first line of LOCAL_MQTT_PASSWORD_FILE")


def test_a_port_that_nothing_listens_at_is_named() -> None:
    item = checked(LOCAL_MQTT_URL=f"mqtt://127.0.0.1:{free_port()}")
    assert item.status is Status.FAIL
    assert item.hint == "check that it is running, and the port in LOCAL_MQTT_URL"


def test_tls_at_a_port_without_it_is_named(broker: Mosquitto) -> None:
    item = checked(LOCAL_MQTT_URL=f"mqtts://{broker.address}")
    assert item.status is Status.FAIL
    assert item.hint.startswith("check that its port uses TLS")


def test_nothing_is_sent_to_the_public_broker_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        address = ipaddress.ip_address("127.0.0.1")
        monkeypatch.setattr("idlib.local_broker.separation._addresses_of", lambda _: [(address, port)])
        item = checked(LOCAL_MQTT_URL=f"mqtt://127.0.0.1:{port}")
        connection, _ = server.accept()
        with connection:
            assert item.status is Status.FAIL
            assert connection.recv(1) == b""
