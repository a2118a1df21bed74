"""What every connection to the broker begins with."""

import secrets
from typing import Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from idlib.settings import MqttVersion
from idlib.transport.broker import Broker

QOS_AT_LEAST_ONCE: Final = 1
# Half a minute after a device has changed its address, the broker and it notice that the old connection is dead.
KEEPALIVE_SECONDS: Final = 30
CONNECT_TIMEOUT_SECONDS: Final = 5.0


def new_client_id() -> str:
    """Return a client id of 128 random bits: who knows it can take over the session, so it says nothing of us."""
    return secrets.token_hex(16)


def new_client(broker: Broker, client_id: str, *, manual_ack: bool) -> Client:
    """Return the MQTT library's client for a broker, not connected yet.

    Args:
        broker: Which.
        client_id: The session's name there.
        manual_ack: Whether what is received is acknowledged by the caller, in a session that outlives the connection.
    """
    is_version_5 = broker.version is MqttVersion.V5
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        # MQTT 5 says at connecting whether to begin anew.
        clean_session=None if is_version_5 else not manual_ack,
        protocol=MQTTProtocolVersion.MQTTv5 if is_version_5 else MQTTProtocolVersion.MQTTv311,
        manual_ack=manual_ack,
    )
    client.connect_timeout = CONNECT_TIMEOUT_SECONDS
    if broker.tls is not None:
        client.tls_set_context(broker.tls)
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    return client
