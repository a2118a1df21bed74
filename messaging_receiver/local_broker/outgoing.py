"""Takes messages from the local broker and puts them into the outbox, from which the resident sender delivers them."""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.commands import command
from idlib.envelope.identifier import new_identifier
from idlib.errors import ConfigurationError, DatabaseError, IdlibError, MalformedNameError, MessageError, StoreError
from idlib.local_broker.place import Topics
from idlib.names import IdentityName
from idlib.storage.outgoing import NewOutgoingMessage, surely_fits
from idlib.storage.queued import MAX_OCTETS, BootTime, OutboxStore
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.system.log_limit import LimitedLog
from idlib.transport import ReceivedPacket
from messaging_receiver.local_broker.connection import RECEIVE_MAXIMUM, Taken
from messaging_receiver.local_broker.loops import check_is_no_echo

_LOG: Final = logging.getLogger(__name__)

# Content that is not a text in UTF-8.
_OCTETS_TYPE: Final = "application/octet-stream"
# What is published with QoS 0 is dropped if as many messages as this wait for the outbox.
MAX_TAKEN: Final = 4 * RECEIVE_MAXIMUM
_MAX_SHOWN: Final = 300
_RECONNECTING_SECONDS: Final = 0.25
_IDLE_SECONDS: Final = 5.0
_SHORTEST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_WATCH_SECONDS: Final = 60.0


class Outgoing:
    """Puts messages into the outbox in their order; each is acknowledged to the local broker once it is durable.

    While the outbox is full or cannot be written, nothing is acknowledged, so the local broker keeps further messages.

    Args:
        open_outbox: Opens the outbox.
        is_watched: Returns whether a resident sender delivers from it.
        topics: The topics at the local broker.
        max_message_size: MAX_MESSAGE_SIZE.
        acknowledge: Acknowledges a message to the local broker.
        is_sent_again: Returns whether the local broker hands a message over once more, because its connection is lost;
            None until the next connection shows that.
        report: Publishes why a message is not sent.
        note_movement: Called while the outbox cannot be written, because the calling thread is not stuck.
    """

    def __init__(
        self,
        open_outbox: Callable[[], OutboxStore],
        is_watched: Callable[[], bool],
        topics: Topics,
        max_message_size: int,
        acknowledge: Callable[[ReceivedPacket], None],
        is_sent_again: Callable[[ReceivedPacket], bool | None],
        report: Callable[[bytes], object],
        note_movement: Callable[[], None],
    ) -> None:
        self._open_outbox = open_outbox
        self._is_watched = is_watched
        self._topics = topics
        self._max_message_size = max_message_size
        self._acknowledge = acknowledge
        self._is_sent_again = is_sent_again
        self._report = report
        self._note_movement = note_movement
        self._taken: queue.Queue[Taken | None] = queue.Queue()
        self._outage = FailureLog(_LOG)
        self._refusals = LimitedLog(_LOG)
        self._outbox: OutboxStore | None = None
        self._watch_due = 0.0
        self._number = 0

    @property
    def problem(self) -> str | None:
        """Why messages do not get into the outbox at present; None if they do."""
        return self._outage.cause

    @property
    def number(self) -> int:
        """How many messages were put into the outbox."""
        return self._number

    def take(self, taken: Taken) -> None:
        """Take what was published below PREFIX/out/; never waits.

        Args:
            taken: From the local broker, which hands over a bounded number of messages that are not acknowledged.
        """
        if not taken.packet.qos and self._taken.qsize() >= MAX_TAKEN:
            self._refuse(taken, "it was published with QoS 0 while many messages wait for the outbox; use QoS 1")
            return
        self._taken.put(taken)

    def wake(self) -> None:
        """Let the thread in `run` notice at once that it is to stop."""
        self._taken.put(None)

    def run(self, stopping: threading.Event) -> None:
        """Put messages into the outbox until `stopping` is set.

        Args:
            stopping: Set by another thread; what is not in the outbox by then is sent again by the local broker.
        """
        while not stopping.is_set():
            self._note_movement()
            try:
                taken = self._taken.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                self._close()
                self._refusals.flush()
                continue
            if taken is not None:
                self._process(taken, stopping)
        self._close()
        self._refusals.finish()

    def _process(self, taken: Taken, stopping: threading.Event) -> None:
        try:
            message = self._message(taken)
        except MessageError as error:
            self._refuse(taken, str(error))
        else:
            if not self._put(message, taken.packet, stopping):
                return
            self._number += 1
            self._warn_if_no_one_sends()
        self._acknowledge(taken.packet)

    def _message(self, taken: Taken) -> NewOutgoingMessage:
        """Return the message to be sent.

        Raises:
            MessageError: It can never be sent.
        """
        if taken.is_retained:
            raise MessageError(
                "it is retained at the local broker, and would be sent at each connection", "publish without retain"
            )
        if taken.fault is not None:
            raise MessageError(taken.fault)
        topic = taken.topic.decode("utf-8", "replace")
        if not topic.startswith(self._topics.out):
            raise MessageError(f"its topic does not start with {self._topics.out}")
        try:
            recipient = IdentityName(topic.removeprefix(self._topics.out))
        except MalformedNameError as error:
            raise MessageError(error.fact, error.hint) from error
        if not taken.payload:
            raise MessageError("it is empty")
        check_is_no_echo(recipient, taken.payload)
        is_fitting = surely_fits(taken.payload, self._max_message_size) and 2 * len(taken.payload) < MAX_OCTETS
        if not is_fitting:
            raise MessageError(
                f"{len(taken.payload)} bytes are too many for a message of {self._max_message_size} bytes",
                "shorten it, or raise MAX_MESSAGE_SIZE on both sides",
            )
        now = int(time.time())
        try:
            text = taken.payload.decode()
        except UnicodeDecodeError:
            return NewOutgoingMessage(
                str(recipient), new_identifier(), taken.payload, now, None, content_type=_OCTETS_TYPE
            )
        return NewOutgoingMessage(str(recipient), new_identifier(), text, now, None)

    def _put(self, message: NewOutgoingMessage, packet: ReceivedPacket, stopping: threading.Event) -> bool:
        """Put a message into the outbox, and retry until that succeeds; return whether it did before the end."""
        pauses = Backoff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while not stopping.is_set():
            self._note_movement()
            # What waits during an outage would otherwise be sent once for each connection that is lost meanwhile.
            is_sent_again = self._is_sent_again(packet)
            if is_sent_again:
                break
            if is_sent_again is None:
                stopping.wait(_RECONNECTING_SECONDS)
                continue
            try:
                # Open only while messages come, so that a file that is replaced is noticed.
                if self._outbox is None:
                    self._outbox = self._open_outbox()
                self._outbox.put(message, BootTime.now())
            except (ConfigurationError, StoreError) as error:
                self._close()
                self._note_outage(error)
                self._pause(pauses.next_pause(), stopping)
                continue
            self._outage.end()
            return True
        return False

    def _note_outage(self, error: IdlibError) -> None:
        if isinstance(error, DatabaseError):
            # Its error changes in an outage, for example while the server starts; the outage is the same.
            self._outage.begin("Messages from the local broker wait for the database", f": {error}")
        else:
            self._outage.begin(f"Messages from the local broker wait: {error}")

    def _close(self) -> None:
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            outbox.close()

    def _pause(self, seconds: float, stopping: threading.Event) -> None:
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0 and not stopping.wait(min(rest, 10.0)):
            self._note_movement()

    def _refuse(self, taken: Taken, why: str) -> None:
        topic = taken.topic.decode("utf-8", "replace")
        shown = topic if len(topic) <= _MAX_SHOWN else f"{topic[:_MAX_SHOWN]}..."
        self._refusals.write(
            logging.WARNING, "refused", "What was published to %a at the local broker is not sent: %s", shown, why
        )
        self._report(json.dumps({"topic": shown, "error": why}).encode())

    def _warn_if_no_one_sends(self) -> None:
        if time.monotonic() < self._watch_due:
            return
        self._watch_due = time.monotonic() + _WATCH_SECONDS
        if not self._is_watched():
            _LOG.warning(
                "Messages from the local broker wait: %s is not running; start it with the same settings",
                command("deliver"),
            )
