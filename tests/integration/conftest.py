"""Fixtures of the integration tests: real daemons on loopback, and devices."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import disk
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.namespace import Namespace
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import LOOPBACK
from testbed.daemons.unbound import Unbound
from testbed.dns_lab.lab import DnsLab, running
from testbed.lab import DEBIAN_PACKAGES, Lab, authorities, missing_packages, open_lab, trusted_keys
from testbed.messages import BrokerClient
from testbed.programs import Device, Program
from testbed.rotation import RotationLab, open_rotation_lab
from testbed.shifted_clock import ShiftedClock


def pytest_collection_modifyitems() -> None:
    if missing := missing_packages(DEBIAN_PACKAGES):
        pytest.exit(f"the integration tests need Debian packages: apt-get install {' '.join(missing)}", 1)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab", numbered=False)) as opened:
        yield opened


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Yield a lab in a network namespace with a validating resolver at port 53 as the system's resolver."""
    directory = tmp_path_factory.mktemp("world", numbered=False)
    with (
        Namespace(tmp_path_factory.mktemp("namespace", numbered=False)) as namespace,
        open_lab(directory, namespace) as opened,
    ):
        yield opened


@pytest.fixture(scope="session")
def dns_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsLab]:
    """Yield the zones, good and bad, of the table of DNS conditions."""
    with running(tmp_path_factory.mktemp("dns-lab")) as dns_lab:
        yield dns_lab


@pytest.fixture(scope="session")
def alice(lab: Lab) -> Device:
    """Return a published device that sends."""
    return lab.published_device("alice")


@pytest.fixture(scope="session")
def bob(lab: Lab) -> Device:
    """Return a published device whose receiver runs for the whole session."""
    return lab.published_device("bob")


@pytest.fixture(scope="session")
def bob_receiver(bob: Device) -> Iterator[Program]:
    """Bob's receiver, shared by tests that tell their messages apart by the text."""
    with bob.receiver() as receiver:
        yield receiver


@pytest.fixture
def own_mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Yield a broker that a test may stop and start."""
    (tmp_path / "mosquitto").mkdir()
    with Mosquitto(tmp_path / "mosquitto") as mosquitto:
        yield mosquitto


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """Yield a database server that no test stops; its data need not survive."""
    with Postgresql(durable=False) as postgresql:
        yield postgresql


@pytest.fixture
def own_postgresql() -> Iterator[Postgresql]:
    """Yield a database server that a test may kill."""
    with Postgresql() as postgresql:
        yield postgresql


@pytest.fixture
def own_unbound(lab: Lab, tmp_path: Path) -> Iterator[Unbound]:
    """Yield a resolver that a test may stop and start."""
    (tmp_path / "unbound").mkdir()
    with Unbound(tmp_path / "unbound", authorities(lab.knot), trusted_keys(lab.knot)) as unbound:
        yield unbound


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory on a separate disk that a test can fill."""
    with disk.small_disk(tmp_path / "disk") as directory:
        yield directory


@pytest.fixture
def silent_broker() -> Iterator[socket.socket]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(20)
        yield server


@pytest.fixture
def silent_resolver() -> Iterator[str]:
    """Yield the address of a server that receives queries and never answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, 0))
        yield f"{LOOPBACK}:{server.getsockname()[1]}"


@pytest.fixture
def anybody(lab: Lab) -> Iterator[BrokerClient]:
    """Yield a client of the broker, without a device's identity."""
    client = BrokerClient(lab.mosquitto)
    yield client
    client.close()


@pytest.fixture
def receiver_of() -> Iterator[Callable[[Device], Program]]:
    """Start receivers that end with the test."""
    started: list[Program] = []

    def start(device: Device) -> Program:
        started.append(device.receiver())
        return started[-1]

    yield start
    for program in started:
        program.close()


@pytest.fixture
def sender(lab: Lab, own_mosquitto: Mosquitto, own_unbound: Unbound) -> Device:
    """Return a device with a broker and a resolver that a test may stop."""
    return lab.published_device("sender").with_settings(
        MQTT_PORT=str(own_mosquitto.port), DNS_RESOLVER=own_unbound.address
    )


@pytest.fixture
def recipient(lab: Lab, own_mosquitto: Mosquitto) -> Device:
    """Return a device that receives through the broker that a test may stop."""
    return lab.published_device("recipient").with_settings(MQTT_PORT=str(own_mosquitto.port))


@pytest.fixture
def receiver(recipient: Device) -> Iterator[Program]:
    """Yield the receiver of that device, which has subscribed."""
    with recipient.receiver() as program:
        yield program


@pytest.fixture
def rotation_lab(tmp_path: Path) -> Iterator[RotationLab]:
    """Yield daemons of one test, whose zones accept updates."""
    directory = tmp_path / "lab"
    directory.mkdir()
    with open_rotation_lab(directory) as lab:
        yield lab


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock:
    """Return a clock for the programs of one or more devices."""
    directory = tmp_path / "clock"
    directory.mkdir()
    return ShiftedClock(directory)
