"""The user's own broker at home, if there is one: whether it can be reached, and accepts this device.

It gets no message, and the receiver's session there is left as it is.
"""

import time
from dataclasses import replace
from typing import Final

from paho.mqtt.client import MQTT_ERR_SUCCESS

from idlib.errors import ConfigurationError, TransportError
from idlib.local_broker.connecting import connect
from idlib.local_broker.hints import hint_for_end
from idlib.local_broker.place import LocalBroker
from idlib.settings import MqttVersion, Settings
from idlib.settings.local_settings import check_unused
from idlib.transport import Broker
from idlib.transport.client import Handlers, ignore
from idlib.transport.connection import LEAVE_SECONDS, LOOP_SECONDS, Connector, new_client_id
from idlib.transport.packets import Connack
from messaging_maintenance.checks.catalogue import LOCAL_BROKER_IDS
from messaging_maintenance.checks.result import Item, fail, ok

_SECONDS: Final = 4.0
# MQTT 5, section 2.4.
_UNSUPPORTED_VERSION: Final = 132
(_ID,) = LOCAL_BROKER_IDS


def check_local_broker(settings: Settings) -> list[Item]:
    """Return what there is to say about the local broker.

    Args:
        settings: From the environment, with the variables of both brokers.

    Raises:
        ConfigurationError: The settings of the public broker exclude each other, or a file that they name cannot be
            used; the checks of that broker report it.
    """
    if settings.local_mqtt_url is None:
        return _unused(settings)
    public = Broker.from_settings(settings)
    try:
        place = LocalBroker.from_settings(settings, public)
    except ConfigurationError as error:
        return _wrong(error)
    item = _Attempt(place.broker, public).item()
    if item is None:
        # It may not know MQTT 5, and the receiver then uses the other version, too.
        item = _Attempt(replace(place.broker, version=MqttVersion.V311), public).item()
    return [item or _silence(place.broker)]


def _unused(settings: Settings) -> list[Item]:
    try:
        check_unused(settings)
    except ConfigurationError as error:
        return _wrong(error)
    return [ok(_ID, "LOCAL_MQTT_URL is not set: messages are not passed on to a broker at home")]


def _wrong(error: ConfigurationError) -> list[Item]:
    return [fail(_ID, problem, "correct the settings; see docs/home.md") for problem in error.problems]


class _Attempt:
    """A connection under a new client id, whose session ends with it.

    Args:
        broker: The local broker, with the version of MQTT to try.
        public: The broker through which devices reach each other.
    """

    def __init__(self, broker: Broker, public: Broker) -> None:
        self._broker = broker
        self._public = public
        self._is_accepted = False

    def item(self) -> Item | None:
        """Return what there is to say, or None if the broker gave no answer, as if it did not know this version."""
        handlers = Handlers(self._on_connected, ignore, ignore, ignore)
        connector = Connector(
            self._broker, new_client_id(), handlers, max_payload=0, receive_maximum=1, timeout=_SECONDS
        )
        client = connector.new_client()
        try:
            connect(connector, client, self._broker, self._public)
            deadline = time.monotonic() + _SECONDS
            while not self._is_accepted and time.monotonic() < deadline:
                if client.loop(LOOP_SECONDS) != MQTT_ERR_SUCCESS:
                    break
            if self._is_accepted:
                client.disconnect()
                deadline = time.monotonic() + LEAVE_SECONDS
                while client.want_write() and time.monotonic() < deadline:
                    if client.loop(LOOP_SECONDS) != MQTT_ERR_SUCCESS:
                        break
                return ok(_ID, f"the local broker {self._broker} accepts this device")
        except TransportError as error:
            return fail(_ID, error.fact, error.hint or "check LOCAL_MQTT_URL and the network")
        finally:
            client.close()
        if client.code is None or client.code == _UNSUPPORTED_VERSION:
            return None
        hint = hint_for_end(self._broker, client.code, is_answered=True)
        return fail(_ID, f"the local broker {self._broker} refuses the connection: {client.failure}", hint)

    def _on_connected(self, _connack: Connack) -> None:
        self._is_accepted = True


def _silence(broker: Broker) -> Item:
    hint = hint_for_end(broker, None, is_answered=False)
    return fail(_ID, f"the local broker {broker} does not answer", hint)
