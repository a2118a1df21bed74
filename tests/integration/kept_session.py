"""Sessions that are at the broker without a receiver, also before it is started for the first time."""

import queue
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab
from testbed.programs import Device

_PATIENCE = 20.0


def device_with_session(lab: Lab, name: str, data_path: Path) -> Device:
    """Return a published device whose session another client has created, which takes less time than a receiver.

    Args:
        lab: The daemons.
        name: The first part of the device's name.
        data_path: Its DATA_PATH, which must not exist.
    """
    device = lab.published_device(name).with_settings(DATA_PATH=str(data_path))
    client_id = f"kept-{device.name.partition('.')[0]}"
    data_path.mkdir(0o700)
    (data_path / "client_id").write_text(f"{client_id}\n")
    keep_session(lab.mosquitto, client_id, device.name)
    return device


def keep_session(broker: Mosquitto, client_id: str, topic: str) -> None:
    """Create a session that outlives its connection, and end the connection.

    Args:
        broker: The broker.
        client_id: The session's name.
        topic: What it subscribes to.
    """
    expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    expiry.SessionExpiryInterval = 3600
    subscribed: queue.Queue[object] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)

    def subscribe(*_: object) -> None:
        client.subscribe(topic, qos=1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.connect(broker.host, broker.port, clean_start=False, properties=expiry)
    client.loop_start()
    subscribed.get(timeout=_PATIENCE)
    client.disconnect()
    client.loop_stop()
    # Without this cycle the client ends now, and closes its sockets itself.
    client.on_connect = client.on_subscribe = None
