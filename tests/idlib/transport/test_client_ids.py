"""Client ids: the receiver's may be fixed, and no other connection ever uses it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from idlib.errors import ConfigurationError
from idlib.settings import MqttVersion, Settings
from idlib.transport import Broker, Publisher, new_client_id_at
from testbed.scripted_broker import CONNACK, CONNACK_311, Peer, ScriptedBroker

Load = Callable[..., Settings]
BROKER = Broker("broker.example", 1883, MqttVersion.V5)


def test_without_a_setting_a_client_id_is_random() -> None:
    first, second = new_client_id_at(BROKER), new_client_id_at(BROKER)
    assert first != second
    assert len(first) == len(second) == 32


def test_another_connection_never_has_the_fixed_client_id() -> None:
    fixed = replace(BROKER, client_id="fleet-1")
    first, second = new_client_id_at(fixed), new_client_id_at(fixed)
    assert first != second
    for each in (first, second):
        beginning, _, random = each.rpartition("-")
        assert beginning == "fleet-1"
        assert len(random) == 32


@pytest.mark.parametrize("version", list(MqttVersion))
def test_a_publisher_uses_a_client_id_of_its_own(version: MqttVersion) -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.expect(0x10))
        peer.send(CONNACK if version is MqttVersion.V5 else CONNACK_311)
        peer.wait_for_end()

    with (
        ScriptedBroker(script, version=version) as broker,
        Publisher(replace(broker.address, client_id="fleet-1"), 5),
    ):
        pass
    # With MQTT 3.1.1 it connects twice.
    assert len(seen) == (1 if version is MqttVersion.V5 else 2)
    assert all(b"fleet-1-" in connect for connect in seen)


def test_a_fixed_client_id_is_not_shown(load_with: Load) -> None:
    read = load_with(MQTT_CLIENT_ID="the-id-itself", MQTT_USERNAME="alice", MQTT_TLS="on")
    broker = Broker.from_settings(read)
    assert broker.client_id == "the-id-itself"
    assert "the-id-itself" not in repr(broker)


def test_a_fixed_client_id_without_a_login_is_rejected(load_with: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Broker.from_settings(load_with(MQTT_CLIENT_ID="the-id-itself"))
    (problem,) = caught.value.problems
    assert problem.startswith("MQTT_CLIENT_ID is set, and neither MQTT_USERNAME nor MQTT_CERT_FILE is: ")
    assert "the-id-itself" not in problem
    with pytest.raises(ConfigurationError) as caught:
        Broker.from_settings(load_with(MQTT_CLIENT_ID="i", MQTT_CERT_FILE=str(tmp_path / "absent"), MQTT_TLS="on"))
    assert "absent" in str(caught.value)
