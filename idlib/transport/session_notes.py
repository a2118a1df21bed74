"""Notices whether the broker has kept a session, by what is stored of it across restarts."""

import logging
import time
from datetime import UTC, datetime
from typing import Final, Protocol

from idlib.transport.broker import Broker
from idlib.transport.session import Grant, LastSession

_LOG = logging.getLogger(__name__)

_NOTE_SECONDS: Final = 60.0


class SessionMemory(Protocol):
    """Stores across restarts that there is a session; neither method blocks for long or raises."""

    def recall(self) -> str | None:
        """Return the text that was stored last, or None."""

    def note(self, text: str) -> None:
        """Store a text."""


class SessionNotes:
    """What is known of a session at the broker, and what its next connection shows.

    Args:
        broker: Where it is.
        memory: Stores that there is a session, so that its loss is noticed even after a restart; None for no store.
    """

    def __init__(self, broker: Broker, memory: SessionMemory | None) -> None:
        self._broker = broker
        self._memory = memory
        self._granted_expiry: int | None = None
        self._note_due = 0.0
        text = None if memory is None else memory.recall()
        self._has_noted = text is not None
        last = None if text is None else LastSession.from_text(text)
        # The recorded session may have been at another broker.
        self._last = last if last is not None and last.broker == str(broker) else None

    def begin(self, grant: Grant) -> None:
        """Compare what the broker grants with what is known, and report a loss.

        Args:
            grant: From the CONNACK.
        """
        self._granted_expiry = grant.expiry
        if grant.is_kept:
            self._tell_unknown_session()
        elif self._last is not None:
            self._tell_lost_session(self._last)
        # From now on we have a session, even if the subscription is refused.
        self.note()

    def keep(self) -> None:
        """Note once a minute that there is a session."""
        if time.monotonic() >= self._note_due:
            self.note()

    def note(self) -> None:
        """Note that there is a session."""
        self._note_due = time.monotonic() + _NOTE_SECONDS
        self._has_noted = True
        self._last = LastSession(str(self._broker), int(time.time()), self._granted_expiry)
        if self._memory is not None:
            self._memory.note(str(self._last))

    def _tell_lost_session(self, last: LastSession) -> None:
        since = datetime.fromtimestamp(last.active_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if last.should_exist(time.time()):
            _LOG.warning(
                "The broker %s has lost the session, which was active at %s: messages to this device since then may be"
                " lost, although the broker had acknowledged them; it may have been restarted without persistence, or"
                " another client may have used the same client id or user name",
                self._broker,
                since,
            )
        else:
            _LOG.info(
                "The session at the broker %s has expired: it was active at %s, and was kept for %s s; messages to this"
                " device since then may be lost",
                self._broker,
                since,
                last.expiry,
            )

    def _tell_unknown_session(self) -> None:
        """Warn that the broker has a session although none of ours is recorded."""
        if self._memory is None or self._is_session_expected():
            return
        _LOG.warning(
            "The broker %s has a session that this receiver did not record: if files under DATA_PATH were lost, or"
            " restored from a backup, it may be this receiver's own; otherwise another program created it, because the"
            " broker uses the user name as the client id, or because MQTT_CLIENT_ID is not this receiver's alone, and"
            " messages to this device before now may be lost",
            self._broker,
        )

    def _is_session_expected(self) -> bool:
        # The record may be older than the end of the connection.
        return self._has_noted and (self._last is None or self._last.should_exist(time.time() - _NOTE_SECONDS))
