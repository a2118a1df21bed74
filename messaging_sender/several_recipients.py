"""Sends one message to several recipients over one connection, to each by itself, and reports the result for each."""

import argparse
import contextlib
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from idlib.discovery.misplacement import explain_absence
from idlib.envelope import new_identifier
from idlib.errors import (
    BogusError,
    ExitStatus,
    IdlibError,
    NoRecordError,
    NoSubscriberError,
    RefusedMessageError,
    TemporaryDiscoveryError,
    TransportError,
)
from idlib.names import IdentityName
from idlib.output import counted
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system.failure_log import FailureLog
from idlib.system.uninterrupted import uninterrupted
from idlib.transport import Broker, Publisher
from messaging_sender.mark_memory import MarkMemory
from messaging_sender.queuing import has_waiting, is_temporary, queue_message, resident_sender, warn_if_nobody_sends
from messaging_sender.reporting import SendResult, reason_of, report
from messaging_sender.sealed import KeyLog, Sealed
from messaging_sender.sealing import Sealer
from messaging_sender.sender_record import OwnRecord
from messaging_sender.transmission import dropped

_LOG = logging.getLogger(__name__)

MAX_ROUTES: Final = 8
# One may be a message that this broker never answers.
_MAX_UNANSWERED: Final = 2
_POLL_SECONDS: Final = 0.25


@dataclass(slots=True)
class _Route:
    """A message on its way to one recipient.

    Args:
        place: The place of the recipient among all, from 0.
        message: The message.
        sealed: What is published; None if it is not sealed yet.
        is_published: Whether it was handed to the broker, so that it may be delivered.
    """

    place: int
    message: NewOutgoingMessage
    sealed: Sealed | None = None
    is_published: bool = False


class SenderToSeveral:
    """Sends a message to several recipients, a few at a time, each look-up in DNS included.

    If DNS does not answer for a recipient, those in the same domain are moved behind all others, to not delay them.

    Args:
        settings: From the environment.
        arguments: From the command line.
        recipients: Their names, each once.
        content: The text, or the bytes of content that has a type.

    Raises:
        KeyFileError: Our own key is missing or unusable.
        ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        MessageError: The content is empty, or too large for any recipient.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: argparse.Namespace,
        recipients: Sequence[IdentityName],
        content: str | bytes,
    ) -> None:
        self._settings = settings
        self._arguments = arguments
        self._recipients = recipients
        self._message = NewOutgoingMessage(
            "", "", content, int(time.time()), arguments.expires, content_type=arguments.content_type
        )
        self._memory = MarkMemory.from_settings(settings)
        self._sealer = Sealer.from_settings(settings, self._memory)
        self._discovery = self._sealer.discovery
        self._sealer.check(replace(self._message, recipient=str(recipients[0]), identifier=new_identifier()))
        self._broker = Broker.from_settings(settings)
        self._own_record = OwnRecord(settings, self._discovery, FailureLog(_LOG))
        self._key_log = KeyLog()
        self._publisher: Publisher | None = None
        # Guards everything below.
        self._changed = threading.Condition()
        self._pending = deque(range(len(recipients)))
        # Recipients in the domains below, which come last.
        self._delayed: deque[int] = deque()
        self._silent_domains: set[str] = set()
        self._under_way: dict[int, _Route] = {}
        self._results: Counter[SendResult] = Counter()
        # The place and status of the first recipient, in the given order, to which the message was not sent.
        self._first_failure: tuple[int, ExitStatus] | None = None
        # Why the broker can take no more messages.
        self._end: IdlibError | None = None
        self._crash: Exception | None = None
        self._is_over = False
        # Messages in a row that the broker has not answered.
        self._unanswered = 0

    def send(self) -> int:
        """Send the message to all; return the status of the first failure in the order of the recipients, or OK.

        A message that the broker has dropped because it has no subscriber counts only if nothing else has failed.

        Raises:
            KeyboardInterrupt: The program was interrupted; every recipient is reported.
        """
        try:
            with contextlib.ExitStack() as stack:
                self._connect(stack)
                # Runs before the connection is closed, so that its end is not taken for the cause.
                stack.callback(self._stop)
                self._run()
        except BaseException as end:
            self._conclude(end)
            raise
        self._tell()
        if self._first_failure is not None:
            return self._first_failure[1]
        return ExitStatus.NO_SUBSCRIBER if self._results[SendResult.NO_SUBSCRIBER] else ExitStatus.OK

    def _connect(self, stack: contextlib.ExitStack) -> None:
        try:
            self._publisher = stack.enter_context(Publisher(self._broker, self._arguments.timeout))
        except TransportError as error:
            self._end = error

    def _run(self) -> None:
        places = MAX_ROUTES if self._publisher is None else min(MAX_ROUTES, self._publisher.window)
        for _ in range(min(places, len(self._recipients))):
            threading.Thread(target=self._walk, name="Route", daemon=True).start()
        while self._goes_on():
            pass
        if self._crash is not None:
            raise self._crash

    def _goes_on(self) -> bool:
        """Return whether a recipient is left; if so, wait a moment for a change first."""
        with uninterrupted(), self._changed:
            goes_on = self._crash is None and bool(self._pending or self._delayed or self._under_way)
            if goes_on:
                self._changed.wait(_POLL_SECONDS)
            return goes_on

    def _stop(self) -> None:
        with self._changed:
            self._is_over = True

    def _walk(self) -> None:
        # A sealer of its own, because sealers are not made for several threads.
        sealer = Sealer(self._settings, self._sealer.key, self._discovery, self._memory)
        try:
            while (route := self._take()) is not None:
                self._send(route, sealer)
        except Exception as error:  # noqa: BLE001  # raised again in the main thread
            with self._changed:
                self._crash = error
                self._changed.notify_all()

    def _take(self) -> _Route | None:
        """Return the next recipient's route; None if there is none."""
        with self._changed:
            while self._pending:
                place = self._pending.popleft()
                if self._domain(place) not in self._silent_domains:
                    return self._begin(place)
                self._delayed.append(place)
            return self._begin(self._delayed.popleft()) if self._delayed else None

    def _begin(self, place: int) -> _Route | None:
        if self._is_over:
            # `_conclude` reports it.
            self._pending.appendleft(place)
            return None
        route = self._under_way[place] = _Route(place, self._message_to(place))
        return route

    def _message_to(self, place: int) -> NewOutgoingMessage:
        return replace(self._message, recipient=str(self._recipients[place]), identifier=new_identifier())

    def _domain(self, place: int) -> str:
        return self._recipients[place].text.partition(".")[2]

    def _send(self, route: _Route, sealer: Sealer) -> None:
        recipient = self._recipients[route.place]
        try:
            if self._arguments.queue and has_waiting(self._settings, recipient):
                self._queue(route, "earlier messages to it are still queued")
                return
            if self._end is not None:
                self._fail(route, self._end)
                return
            if self._publish(route, recipient, sealer):
                self._finish(route, SendResult.ACKNOWLEDGED, None)
        except IdlibError as error:
            self._note(error, route)
            self._fail(route, error)

    def _fail(self, route: _Route, error: IdlibError) -> None:
        """Queue a message that could not be sent, if that is wanted and may help; report it otherwise."""
        if self._arguments.queue and is_temporary(error):
            self._queue_or_fail(route, error)
        elif isinstance(error, NoSubscriberError):
            self._finish(route, SendResult.NO_SUBSCRIBER, dropped(error))
        else:
            is_unclear = route.is_published and not isinstance(error, RefusedMessageError)
            self._finish(route, SendResult.UNACKNOWLEDGED if is_unclear else SendResult.FAILED, error)

    def _publish(self, route: _Route, recipient: IdentityName, sealer: Sealer) -> bool:
        """Publish a message and wait for the broker; return False if the program ends, and it was not published."""
        self._own_record.look(sealer.key)
        try:
            if self._arguments.verbose:
                sealer.describe(recipient)
            route.sealed = sealer.seal(route.message)
        except NoRecordError as error:
            raise explain_absence(error, recipient, self._discovery) from error
        self._key_log.tell(route.message.recipient, route.sealed)
        publisher = self._publisher
        assert publisher is not None  # noqa: S101  # otherwise `_end` was raised
        with self._changed:
            if self._is_over:
                return False
            route.is_published = True
            topic = self._broker.topics.of(recipient)
            publication = publisher.publish(topic, route.sealed.payload, route.sealed.expiry_seconds)
        try:
            publisher.wait(publication)
        except TransportError:
            # It is reported or queued as it is now: it must not be sent once the connection is back.
            publisher.withdraw(publication)
            raise
        with self._changed:
            self._unanswered = 0
        return True

    def _note(self, error: IdlibError, route: _Route) -> None:
        """Note if a failure concerns more than one recipient."""
        with self._changed:
            if isinstance(error, RefusedMessageError | NoSubscriberError):
                self._unanswered = 0
            elif isinstance(error, TransportError):
                self._unanswered += 1
                if self._unanswered >= _MAX_UNANSWERED:
                    self._end = self._end or error
            elif isinstance(error, TemporaryDiscoveryError | BogusError):
                self._silent_domains.add(self._domain(route.place))

    def _queue_or_fail(self, route: _Route, error: IdlibError) -> None:
        try:
            self._queue(route, str(error))
        except IdlibError as failure:
            self._finish(route, SendResult.FAILED, failure)

    def _queue(self, route: _Route, why: str) -> None:
        was_sealed_to_epoch = route.sealed is not None and route.sealed.epoch is not None
        with self._changed:
            if self._is_over:
                return
            queue_message(self._settings, replace(route.message, was_sealed_to_epoch=was_sealed_to_epoch))
            if not self._results[SendResult.QUEUED]:
                _LOG.warning(
                    "The message to %s is queued, and those to other recipients may be; %s will send them: %s",
                    route.message.recipient,
                    resident_sender(),
                    why,
                )
                warn_if_nobody_sends(self._settings)
            self._finish(route, SendResult.QUEUED, None)

    def _finish(self, route: _Route, result: SendResult, error: BaseException | None) -> None:
        warning = self._own_record.tell() if result is SendResult.ACKNOWLEDGED else None
        with self._changed:
            if self._is_over and error is not None:
                # It failed because the program ends: `_conclude` reports it.
                return
            if self._under_way.pop(route.place, None) is None:
                # `_conclude` has reported it.
                return
            self._record(route, result, error, warning)
            self._changed.notify_all()

    def _record(self, route: _Route, result: SendResult, error: BaseException | None, warning: str | None) -> None:
        self._results[result] += 1
        recipient = route.message.recipient
        if result is SendResult.ACKNOWLEDGED:
            _LOG.info("The broker %s has acknowledged the message to %s.", self._broker, recipient)
        elif result is SendResult.NO_SUBSCRIBER:
            _LOG.warning("The message to %s was not delivered: %s", recipient, error)
        elif error is not None:
            what = "was not sent" if result is SendResult.FAILED else "was not acknowledged"
            _LOG.error("The message to %s %s: %s", recipient, what, reason_of(error))
        if isinstance(error, IdlibError) and result is not SendResult.NO_SUBSCRIBER:
            failure = route.place, error.exit_status
            self._first_failure = min(self._first_failure or failure, failure)
        if self._arguments.json and sys.stdout is not None:
            # If the reader of stdout has gone, report the others in the log; the error shows at exit.
            with contextlib.suppress(OSError):
                sys.stdout.write(
                    f"{report(route.message, result, sealed=route.sealed, error=error, warning=warning)}\n"
                )
                sys.stdout.flush()

    def _conclude(self, end: BaseException) -> None:
        """Report the recipients for which there is no result."""
        with self._changed:
            for route in self._under_way.values():
                result = SendResult.UNACKNOWLEDGED if route.is_published else SendResult.FAILED
                self._record(route, result, end, None)
            for place in sorted((*self._pending, *self._delayed)):
                self._record(_Route(place, self._message_to(place)), SendResult.FAILED, end, None)
            self._under_way.clear()
            self._pending.clear()
            self._delayed.clear()
        self._tell()

    def _tell(self) -> None:
        """Log how many recipients had which result."""
        results = ", ".join(f"{number} {result}" for result, number in sorted(self._results.items()) if number)
        _LOG.info("Sent to %s: %s", counted(len(self._recipients), "recipient"), results)
