"""Removes from Home Assistant what was announced before HOME_ASSISTANT was switched off."""

import logging
from typing import Final

from messaging_receiver.local_broker.connection import LocalConnection
from messaging_receiver.local_broker.home_assistant_note import AnnouncementNote

_LOG: Final = logging.getLogger(__name__)


class Removal:
    """Removes it at each connection, and forgets it at the end.

    Args:
        connection: To the local broker.
        note: Remembers what was announced.
    """

    def __init__(self, connection: LocalConnection, note: AnnouncementNote) -> None:
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
        topics = (self._announced.config_topic, self._announced.state_topic)
        self._is_published = all([self._connection.publish(topic, b"", retain=True) for topic in topics])
        _LOG.info("Removed from Home Assistant: what was announced at %s", self._announced.config_topic)
