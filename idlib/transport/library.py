"""Checks that the installed MQTT library has the private parts that we replace or call."""

import inspect
from importlib.metadata import version
from typing import Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from idlib.errors import ConfigurationError

_METHODS: Final = {
    "_packet_read": ("self",),
    "_packet_handle": ("self",),
    "_sock_recv": ("self", "bufsize"),
    "_sock_send": ("self", "buf"),
    "_create_socket": ("self",),
    "_reset_sockets": ("self", "sockpair_only"),
    "_send_pubrec": ("self", "mid"),
    "_handle_connack": ("self",),
    "_handle_pubackcomp": ("self", "cmd"),
    "_handle_pingresp": ("self",),
}
_ATTRIBUTES: Final = (
    "_in_packet",
    "_last_bytes_received",
    "_msgtime_mutex",
    "_sock",
    "_out_messages",
)


def check_library() -> None:
    """Check that the parts of paho-mqtt that `PacketClient` builds on are as they were when it was written.

    Raises:
        ConfigurationError: They are not.
    """
    client = Client(CallbackAPIVersion.VERSION2)
    strange = [name for name, parameters in _METHODS.items() if _parameters_of(name) != parameters]
    strange += [name for name in _ATTRIBUTES if not hasattr(client, name)]
    if strange:
        raise ConfigurationError(
            f"paho-mqtt {version('paho-mqtt')} cannot be used: Client.{strange[0]} is not as expected;"
            " install the version that requirements/runtime.txt names"
        )


def _parameters_of(name: str) -> tuple[str, ...]:
    method = getattr(Client, name, None)
    return tuple(inspect.signature(method).parameters) if callable(method) else ()
