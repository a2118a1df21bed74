"""Brokers besides our own Mosquitto: what each delivers, and what is said about what it cannot do."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from idlib.settings import ServerAddress
from lab import broker as amqtt
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.nats import Nats
from testbed.daemons.rabbitmq import RabbitMq
from testbed.lab import Lab
from testbed.programs import CHECK_IDENTITY, RECEIVER, Device
from tests import documents

Broker = Mosquitto | Nats | RabbitMq | ServerAddress
Start = Callable[[str], Broker]

BROKERS: Final = "docs/brokers.md"
V311: Final = {"MQTT_VERSION": "3.1.1"}
V5: Final = {"MQTT_VERSION": "5"}
SLASHES: Final = {"MQTT_TOPIC_FORMAT": "slashes"}


def settings_in(mark: str) -> dict[str, str]:
    """Return the settings in a block of the document."""
    return dict(line.split("=", 1) for line in documents.block(BROKERS, mark).splitlines())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start each broker when a test first needs it, and stop all of them after the last."""
    kinds = {"mosquitto": Mosquitto, "nats": Nats, "rabbitmq": RabbitMq}
    running: dict[str, Broker] = {}
    with ExitStack() as stack:

        def start(name: str) -> Broker:
            if name not in running:
                context = amqtt.running() if name == "amqtt" else kinds[name](tmp_path_factory.mktemp(name))
                running[name] = stack.enter_context(context)
            return running[name]

        yield start


@pytest.fixture(scope="module")
def devices(lab: Lab) -> list[Device]:
    """Return three devices for all tests, because making keys takes time."""
    return [lab.published_device(label) for label in ("reader", "first", "second")]


@pytest.fixture
def reader(devices: list[Device], tmp_path: Path) -> Device:
    """Return a device whose receiver has not run yet."""
    return devices[0].with_settings(DATA_PATH=str(tmp_path / "reader"))


def at(device: Device, broker: Broker, **settings: str) -> Device:
    """Return a device that uses a broker, with settings."""
    host = broker.address if isinstance(broker, ServerAddress) else broker.host
    return device.with_settings(MQTT_HOST=host, MQTT_PORT=str(broker.port), **settings)


def restart(broker: Broker) -> None:
    """Restart a broker that keeps sessions on a disk."""
    assert not isinstance(broker, ServerAddress)
    broker.stop()
    broker.start()


def leave(_broker: Broker) -> None:
    """Let a broker run that takes long to start, and was restarted in another test."""


def error_of(device: Device, recipient: Device, status: int = 3, timeout: str = "5") -> str:
    """Return the only line of an error with which a message is not sent."""
    result = device.send(recipient, "never sent", "--timeout", timeout)
    assert result.status == status, result
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.mark.parametrize(
    ("name", "settings", "meanwhile"),
    [
        ("mosquitto", {**V5, **SLASHES, "MQTT_TOPIC_PREFIX": "flotte ü/"}, restart),
        ("mosquitto", {**V311, "MQTT_TOPIC_PREFIX": "fleet."}, restart),
        ("rabbitmq", settings_in("settings for RabbitMQ"), restart),
        ("rabbitmq", {**V311, **SLASHES, "MQTT_TOPIC_PREFIX": "fleet/"}, leave),
        ("nats", {**settings_in("settings for NATS"), "MQTT_TOPIC_PREFIX": "fleet/"}, restart),
    ],
    ids=[
        "Mosquitto, MQTT 5, slashes",
        "Mosquitto, MQTT 3.1.1, dots",
        "RabbitMQ, dots",
        "RabbitMQ, slashes",
        "NATS, slashes",
    ],
)
def test_messages_and_receipts_arrive_also_after_an_absence_and_a_restart(
    name: str,
    settings: dict[str, str],
    meanwhile: Callable[[Broker], None],
    started: Start,
    devices: list[Device],
    reader: Device,
) -> None:
    broker = started(name)
    reader, first, second = (at(device, broker, **settings) for device in (reader, *devices[1:]))
    with reader.receiver() as receiver:
        confirmed = first.send(reader, "with a receipt", "--receipt")
        assert confirmed.status == 0, confirmed
        assert second.send(reader, "from another device").status == 0
        receiver.wait_for_message(f"{second.name} says: from another device")
        assert receiver.stop() == 0
    assert first.send(reader, "during an absence").status == 0
    meanwhile(broker)
    with reader.receiver() as receiver:
        receiver.wait_for_message("during an absence")
        assert any("session kept" in line for line in receiver.stderr)
        assert not any(" WARNING " in line or " ERROR " in line for line in receiver.stderr)


@pytest.mark.parametrize(
    ("name", "settings"), [("rabbitmq", V311), ("nats", {**V311, **SLASHES})], ids=["RabbitMQ", "NATS"]
)
def test_the_check_finds_nothing_wrong_with_the_broker(
    name: str, settings: dict[str, str], started: Start, reader: Device
) -> None:
    device = at(reader, started(name), **settings)
    lines = [line for line in device.run(CHECK_IDENTITY).stdout.splitlines() if "  broker." in line]
    assert len(lines) == 7
    assert [line for line in lines if not line.startswith("ok ")] == []


def test_the_brokers_here_have_the_lines_of_the_document(started: Start) -> None:
    rabbitmq, nats = started("rabbitmq"), started("nats")
    assert isinstance(rabbitmq, RabbitMq)
    assert isinstance(nats, Nats)
    assert documents.block(BROKERS, "rabbitmq.conf") in rabbitmq.configuration.read_text()
    written = re.sub(r'"[^"]*"', '""', nats.configuration.read_text()).splitlines()
    assert set(re.sub(r'"[^"]*"', '""', documents.block(BROKERS, "nats.conf")).splitlines()) <= set(written)


def test_at_rabbitmq_dots_and_slashes_are_the_same_topic(started: Start, devices: list[Device], reader: Device) -> None:
    broker = started("rabbitmq")
    sender = at(devices[1], broker, **V311, **SLASHES)
    reader = at(reader, broker, **V311)
    with reader.receiver() as receiver:
        confirmed = sender.send(reader, "in another form", "--receipt")
        assert confirmed.status == 0, confirmed
        receiver.wait_for_message("in another form")


@pytest.mark.parametrize("form", [{}, SLASHES], ids=["dots", "slashes"])
def test_amqtt_delivers_while_the_receiver_is_connected(form: dict[str, str], started: Start, reader: Device) -> None:
    # It keeps no messages for a client without a login.
    device = at(reader, started("amqtt"), **V311, **form)
    with device.receiver() as receiver:
        confirmed = device.send(device, "while connected", "--receipt")
        assert confirmed.status == 0, confirmed
        receiver.wait_for_message("while connected")


def test_the_check_finds_that_amqtt_keeps_no_message_for_a_client_without_a_login(
    started: Start, reader: Device
) -> None:
    device = at(reader, started("amqtt"), **V311)
    found = device.run(CHECK_IDENTITY).stdout
    assert "broker.session         the broker kept a session between two connections, but no message in it" in found
    assert "amqtt keeps them only for clients with a login" in found


def test_amqtt_does_not_answer_mqtt_5_which_is_explained(started: Start, reader: Device) -> None:
    device = at(reader, started("amqtt"), **V5)
    error = error_of(device, device, timeout="2")
    assert "did not accept the connection: " in error
    assert "3.1.1" in error


@pytest.mark.parametrize("name", ["rabbitmq", "nats"])
def test_mqtt_5_at_a_broker_without_it_is_explained(name: str, started: Start, reader: Device) -> None:
    device = at(reader, started(name), **V5, **SLASHES)
    error = error_of(device, device)
    assert "did not accept the connection: " in error
    assert "MQTT_VERSION" in error
    assert "3.1.1" in error
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("3.1.1")


def test_dots_at_nats_are_explained(started: Start, reader: Device) -> None:
    device = at(reader, started("nats"), **V311)
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log(
            "refuses the subscription: Unspecified error; check this device's permissions on the broker; if it refuses"
            " dots, as NATS does, set MQTT_TOPIC_FORMAT=slashes"
        )
    error = error_of(device, device, timeout="4")
    assert "ended the connection each time instead: does it accept QoS 1 and packets of " in error
    assert "if it refuses dots, as NATS does, set MQTT_TOPIC_FORMAT=slashes" in error


@pytest.mark.parametrize("other", [SLASHES, {"MQTT_TOPIC_PREFIX": "fleet/"}], ids=["form", "prefix"])
def test_a_sender_with_other_topics_is_told_that_nobody_listens(
    other: dict[str, str], started: Start, lab: Lab
) -> None:
    device = at(lab.published_device("other"), started("mosquitto"), **V5, **other)
    error = error_of(device, device, status=7)
    assert f"has no subscriber for {device.topic}; the message was dropped; " in error
    assert "if it runs, check that it has the same MQTT_TOPIC_PREFIX and MQTT_TOPIC_FORMAT" in error


def test_a_receiver_gets_messages_to_its_former_topic_while_devices_change(started: Start, lab: Lab) -> None:
    former = at(lab.published_device("changing"), started("mosquitto"), **V5)
    changed = former.with_settings(**SLASHES)
    with former.receiver() as receiver:
        assert receiver.stop() == 0
    with changed.receiver() as receiver:
        for number, sender in enumerate((former, changed)):
            assert sender.send(changed, f"change {number}").status == 0
            receiver.wait_for_message(f"change {number}")


def test_a_broker_that_demands_a_prefix_is_explained(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "rights").write_text("topic readwrite fleet/#\n")
    with Mosquitto(tmp_path, extra=f"acl_file {tmp_path / 'rights'}\n") as broker:
        device = at(lab.published_device("fleet"), broker)
        error = error_of(device, device)
        assert "refuses the message: Not authorized; " in error
        assert "if topics must begin with something, set MQTT_TOPIC_PREFIX" in error
        prefixed = device.with_settings(MQTT_TOPIC_PREFIX="fleet/")
        with prefixed.receiver() as receiver:
            assert prefixed.send(prefixed, "with its prefix").status == 0
            receiver.wait_for_message("with its prefix")
