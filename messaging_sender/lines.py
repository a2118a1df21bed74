"""Sends each line as a message, reconnects if necessary, and reports the result for each line."""

import argparse
import contextlib
import io
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import BinaryIO, Final

from idlib.discovery.misplacement import explain_absence
from idlib.envelope import new_identifier
from idlib.errors import (
    ClockError,
    DiscoveryError,
    ExitStatus,
    IdlibError,
    MessageError,
    NoRecordError,
    NoSubscriberError,
    RefusedMessageError,
)
from idlib.output import counted
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system.failure_log import FailureLog
from idlib.system.uninterrupted import uninterrupted
from idlib.transport import Broker, Publication, Publisher
from messaging_sender.interruptible_input import InterruptibleInput
from messaging_sender.mark_memory import MarkMemory
from messaging_sender.queuing import has_waiting, is_temporary, queue_message, resident_sender, warn_if_nobody_sends
from messaging_sender.reporting import SendResult, report
from messaging_sender.sealed import KeyLog, Sealed
from messaging_sender.sealing import Sealer
from messaging_sender.sender_record import OwnRecord
from messaging_sender.sending import decode
from messaging_sender.transmission import dropped

_LOG = logging.getLogger(__name__)

_PROGRESS_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Sent:
    """A line that was published and is not acknowledged yet."""

    number: int
    message: NewOutgoingMessage
    sealed: Sealed
    publication: Publication


class Ranges:
    """Increasing numbers, stored and printed as ranges: `1-38, 41`."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, number: int) -> None:
        """Add a number larger than all before."""
        if self._ranges and self._ranges[-1][1] == number - 1:
            self._ranges[-1] = (self._ranges[-1][0], number)
        else:
            self._ranges.append((number, number))

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._ranges)

    def __str__(self) -> str:
        return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in self._ranges)


class Progress:
    """Decides when to log progress: once a minute, if it has changed.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at = clock()
        self._logged = 0

    def is_due(self, number: int) -> bool:
        """Return whether to log the number now; if so, it counts as logged.

        Args:
            number: How many lines have been acknowledged.
        """
        now = self._clock()
        if now - self._logged_at < _PROGRESS_SECONDS:
            return False
        is_new = number != self._logged
        self._logged_at, self._logged = now, number
        return is_new


class LineSender:
    """Sends lines to one recipient.

    Args:
        settings: From the environment.
        arguments: From the command line.
    """

    def __init__(self, settings: Settings, arguments: argparse.Namespace) -> None:
        self._settings = settings
        self._arguments = arguments
        self._sealer = Sealer.from_settings(settings, MarkMemory.from_settings(settings))
        self._broker = Broker.from_settings(settings)
        self._publisher: Publisher | None = None
        self._own_record = OwnRecord(settings, self._sealer.discovery, FailureLog(_LOG))
        self._progress = Progress()
        self._key_log = KeyLog()
        self._unacknowledged: deque[_Sent] = deque()
        self._acknowledged = Ranges()
        self._queued = Ranges()
        self._dropped = Ranges()
        self._status = ExitStatus.OK
        # Why all further lines are queued (to keep them in order); None if they are sent.
        self._queuing: str | None = None

    def send(self, source: BinaryIO) -> int:
        """Send each line; return the exit status of the first error, or NO_SUBSCRIBER if a line was dropped, or OK.

        Args:
            source: UTF-8, or any bytes with --content-type.

        Raises:
            IdlibError: No further line can be sent.
        """
        arguments = self._arguments
        with ExitStack() as last, ExitStack() as ending, ExitStack() as stack:
            self._begin(stack)
            # Runs after the connection is closed, when no more acknowledgements can arrive.
            ending.push(self._tell)
            for number, octets in enumerate(split(self._polling(source), self._settings.max_message_size), 1):
                message = NewOutgoingMessage(
                    str(arguments.recipient), new_identifier(), "", int(time.time()), arguments.expires
                )
                try:
                    self._send_line(number, self._with_content(message, octets, f"line {number}"))
                except MessageError as error:
                    # Settle earlier lines first, so that lines are reported in order.
                    self._settle_all()
                    self._fail(number, message, error)
                except IdlibError as error:
                    # Report this line last; earlier lines are reported when the connection is closed.
                    last.callback(self._print, report(message, SendResult.FAILED, error=error))
                    raise
                self._flush()
                self._settle_some()
            self._settle_all()
        return self._status or (ExitStatus.NO_SUBSCRIBER if len(self._dropped) else ExitStatus.OK)

    def _with_content(self, message: NewOutgoingMessage, octets: bytes, what: str) -> NewOutgoingMessage:
        if self._arguments.content_type is not None:
            return replace(message, content=octets, content_type=self._arguments.content_type)
        return replace(message, content=decode(octets, what))

    def _polling(self, source: BinaryIO) -> BinaryIO:
        """Return a source that reports acknowledgements while the user is still typing."""
        try:
            descriptor = source.fileno()
        except io.UnsupportedOperation:
            # A text from the command line is complete already.
            return source
        return io.BufferedReader(InterruptibleInput(descriptor, self._settle_some))

    def _begin(self, stack: ExitStack) -> None:
        if self._arguments.queue and has_waiting(self._settings, self._arguments.recipient):
            self._queuing = "earlier messages to it are still queued"
            return
        try:
            self._find_recipient()
            self._publisher = stack.enter_context(Publisher(self._broker, self._arguments.timeout))
        except IdlibError as error:
            self._begin_to_queue(error)

    def _find_recipient(self) -> None:
        recipient = self._arguments.recipient
        try:
            if self._arguments.verbose:
                self._sealer.describe(recipient)
            else:
                self._sealer.discovery.find(recipient)
        except NoRecordError as error:
            raise explain_absence(error, recipient, self._sealer.discovery) from error

    def _send_line(self, number: int, message: NewOutgoingMessage) -> None:
        sealed = None
        if self._queuing is None:
            try:
                sealed = self._sealer.seal(message)
            except (ClockError, DiscoveryError) as error:
                self._begin_to_queue(error)
        if sealed is None or self._publisher is None:
            self._queue(number, message)
            return
        self._own_record.look(self._sealer.key)
        self._key_log.tell(message.recipient, sealed)
        topic = self._broker.topics.of(message.recipient)
        with uninterrupted():
            publication = self._publisher.publish(topic, sealed.payload, sealed.expiry_seconds)
            self._unacknowledged.append(_Sent(number, message, sealed, publication))

    def _settle_some(self) -> None:
        """Settle lines that the broker has answered, and wait if too many lines are unacknowledged."""
        self._log_progress()
        while self._unacknowledged and self._publisher is not None:
            is_full = len(self._unacknowledged) >= self._publisher.window
            if not is_full and not self._unacknowledged[0].publication.is_answered:
                return
            self._settle_first()

    def _settle_all(self) -> None:
        while self._unacknowledged:
            self._settle_first()

    def _settle_first(self) -> None:
        sent = self._unacknowledged[0]
        assert self._publisher is not None  # noqa: S101  # it has sent the line
        try:
            self._publisher.wait(sent.publication)
        except RefusedMessageError as error:
            self._settle(partial(self._fail, sent.number, sent.message, error, sent.sealed))
        except NoSubscriberError as error:
            if self._arguments.queue:
                self._begin_to_queue(error)
            else:
                self._settle(partial(self._drop, sent, error))
        except IdlibError as error:
            self._begin_to_queue(error)
        else:
            # May wait: if a signal ends the program meanwhile, the line is still reported as one of the rest.
            warning = self._own_record.tell()
            self._settle(partial(self._acknowledge, sent, warning))

    def _settle(self, account: Callable[[], object]) -> None:
        """Account for the oldest unacknowledged line, and forget it, so that no signal comes in between.

        Args:
            account: Counts and reports the line.
        """
        with uninterrupted():
            account()
            self._unacknowledged.popleft()
        self._flush()

    def _begin_to_queue(self, error: IdlibError) -> None:
        """Queue unacknowledged and later lines if --queue is given and the error is temporary; else raise it."""
        if not self._arguments.queue or not is_temporary(error):
            raise error
        self._queuing = str(error)
        while self._unacknowledged:
            sent = self._unacknowledged[0]
            if self._publisher is not None and sent.publication.is_acknowledged:
                warning = self._own_record.tell()
                self._settle(partial(self._acknowledge, sent, warning))
            else:
                self._settle(partial(self._queue_or_fail, sent))

    def _queue_or_fail(self, sent: _Sent) -> None:
        try:
            was_sealed_to_epoch = sent.sealed.epoch is not None
            self._queue(sent.number, replace(sent.message, was_sealed_to_epoch=was_sealed_to_epoch))
        except MessageError as error:
            # It expired in the meantime; later lines may still be sent.
            self._fail(sent.number, sent.message, error, sent.sealed)

    def _queue(self, number: int, message: NewOutgoingMessage) -> None:
        queue_message(self._settings, message)
        if not len(self._queued):
            _LOG.warning(
                "Messages to %s are queued from line %d on; %s will send them: %s",
                message.recipient,
                number,
                resident_sender(),
                self._queuing,
            )
            warn_if_nobody_sends(self._settings)
        self._queued.add(number)
        self._print(report(message, SendResult.QUEUED))

    def _acknowledge(self, sent: _Sent, warning: str | None) -> None:
        self._acknowledged.add(sent.number)
        self._print(report(sent.message, SendResult.ACKNOWLEDGED, sealed=sent.sealed, warning=warning))

    def _drop(self, sent: _Sent, error: NoSubscriberError) -> None:
        if not len(self._dropped):
            _LOG.warning(
                "Line %d was not delivered (others that are dropped are listed at the end): %s",
                sent.number,
                dropped(error),
            )
        self._dropped.add(sent.number)
        self._print(report(sent.message, SendResult.NO_SUBSCRIBER, sealed=sent.sealed, error=dropped(error)))

    def _fail(self, number: int, message: NewOutgoingMessage, error: IdlibError, sealed: Sealed | None = None) -> None:
        _LOG.error("Line %d was not sent: %s", number, error)
        self._status = self._status or error.exit_status
        self._print(report(message, SendResult.FAILED, sealed=sealed, error=error))

    def _tell(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Log the results of all lines, even after an error."""
        for sent in self._unacknowledged:
            self._conclude(sent, error)
        recipient, number = self._arguments.recipient, len(self._acknowledged)
        which = f": {_which(self._acknowledged)}" if number else ""
        _LOG.info(
            "The broker %s has acknowledged %s to %s%s", self._broker, counted(number, "message"), recipient, which
        )
        if len(self._dropped):
            what = counted(len(self._dropped), "message")
            _LOG.warning("The broker %s has dropped %s to %s: %s", self._broker, what, recipient, _which(self._dropped))
        if len(self._queued):
            queued = counted(len(self._queued), "message")
            _LOG.info("Queued: %s to %s: %s", queued, recipient, _which(self._queued))

    def _conclude(self, sent: _Sent, end: BaseException | None) -> None:
        """Report what is known about a line that is not waited for any more."""
        if self._publisher is not None and sent.publication.is_answered:
            try:
                self._publisher.wait(sent.publication)
            except NoSubscriberError as error:
                return self._drop(sent, error)
            except IdlibError:
                pass
            else:
                return self._acknowledge(sent, self._own_record.tell())
        return self._print(report(sent.message, SendResult.UNACKNOWLEDGED, sealed=sent.sealed, error=end))

    def _log_progress(self) -> None:
        number = len(self._acknowledged)
        if self._progress.is_due(number):
            _LOG.info("The broker %s has acknowledged %s so far", self._broker, counted(number, "message"))

    def _print(self, line: str) -> None:
        """Put a line into the buffer of stdout, which never blocks; `_flush` may."""
        if self._arguments.json and sys.stdout is not None:
            # If the reader of stdout has gone, report the remaining lines in the log; the error shows at exit.
            with contextlib.suppress(OSError):
                sys.stdout.write(f"{line}\n")

    def _flush(self) -> None:
        if self._arguments.json and sys.stdout is not None:
            with contextlib.suppress(OSError):
                sys.stdout.flush()


def _which(lines: "Ranges") -> str:
    return f"line{'' if len(lines) == 1 else 's'} {lines}"


def split(source: BinaryIO, limit: int) -> Iterator[bytes]:
    """Yield each line without its line ending; a line that is too long is cut just above the limit.

    Args:
        source: Where the lines come from.
        limit: The largest size of a message in bytes.
    """
    while line := source.readline(limit + 2):
        # After Ctrl-D a terminal returns fewer bytes than requested, and may return more later.
        rest = line if len(line) == limit + 2 else b"\n"
        while not rest.endswith(b"\n") and (rest := source.readline(limit)):
            pass
        yield line.removesuffix(b"\n").removesuffix(b"\r")
