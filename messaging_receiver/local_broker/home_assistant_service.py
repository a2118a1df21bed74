"""Announces this device to Home Assistant, and keeps what it shows up to date."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from idlib.lists import SenderLists
from idlib.local_broker.place import Topics
from idlib.names import IdentityName
from idlib.system.failure_log import FailureLog
from messaging_receiver.local_broker.home_assistant import Announcement, DeviceState, announcement, named_senders
from messaging_receiver.local_broker.home_assistant_note import Announced, AnnouncementNote

_LOG: Final = logging.getLogger(__name__)

# What Home Assistant publishes when it has started.
_BIRTH: Final = b"online"
_LOOK_SECONDS: Final = 1.0
# Between two announcements, because anyone at the local broker may publish what Home Assistant does at its start.
SHORTEST_ANNOUNCEMENT_SECONDS: Final = 5.0
SHORTEST_STATE_SECONDS: Final = 3.0
LONGEST_STATE_SECONDS: Final = 60.0


class Connection(Protocol):
    """What is needed of the connection to the local broker."""

    @property
    def is_active(self) -> bool:
        """Whether there is a connection."""

    def subscribe(self, topic: str, hear: Callable[[bytes], None]) -> None:
        """Receive what is published to a topic."""

    def on_connection(self, listener: Callable[[], None]) -> None:
        """Call something at each connection."""

    def admits(self, topic: str, payload: bytes) -> bool:
        """Return whether the broker accepts packets of a size."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish something without waiting for the answer; return whether it is under way."""


class HomeAssistant:
    """Keeps the configuration and the state of this device at the local broker.

    Args:
        connection: To the local broker.
        name: The device's name.
        topics: The topics at the local broker.
        prefix: HOME_ASSISTANT_PREFIX.
        lists: Returns the operator's lists.
        note: Remembers what was announced.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        connection: Connection,
        name: IdentityName,
        topics: Topics,
        prefix: str,
        lists: Callable[[], SenderLists],
        note: AnnouncementNote,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read: Callable[[], DeviceState] | None = None
        self._connection = connection
        self._name = name
        self._topics = topics
        self._prefix = prefix
        self._lists = lists
        self._note = note
        self._clock = clock
        self._outage = FailureLog(_LOG)
        self._is_due = threading.Event()
        self._announced_lists: SenderLists | None = None
        self._announced_at: float | None = None
        self._state: bytes | None = None
        self._state_at = 0.0
        connection.subscribe(f"{prefix}/status", self._hear)
        connection.on_connection(self._is_due.set)

    def show(
        self, problem: Callable[[], str | None], number_waiting: Callable[[], int], number_refused: Callable[[], int]
    ) -> None:
        """Publish the state of the receiver from now on.

        Args:
            problem: Returns what is wrong, or None.
            number_waiting: Returns how many messages are deferred.
            number_refused: Returns how many messages were refused.
        """
        self._read = lambda: DeviceState(problem(), number_waiting(), number_refused())

    def run(self, stopping: threading.Event) -> None:
        """Keep them until `stopping` is set.

        Args:
            stopping: Set by another thread.
        """
        while not stopping.wait(_LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Publish what is due."""
        if not self._connection.is_active:
            return
        now = self._clock()
        lists = self._lists()
        if lists is not self._announced_lists:
            self._is_due.set()
        is_early = self._announced_at is not None and now - self._announced_at < SHORTEST_ANNOUNCEMENT_SECONDS
        if self._is_due.is_set() and not is_early:
            # Before it is published, so that a connection in between is noticed.
            self._is_due.clear()
            if self._announce(lists):
                self._announced_lists, self._announced_at, self._state = lists, now, None
            else:
                self._is_due.set()
        self._publish_state(now)

    def _hear(self, payload: bytes) -> None:
        if payload == _BIRTH:
            self._is_due.set()

    def _announce(self, lists: SenderLists) -> bool:
        senders, has_others = named_senders(lists)
        wanted = announcement(self._name, self._topics, self._prefix, senders, has_others=has_others)
        present = Announced(wanted.topic, self._topics.state, wanted.components)
        earlier = self._note.read()
        gone = {} if earlier is None else _gone(earlier, wanted)
        # A broker ends the connection at a packet that is too large for it, and would do so again at the next one.
        payload = wanted.payload(gone)
        if not self._connection.admits(wanted.topic, payload):
            self._outage.begin(
                f"This device is not announced to Home Assistant: {len(payload)} bytes are more than the local broker"
                " accepts in one packet; raise its packet size limit, or name fewer senders in ALLOWED_SENDERS"
            )
            return True
        self._outage.end()
        if earlier == present:
            return self._publish(wanted.topic, payload)
        if earlier is not None and not self._remove_elsewhere(earlier, present):
            return False
        # Before it is published, so that it can be removed if this process is killed in between.
        self._note.write(Announced(wanted.topic, self._topics.state, {**gone, **wanted.components}))
        if gone and not self._publish(wanted.topic, wanted.payload(gone)):
            return False
        if not self._publish(wanted.topic, wanted.payload()):
            return False
        self._note.write(present)
        _LOG.info("Announced to Home Assistant: %d entities at %s", len(wanted.components), wanted.topic)
        return True

    def _remove_elsewhere(self, earlier: Announced, present: Announced) -> bool:
        """Remove what is at other topics than before; return whether that is under way."""
        topics = {earlier.config_topic, earlier.state_topic} - {present.config_topic, present.state_topic}
        return all(self._publish(topic, b"") for topic in topics)

    def _publish_state(self, now: float) -> None:
        if self._read is None:
            return
        state = self._read().payload()
        age = now - self._state_at
        is_due = age >= LONGEST_STATE_SECONDS or (state != self._state and age >= SHORTEST_STATE_SECONDS)
        if (self._state is None or is_due) and self._publish(self._topics.state, state):
            self._state, self._state_at = state, now

    def _publish(self, topic: str, payload: bytes) -> bool:
        return self._connection.publish(topic, payload, retain=True)


def _gone(earlier: Announced, wanted: Announcement) -> dict[str, str]:
    """Return the entities that are no longer in a configuration at the same topic."""
    if earlier.config_topic != wanted.topic:
        return {}
    return {key: platform for key, platform in earlier.components.items() if key not in wanted.components}
