"""The broker through a SOCKS 5 or an HTTP proxy: with a login, and with everything that a proxy can refuse."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, free_port
from testbed.daemons.proxies import Microsocks, Tinyproxy
from testbed.lab import Lab
from testbed.programs import CHECK_IDENTITY, Device

LOGIN: Final = ("alice", "correct-horse")
KINDS: Final = {"socks5": Microsocks, "http": Tinyproxy}
Proxies = dict[str, Microsocks | Tinyproxy]


@contextmanager
def proxies(directory: Path, login: tuple[str, str] | None, broker: Mosquitto) -> Iterator[Proxies]:
    places = {scheme: directory / scheme for scheme in KINDS}
    for place in places.values():
        place.mkdir()
    with (
        Microsocks(places["socks5"], login=login) as socks,
        # It allows only some ports, the one of the lab's broker not among them.
        Tinyproxy(places["http"], login=login, allowed=(443, broker.port)) as http,
    ):
        yield {"socks5": socks, "http": http}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxies")


@pytest.fixture(scope="module")
def open_proxies(directory: Path, broker: Mosquitto) -> Iterator[Proxies]:
    (directory / "open").mkdir()
    with proxies(directory / "open", None, broker) as running:
        yield running


@pytest.fixture(scope="module")
def locked_proxies(directory: Path, broker: Mosquitto) -> Iterator[Proxies]:
    (directory / "locked").mkdir()
    for name, password in (("password", LOGIN[1]), ("wrong", "incorrect")):
        (directory / name).write_text(f"{password}\n")
    with proxies(directory / "locked", LOGIN, broker) as running:
        yield running


@pytest.fixture(scope="module")
def broker(directory: Path) -> Iterator[Mosquitto]:
    """Yield a broker whose port the HTTP proxy allows."""
    (directory / "broker").mkdir()
    with Mosquitto(directory / "broker") as mosquitto:
        yield mosquitto


@pytest.fixture(scope="module")
def device(lab: Lab, broker: Mosquitto) -> Device:
    # The proxy looks the name up.
    return lab.published_device("behind").with_settings(MQTT_HOST="localhost", MQTT_PORT=str(broker.port))


def through(device: Device, proxy: str, **settings: str) -> Device:
    return device.with_settings(MQTT_PROXY=proxy, **settings)


def reaches_broker(device: Device) -> bool:
    # The broker has no subscriber for the message.
    return device.send(device, "never read", "--timeout", "5").status == 7


def error_of(device: Device) -> str:
    result = device.send(device, "never sent", "--timeout", "5")
    assert result.status == 3, result
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.mark.parametrize("scheme", KINDS)
def test_messages_pass_a_proxy_in_both_directions(
    scheme: str, lab: Lab, broker: Mosquitto, open_proxies: Proxies
) -> None:
    proxy = open_proxies[scheme]
    own = lab.published_device("proxied").with_settings(MQTT_HOST="localhost", MQTT_PORT=str(broker.port))
    proxied = through(own, f"{scheme}://{proxy.host}:{proxy.port}")
    with proxied.receiver() as receiver:
        confirmed = proxied.send(proxied, f"through {scheme}", "--receipt")
        assert confirmed.status == 0, confirmed
        receiver.wait_for_message(f"through {scheme}")


@pytest.mark.parametrize("scheme", KINDS)
def test_a_login_at_the_proxy(scheme: str, device: Device, locked_proxies: Proxies, directory: Path) -> None:
    proxy = locked_proxies[scheme]
    place = f"{proxy.host}:{proxy.port}"
    good = through(device, f"{scheme}://alice@{place}", MQTT_PROXY_PASSWORD_FILE=str(directory / "password"))
    assert reaches_broker(good)
    wrong = error_of(good.with_settings(MQTT_PROXY_PASSWORD_FILE=str(directory / "wrong")))
    assert "check the user name in MQTT_PROXY and the first line of MQTT_PROXY_PASSWORD_FILE" in wrong
    assert "incorrect" not in wrong
    assert "set MQTT_PROXY_PASSWORD_FILE" in error_of(through(device, f"{scheme}://{place}"))


@pytest.mark.parametrize("scheme", KINDS)
def test_a_proxy_that_is_away_is_named(scheme: str, device: Device) -> None:
    place = f"{LOOPBACK}:{free_port()}"
    error = error_of(through(device, f"{scheme}://{place}"))
    assert f"the proxy {scheme}://{place} cannot be reached: Connection refused; check MQTT_PROXY" in error


@pytest.mark.parametrize("scheme", KINDS)
def test_a_broker_that_the_proxy_does_not_reach_is_explained(
    scheme: str, device: Device, open_proxies: Proxies
) -> None:
    proxy = open_proxies[scheme]
    # 443 is a port that the HTTP proxy allows.
    away = through(device, f"{scheme}://{proxy.host}:{proxy.port}", MQTT_PORT="443")
    assert "check the broker's host and port: the proxy looks the host up, not this device" in error_of(away)


def test_a_port_that_the_proxy_forbids_is_explained(device: Device, open_proxies: Proxies, lab: Lab) -> None:
    proxy = open_proxies["http"]
    forbidden = through(device, f"http://{proxy.host}:{proxy.port}", MQTT_PORT=str(lab.mosquitto.port))
    assert "answers with HTTP status 403; ask its operator to allow the broker" in error_of(forbidden)


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        ("http", b"\x05\x00"),
        ("http", b"HTTP/1.1 200 \x1b[2J\r\n" + b"x" * 100_000),
        ("http", b"HTTP/1.1 twenty\r\n\r\n"),
        ("http", b""),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("socks5", b"\x05\x02"),
        ("socks5", b"\x05\x00\x05\x00\x00\x09"),
        ("socks5", b"\x05"),
    ],
    ids=["socks", "long", "no-number", "closed", "http", "login-unasked", "unknown-address", "cut"],
)
def test_a_proxy_that_lies_is_refused_with_one_line(scheme: str, answer: bytes, device: Device) -> None:
    listener = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        error = error_of(through(device, f"{scheme}://{LOOPBACK}:{listener.getsockname()[1]}"))
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
    assert error.isprintable()
    assert "MQTT_PROXY" in error or "MQTT_HOST" in error


def test_proxies_of_the_environment_are_ignored(lab: Lab) -> None:
    device = lab.published_device("environment")
    away = f"http://{LOOPBACK}:{free_port()}"
    for name in ("http_proxy", "https_proxy", "all_proxy", "mqtt_proxy"):
        device = device.with_settings(**{name: away})
    assert reaches_broker(device)


def test_the_check_names_the_proxy(device: Device, open_proxies: Proxies) -> None:
    proxy = open_proxies["socks5"]
    url = f"socks5://{proxy.host}:{proxy.port}"
    (line,) = [
        line for line in through(device, url).run(CHECK_IDENTITY).stdout.splitlines() if "broker.reachable" in line
    ]
    assert line.startswith("ok ")
    assert line.endswith(f"accepts connections through the proxy {url}")
