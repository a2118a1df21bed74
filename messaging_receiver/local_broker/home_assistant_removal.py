"""Removes from Home Assistant what was announced before HOME_ASSISTANT was switched off."""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from messaging_receiver.local_broker.home_assistant_note import AnnouncementNote

_LOG: Final = logging.getLogger(__name__)


class Connection(Protocol):
    """What is needed of the connection to the local broker."""

    @property
    def is_active(self) -> bool:
        """Whether there is a connection."""

    def on_connection(self, listener: Callable[[], None]) -> None:
        """Call something at each connection."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish something without waiting for the answer; return whether it is under way."""


class Removal:
    """Removes it at each connection, and forgets it at the end.

    Args:
        connection: To the local broker.
        note: Remembers what was announced.
    """

    def __init__(self, connection: Connection, note: AnnouncementNote) -> None:
        self._connection = connection
        self._note = note
        self._announced = note.read()
        self._is_published = False
        connection.on_connection(self._remove)

    def finish(self) -> None:
        """Forget what was announced if it has been removed; otherwise it is removed at the next start."""
        if self._is_published and self._connection.is_active:
            self._note.forget()

    def _remove(self) -> None:
        if self._announced is None:
            return
        is_config_gone = self._connection.publish(self._announced.config_topic, b"", retain=True)
        is_state_gone = self._connection.publish(self._announced.state_topic, b"", retain=True)
        self._is_published = is_config_gone and is_state_gone
        _LOG.info("Removed from Home Assistant: what was announced at %s", self._announced.config_topic)
