"""MQTT in WebSockets, at Mosquitto's own listener for them."""

from collections.abc import Iterator

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, free_port
from testbed.lab import Lab
from testbed.programs import CHECK_IDENTITY, SUBSCRIBED, Device

PORT = free_port()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    listener = f"listener {PORT} {LOOPBACK}\nprotocol websockets\n"
    with Mosquitto(tmp_path_factory.mktemp("websockets"), extra=listener) as mosquitto:
        yield mosquitto


def device_at(lab: Lab, url: str, **settings: str) -> Device:
    device = lab.published_device("web").without_setting("MQTT_HOST").without_setting("MQTT_PORT")
    return device.with_settings(MQTT_URL=url, **settings)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_long_messages_pass_in_both_directions(version: str, lab: Lab, broker: Mosquitto) -> None:
    device = device_at(lab, f"ws://{LOOPBACK}:{PORT}/mqtt", MQTT_VERSION=version, MAX_MESSAGE_SIZE="1000000")
    # Longer than a frame that Mosquitto sends at once; it sends about 40 kB a second.
    text = "a long message " * 4_000
    with device.receiver() as receiver:
        confirmed = device.send(device, "-", "--receipt", stdin=text)
        assert confirmed.status == 0, confirmed
        receiver.wait_for_message(text)
    # While the receiver is away, the broker keeps what is sent.
    assert device.send(device, "sent meanwhile").status == 0
    with device.receiver() as receiver:
        receiver.wait_for_message("sent meanwhile")


def test_a_killed_broker_is_reached_again(lab: Lab, broker: Mosquitto) -> None:
    device = device_at(lab, f"ws://{LOOPBACK}:{PORT}")
    with device.receiver() as receiver:
        broker.kill()
        broker.start()
        # The killed broker may have forgotten the session.
        receiver.wait_for("new subscription", lambda: sum(SUBSCRIBED in line for line in receiver.stderr) > 1)
        assert device.send(device, "after the kill", "--timeout", "20").status == 0
        receiver.wait_for_message("after the kill")
    assert any(f"ws://{LOOPBACK}:{PORT}/mqtt" in line for line in receiver.stderr)


def test_the_check_passes(lab: Lab, broker: Mosquitto) -> None:
    device = device_at(lab, f"ws://{LOOPBACK}:{PORT}")
    lines = [line for line in device.run(CHECK_IDENTITY).stdout.splitlines() if "  broker." in line]
    assert lines
    assert [line for line in lines if not line.startswith("ok ")] == []


def test_a_port_for_plain_mqtt_is_explained(lab: Lab, broker: Mosquitto) -> None:
    device = device_at(lab, f"ws://{LOOPBACK}:{broker.port}")
    result = device.send(device, "never sent", "--timeout", "5")
    assert result.status == 3
    assert "check that host, port and path of MQTT_URL are those of the broker's WebSockets" in result.stderr
