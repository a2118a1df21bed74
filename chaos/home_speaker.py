"""A client of the local broker that sends messages through the bridge, by publishing on `out/`."""

import contextlib
import threading
from typing import Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from chaos.reports import Promise

OPTIONS: Final = "out/"
_PAUSE_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.0


class HomeSpeaker:
    """Publishes one message after the other in a separate thread, each over a connection of its own.

    What the broker has not acknowledged in time is not published again, so that every copy is one of the bridge's.

    Args:
        host: The address of the broker, or of a proxy in front of it.
        port: Its port.
        topic: Where to publish.
    """

    def __init__(self, host: str, port: int, topic: str) -> None:
        self._host = host
        self._port = port
        self._topic = topic
        self._promises: list[Promise] = []
        self._published: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def promises(self) -> frozenset[Promise]:
        """What the broker has acknowledged."""
        return frozenset(self._promises)

    @property
    def published(self) -> frozenset[str]:
        """What was published, acknowledged or not."""
        return frozenset(self._published)

    def close(self) -> None:
        """Publish nothing more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(_PAUSE_SECONDS):
            number += 1
            text = f"home.{number}"
            self._published.append(text)
            # The broker may be stopped, and the connection may be cut.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                if self._publish(text):
                    self._promises.append(Promise(text, OPTIONS, "acknowledged"))

    def _publish(self, text: str) -> bool:
        """Publish a message; return whether the broker has acknowledged it."""
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311, reconnect_on_failure=False)
        client.connect(self._host, self._port)
        client.loop_start()
        try:
            sent = client.publish(self._topic, text, qos=1)
            sent.wait_for_publish(_PATIENCE_SECONDS)
            return sent.is_published()
        finally:
            client.disconnect()
            client.loop_stop()
