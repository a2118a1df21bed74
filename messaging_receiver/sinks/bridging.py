"""Publishes each message at the local broker, before another sink delivers it, if there is one."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.errors import TransportError
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.system.log_limit import LimitedLog
from idlib.transport.publication import FIRST_FAILURE, NO_MATCHING_SUBSCRIBERS
from messaging_receiver.local_broker.bridge import LocalBridge
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate, Sink
from messaging_receiver.sinks.lines import json_line_of
from messaging_receiver.sinks.setting_aside import SetAside, named

_LOG: Final = logging.getLogger(__name__)

# MQTT 5, section 3.4.2.1.
_QUOTA_EXCEEDED: Final = 151
# After the first refusal and after the second one; there are three.
PAUSES_SECONDS: Final = (1.0, 4.0)
# After this many connections that broke in place of an answer to the same message, the message is the likely cause.
MAX_BROKEN: Final = 20
_SHORTEST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.25
_GRACE_SECONDS: Final = 1.0
SLOW_SECONDS: Final = 5.0


class Bridging:
    """A sink that publishes each message as a JSON object at the local broker, and waits for its acknowledgement.

    The local broker comes first: while it is away, the other sink gets nothing, and so nothing twice.

    Args:
        bridge: The local broker.
        sink: Delivers the messages afterwards; None if they go to the local broker only.
        set_aside: Keeps messages that the local broker refuses, if they go nowhere else; None if they do.
        stopping: Set to stop the receiver; an answer is then awaited for at most one more second.
        note_movement: Called while an answer is awaited, because the calling thread is not stuck.
    """

    def __init__(
        self,
        bridge: LocalBridge,
        sink: Sink | None,
        set_aside: SetAside | None,
        stopping: threading.Event,
        note_movement: Callable[[], None],
    ) -> None:
        self._bridge = bridge
        self._connection = bridge.connection
        self._sink = sink
        self._set_aside = set_aside
        self._stopping = stopping
        self._note_movement = note_movement
        self._outage = FailureLog(_LOG)
        self._unheard = LimitedLog(_LOG)
        self._give_up_at: float | None = None
        self._awaited_since: float | None = None

    @property
    def problem(self) -> str | None:
        """The problem of the local broker, or that of the other sink."""
        since = self._awaited_since
        if (
            since is not None
            and time.monotonic() - since >= SLOW_SECONDS
            and not (self._outage.cause or self._bridge.problem)
        ):
            return "The local broker does not acknowledge a message"
        return self._outage.cause or self._bridge.problem or (None if self._sink is None else self._sink.problem)

    def check(self) -> None:
        """Check the other sink.

        Raises:
            IdlibError: It can deliver no more.
        """
        self._unheard.flush()
        if self._sink is not None:
            self._sink.check()

    def deliver(self, message: ReceivedMessage) -> Fate:
        """Publish a message, and hand it to the other sink once the local broker has answered.

        A message that the local broker refuses three times goes to the other sink only; without one, it is set aside.

        Args:
            message: The message.

        Raises:
            IdlibError: The other sink can deliver no more.
        """
        topic, payload = self._bridge.topics.received_from(message.sender), json_line_of(message).encode()
        self._awaited_since = time.monotonic()
        refusal = self._publish(topic, payload)
        self._awaited_since = None
        if refusal is None:
            return Fate.KEPT
        if refusal:
            _LOG.error("The local broker does not accept the message %s: %s", named(message), refusal)
            if self._sink is None and self._set_aside is not None:
                return self._set_aside.keep(message)
        else:
            self._bridge.count_published()
        return Fate.DELIVERED if self._sink is None else self._sink.deliver(message)

    def _publish(self, topic: str, payload: bytes) -> str | None:
        """Publish until the broker has answered for good; return why it refuses, "" if not, None if we stop before."""
        refusals = broken = 0
        pauses = Backoff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        is_first = True
        while not self._stopping.is_set() or (is_first and self._connection.is_active):
            is_first = False
            if not self._connection.admits(topic, payload):
                return f"{len(payload)} bytes are more than it accepts in one packet"
            try:
                code = self._try(topic, payload)
            except TransportError as error:
                broken += 1
                if broken >= MAX_BROKEN:
                    return f"{error.fact}, each of {broken} times that it was sent"
                continue
            if code is None:
                continue
            if code < FIRST_FAILURE:
                self._outage.end()
                self._note_unheard(topic, code)
                return ""
            why = self._connection.explain(code)
            if code == _QUOTA_EXCEEDED:
                self._outage.begin(f"The local broker does not accept messages at present: {why}")
                self._pause(pauses.next_pause())
                continue
            refusals += 1
            if refusals > len(PAUSES_SECONDS):
                return why
            self._pause(PAUSES_SECONDS[refusals - 1])
        return None

    def _try(self, topic: str, payload: bytes) -> int | None:
        """Publish once; return the reason code, None if there is no connection or no answer before the end.

        Raises:
            TransportError: The connection was lost before the answer.
        """
        answer = self._connection.send(topic, payload)
        if answer is None:
            self._pause(_POLL_SECONDS)
            return None
        while True:
            self._note_movement()
            try:
                return answer.result(_POLL_SECONDS)
            except TimeoutError:
                if not self._may_wait():
                    return None

    def _note_unheard(self, topic: str, code: int) -> None:
        if code == NO_MATCHING_SUBSCRIBERS:
            self._unheard.write(
                logging.WARNING,
                "unheard",
                "The local broker has no subscriber for %s, and drops what is published there",
                topic,
            )

    def _may_wait(self) -> bool:
        if not self._stopping.is_set():
            return True
        self._give_up_at = self._give_up_at or time.monotonic() + _GRACE_SECONDS
        return time.monotonic() < self._give_up_at

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0 and not self._stopping.wait(min(rest, 10.0)):
            self._note_movement()
