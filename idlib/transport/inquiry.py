"""A short connection that shows whether the broker has a session under a client id."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from paho.mqtt.client import MQTT_ERR_SUCCESS

from idlib.transport.broker import Broker
from idlib.transport.client import Handlers, PacketClient, ignore
from idlib.transport.connection import (
    CONNECT_TIMEOUT_SECONDS,
    LEAVE_SECONDS,
    QOS_AT_LEAST_ONCE,
    Connector,
    Explanation,
    explain_end,
    leave,
)
from idlib.transport.hints import hint_for_silence
from idlib.transport.packets import Connack, Publish
from idlib.transport.session import Grant

_SHORT_LOOP_SECONDS: Final = 0.05


class Inquiry:
    """A connection that continues a session if there is one, and acknowledges nothing; used as a context manager.

    It leaves the session as it is, unless `end` is called.

    Args:
        broker: The broker to ask.
        client_id: The session's name there.
        timeout: Seconds that connecting may take, and then the answer.
    """

    def __init__(self, broker: Broker, client_id: str, timeout: float) -> None:
        self._broker = broker
        self._timeout = timeout
        self._connector = Connector(
            broker,
            client_id,
            Handlers(self._on_connected, self._note_answer, self._note_message, ignore),
            max_payload=0,
            receive_maximum=1,
            timeout=min(CONNECT_TIMEOUT_SECONDS, timeout),
            session_expiry=broker.session_expiry,
            is_size_announced=False,
        )
        self._connack: Connack | None = None
        self._answered_subscription = threading.Event()
        self._heard = threading.Event()
        self._ends = False
        self.client: PacketClient = self._connector.new_client()

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            TransportError: The broker was not reached.
        """
        self._connector.connect(self.client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def end_of_connection(self) -> Explanation:
        """Return why there is no answer, and what the user can do."""
        hint = hint_for_silence(self._broker)
        if self.client.failure is None:
            return Explanation(f"no answer within {self._timeout:g} s", hint)
        return explain_end(self._broker, self.client, hint)

    def ask(self, leaving: threading.Event | None = None) -> bool | None:
        """Return whether the broker has a session under the client id, or identifies clients by something else.

        Args:
            leaving: Ends the wait when it is set.

        Returns:
            None if the broker refused or ended the connection, or did not answer in time.
        """
        deadline = time.monotonic() + self._timeout
        while self._connack is None and time.monotonic() < deadline:
            if (leaving is not None and leaving.is_set()) or not self._loop():
                return None
        grant = self.grant
        return None if grant is None else grant.is_kept or grant.assigned_client_id is not None

    @property
    def grant(self) -> Grant | None:
        """What the broker has granted; None if it has not accepted the connection."""
        if self._connack is None:
            return None
        return Grant.from_connack(
            self._broker.version,
            self._broker.session_expiry,
            self._connack.properties,
            is_kept=self._connack.is_session_present,
        )

    def subscribe(self, topic: str) -> None:
        """Subscribe within the session, and wait for the broker's answer, whatever it is.

        Args:
            topic: What to subscribe to.
        """
        self.client.subscribe(topic, QOS_AT_LEAST_ONCE)
        deadline = time.monotonic() + self._timeout
        while not self._answered_subscription.is_set() and time.monotonic() < deadline and self._loop():
            pass

    def hears(self) -> bool:
        """Wait for a message of the session, which is not acknowledged, and return whether one has come."""
        deadline = time.monotonic() + self._timeout
        while not self._heard.is_set() and time.monotonic() < deadline and self._loop():
            pass
        return self._heard.is_set()

    def is_connected(self) -> bool:
        """Return whether the connection still holds the session, as far as is known."""
        return self._loop(0) and self.client.is_connected()

    def end(self) -> None:
        """End the session together with the connection; only MQTT 5 can do this."""
        self._ends = True

    def leave(self) -> None:
        """Disconnect, unless already disconnected."""
        leave(self.client, self._broker.version, ends=self._ends)
        self.client.close()

    def _loop(self, seconds: float = _SHORT_LOOP_SECONDS) -> bool:
        return self.client.loop(seconds) == MQTT_ERR_SUCCESS

    def _on_connected(self, connack: Connack) -> None:
        self._connack = connack

    def _note_answer(self, _codes: tuple[int, ...]) -> None:
        self._answered_subscription.set()

    def _note_message(self, _message: Publish) -> None:
        self._heard.set()


def end_session(broker: Broker, client_id: str, timeout: float) -> None:
    """End a session of MQTT 3.1.1 (section 3.1.2.4): a clean session ends the one before it, and then itself.

    Args:
        broker: Where the session is.
        client_id: Its name.
        timeout: Seconds that connecting may take.

    Raises:
        TransportError: The broker was not reached.
    """
    accepted = threading.Event()
    connector = Connector(
        broker,
        client_id,
        Handlers(lambda _: accepted.set(), ignore, ignore, ignore),
        max_payload=0,
        receive_maximum=1,
        timeout=timeout,
    )
    client = connector.new_client()
    connector.connect(client)
    _run(client, timeout, lambda: not accepted.is_set())
    client.disconnect()
    _run(client, LEAVE_SECONDS, client.want_write)
    client.close()


def _run(client: PacketClient, seconds: float, is_busy: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while is_busy() and time.monotonic() < deadline:
        if client.loop(_SHORT_LOOP_SECONDS) != MQTT_ERR_SUCCESS:
            break
