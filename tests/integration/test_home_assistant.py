"""What Home Assistant sees at the local broker: a retained configuration, states, and the removal."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from paho.mqtt.client import MQTTMessage

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab
from testbed.programs import RECEIVER, Device
from tests import documents
from tests.integration.kept_session import device_with_session
from tests.integration.test_local_broker import Home

ANNOUNCED = "Announced to Home Assistant"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "local").mkdir()
    with Mosquitto(tmp_path / "local") as mosquitto:
        yield mosquitto


@pytest.fixture
def home(broker: Mosquitto) -> Iterator[Home]:
    client = Home(broker, "messenger/#", "homeassistant/#", "other/#")
    yield client
    client.close()


@pytest.fixture
def shown(lab: Lab, broker: Mosquitto, alice: Device, tmp_path: Path) -> Device:
    device = device_with_session(lab, "shown", tmp_path / "data")
    return device.with_settings(
        LOCAL_MQTT_URL=f"mqtt://127.0.0.1:{broker.port}", HOME_ASSISTANT="on", ALLOWED_SENDERS=str(alice.name)
    )


def next_at(home: Home, topic: str) -> MQTTMessage:
    """Return the next message whose topic matches."""
    while True:
        message = home.next()
        if re.fullmatch(topic, message.topic):
            return message


def test_the_device_appears_and_disappears(alice: Device, shown: Device, home: Home) -> None:
    with shown.start(RECEIVER) as receiver:
        receiver.wait_for_log(ANNOUNCED)
        config = next_at(home, "homeassistant/device/.*")
        members = json.loads(config.payload)
        entities = members["components"]
        [event] = [entity for entity in entities.values() if entity["platform"] == "event"]
        assert members["availability_topic"] == "messenger/status"
        state = json.loads(next_at(home, entities["problem"]["state_topic"]).payload)
        assert (state["waiting"], state["refused"]) == (0, 0)
        assert alice.send(shown, "{{ 7 * 7 }}").status == 0
        assert json.loads(next_at(home, event["state_topic"]).payload)["message"] == "{{ 7 * 7 }}"
        home.publish("homeassistant/status", "online")
        assert next_at(home, "homeassistant/device/.*").payload == config.payload
        receiver.kill()
        while next_at(home, "messenger/status").payload != b"offline":
            pass
    note = Path(shown.settings["DATA_PATH"]) / "home_assistant.json"
    assert note.exists()
    with shown.with_settings(HOME_ASSISTANT_PREFIX="other").start(RECEIVER) as receiver:
        assert next_at(home, config.topic).payload == b""
        moved = next_at(home, "other/device/.*")
        assert moved.payload == config.payload
        receiver.wait_for_log(ANNOUNCED)
    with shown.with_settings(HOME_ASSISTANT="off").start(RECEIVER) as receiver:
        assert next_at(home, moved.topic).payload == b""
        receiver.wait_for_log("Removed from Home Assistant")
        receiver.stop()
    assert not note.exists()


def test_the_example_names_entities_of_the_configuration() -> None:
    automation = yaml.safe_load(documents.block("docs/home.md", "an automation of Home Assistant"))
    device, bob = "alice._device.example.com", "bob._device.example.com"

    def entity(platform: str, name: str) -> str:
        return f"{platform}.{re.sub('[^a-z0-9]+', '_', f'{device} {name}'.lower())}"

    assert automation["triggers"][0]["entity_id"] == entity("event", f"Message from {bob}")
    assert automation["actions"][1]["target"]["entity_id"] == entity("notify", f"Message to {bob}")
