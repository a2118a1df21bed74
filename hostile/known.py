"""Known senders: what they send, when the broker acknowledged it, and which receipts they got."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from chaos.reports import Promise
from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import Binding, seal
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.programs import Device

_LOOPBACK: Final = "127.0.0.1"
_KEEPALIVE_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.02
# The broker has acknowledged the message and dropped it (MQTT 5, section 3.4.2.1).
_NO_MATCHING_SUBSCRIBERS: Final = 16


class KnownSenders:
    """Lets devices send in turn at a steady rate, in a separate thread, over one connection.

    Args:
        devices: The first of them asks for receipts while `asking` is set.
        recipient: The recipient.
        recipient_key: Its public key.
        overheard: Called with each payload, as an eavesdropper gets it.
        label: The beginning of each text.
        now: The clock for issuing messages, in seconds since the epoch.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        recipient: str,
        recipient_key: PublicKey,
        overheard: deque[bytes],
        label: str = "known",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.rate = 0.0
        self.asking = threading.Event()
        self.asked = 0
        self.confirmed = 0
        self.acknowledged_at: dict[str, float] = {}
        self._names = tuple(IdentityName(device.name) for device in devices)
        self._keys: tuple[PrivateKey, ...] = tuple(read_private_key(device.key_path) for device in devices)
        self._recipient = IdentityName(recipient)
        self._recipient_key = recipient_key
        self._overheard = overheard
        self._label = label
        self.now = now
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._unacknowledged: dict[int, str] = {}
        self._early: dict[int, tuple[float, ReasonCode]] = {}
        self._client: Client | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def promises(self) -> frozenset[Promise]:
        """The messages that the broker has acknowledged."""
        with self._lock:
            return frozenset(Promise(text, "a known sender", "acknowledged") for text in self.acknowledged_at)

    def connect(self, port: int) -> None:
        """Connect; only after `disconnect`.

        Args:
            port: The port of the broker, or of the proxy in front of it.
        """
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(0)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.connect(_LOOPBACK, port, _KEEPALIVE_SECONDS)
        client.loop_start()
        self._client = client

    def disconnect(self, patience: float) -> None:
        """Send nothing more, and disconnect once everything is acknowledged or the time is up.

        Args:
            patience: Seconds.
        """
        self.rate = 0.0
        self.wait_until_acknowledged(patience)
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()
        with self._lock:
            self._unacknowledged.clear()
            self._early.clear()

    def wait_until_acknowledged(self, patience: float) -> None:
        """Return when the broker has acknowledged everything, or the time is up.

        Args:
            patience: Seconds.
        """
        deadline = time.monotonic() + patience
        while self._number_unacknowledged() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def send(self, number: int) -> tuple[str, ...]:
        """Send this many messages, in turn, and return their texts.

        Args:
            number: How many.
        """
        return tuple(self._send() for _ in range(number))

    def close(self) -> None:
        """Stop sending, in any state."""
        self._stopping.set()
        self._thread.join()
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _number_unacknowledged(self) -> int:
        with self._lock:
            return len(self._unacknowledged)

    def _run(self) -> None:
        next_at = 0.0
        pause = _POLL_SECONDS
        while not self._stopping.wait(pause):
            rate, now = self.rate, time.monotonic()
            pause = _POLL_SECONDS
            if not rate or self._client is None:
                continue
            if now >= next_at:
                # Messages missed while the machine was busy are not sent later: they would come in a burst.
                next_at = max(next_at + 1 / rate, now)
                self._send()
            pause = min(pause, max(0.0, next_at - time.monotonic()))

    def _send(self) -> str:
        client = self._client
        assert client is not None
        number = next(self._numbers)
        index = number % len(self._names)
        asks = index == 0 and self.asking.is_set()
        self.asked += asks
        text = f"{self._label} {index} {number}"
        payload = seal(
            text,
            sender=self._names[index],
            signing_key=self._keys[index],
            recipient=self._recipient,
            encryption_key=self._recipient_key,
            binding=Binding.new(self._recipient, int(self.now())),
            ask_for_receipt=asks,
        )
        self._overheard.append(payload)
        # Without our lock: the library calls back while it holds its own lock, which it also takes here.
        packet_id = client.publish(str(self._recipient), payload, qos=1).mid
        with self._lock:
            heard = self._early.pop(packet_id, None)
            if heard is None:
                self._unacknowledged[packet_id] = text
            else:
                self._note(text, *heard)
        return text

    def _on_connect(self, client: Client, _: Any, __: Any, ___: ReasonCode, ____: Properties | None) -> None:
        client.subscribe(str(self._names[0]), qos=1)

    def _on_publish(self, _: Client, __: Any, packet_id: int, reason: ReasonCode, ___: Properties) -> None:
        heard = time.monotonic(), reason
        with self._lock:
            text = self._unacknowledged.pop(packet_id, None)
            if text is None:
                self._early[packet_id] = heard
            else:
                self._note(text, *heard)

    def _note(self, text: str, heard_at: float, reason: ReasonCode) -> None:
        if not reason.is_failure and reason.value != _NO_MATCHING_SUBSCRIBERS:
            self.acknowledged_at[text] = heard_at

    def _on_message(self, _: Client, __: Any, ___: MQTTMessage) -> None:
        # No other device sends to this one.
        self.confirmed += 1
