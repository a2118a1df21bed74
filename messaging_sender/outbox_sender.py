"""Sends queued messages: in order for each recipient, and independently of failures with other recipients."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Final

from idlib.discovery import Discovery
from idlib.errors import (
    BogusError,
    DatabaseError,
    DiscoveryError,
    IdlibError,
    MessageError,
    NoSubscriberError,
    NotForwardSecretError,
    RefusedMessageError,
    StoreError,
    TemporaryDiscoveryError,
    TransportError,
    UnsuitableKeyError,
)
from idlib.keys import key_path, read_private_key
from idlib.settings import Settings
from idlib.storage.queued import BootTime, DeliveryStore, OutgoingMessage
from idlib.system.backoff import RetryTimer
from idlib.system.failure_log import FailureLog
from idlib.system.times import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS
from idlib.timekeeping import MAX_DIVERGENCE_SECONDS
from idlib.transport import Broker, Publisher
from idlib.trust import Moment
from messaging_sender.bounds import MESSAGE_EXPIRY_SECONDS, expires_at
from messaging_sender.delivery_counters import DeliveryCounters
from messaging_sender.mark_memory import MarkMemory
from messaging_sender.postponements import Postponements
from messaging_sender.sealed import KeyLog
from messaging_sender.sealing import Sealer
from messaging_sender.sender_clock import DeliveryClock
from messaging_sender.sender_record import OwnRecord

_LOG = logging.getLogger(__name__)

# A DNS server may not have a new record yet, so a verdict is not final at once.
MAX_VERDICT_SECONDS: Final = 24 * 3600
MAX_ROUTES: Final = 8
_BROKER_SECONDS: Final = 30.0
_SHORTEST_BACKOFF_SECONDS: Final = 1.0
_LONGEST_BACKOFF_SECONDS: Final = 300.0
_LONGEST_BROKER_BACKOFF_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
# Later than any time that the outbox can store as the time of queuing.
_NO_TIME: Final = 2**63 - 1


class Verdicts:
    """Since when DNS has had no usable certificate for a recipient; the verdict is final after a day.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def is_final(self, recipient: str) -> bool:
        """Note that DNS has no usable certificate for a recipient; return whether this has lasted for a day.

        Args:
            recipient: The name.
        """
        now = self._clock()
        return now - self._since.setdefault(recipient, now) >= MAX_VERDICT_SECONDS

    def take_back(self, recipient: str) -> None:
        """Note that DNS has answered differently, or not at all.

        Args:
            recipient: The name.
        """
        self._since.pop(recipient, None)


class OutboxSender:
    """Empties an outbox.

    Args:
        settings: From the environment.
        outbox: The outbox, held for delivery.
        stopping: Set to make `empty` return.
        own_record: Logs that recipients refuse what we send; outlives this object.
        clock: Decides how far the clock is trusted; kept up to date while this runs.
        key_log: Logs which epoch keys are used; outlives this object.
        counters: Counts what is done; outlives this object.
        note_use: Called when the outbox has been read and written.

    Raises:
        ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: DeliveryStore,
        stopping: threading.Event,
        own_record: FailureLog,
        clock: DeliveryClock,
        key_log: KeyLog,
        counters: DeliveryCounters | None = None,
        note_use: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._broker = Broker.from_settings(settings)
        self._counters = counters or DeliveryCounters()
        self._discovery = Discovery.from_settings(settings, durations=self._counters.durations)
        self._own_record = OwnRecord(settings, self._discovery, own_record, patience=0.0)
        self._outbox = outbox
        self._memory = MarkMemory(lambda: True, lambda: nullcontext(outbox))
        self._clock = clock
        self._key_log = key_log
        self._note_use = note_use
        # The clock minus the boot clock when the times in the outbox were last corrected.
        self._followed: float | None = None
        self._stopping = stopping
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._of_recipient: dict[str, RetryTimer] = {}
        # Recipients whose messages were being sent when the connection failed: one of these may be the cause.
        self._possible_causes: set[str] = set()
        self._of_broker = RetryTimer(_SHORTEST_BACKOFF_SECONDS, _LONGEST_BROKER_BACKOFF_SECONDS)
        self._publisher: Publisher | None = None
        self._outage = FailureLog(_LOG)
        self._broker_outage = FailureLog(_LOG)
        self._postponements = Postponements(_LOG)
        self._verdicts = Verdicts()

    def empty(self) -> None:
        """Send until the outbox is empty or `stopping` is set.

        Raises:
            StoreError: The outbox cannot be read.
        """
        try:
            while not self._stopping.is_set():
                self._own_record.tell()
                recipients = self._outbox.recipients()
                if not recipients and not self._under_way and not self._own_record.is_pending:
                    return
                if self._is_ready():
                    self._begin(recipients)
                    self._note_use()
                self._stopping.wait(_POLL_SECONDS)
        finally:
            self._disconnect(self._publisher)

    def _is_ready(self) -> bool:
        """Drop expired messages; return whether messages may be sealed and the outbox can be written.

        Raises:
            StoreError: The outbox cannot be read.
        """
        try:
            self._clock.keep()
            if not self._clock.may_seal:
                # Recipients refuse messages that are sealed with a wrong time.
                self._outage.begin("Messages wait: the clock may be wrong", f": it shows {_shown_time()}")
                return False
            moment = self._clock.trusted_moment()
            if moment is not None:
                self._update_outbox(moment)
        except DatabaseError:
            # After a start, the database still knows nothing of them, but this process does: nothing is sent again.
            raise
        except StoreError as error:
            # Do not start over unless it cannot be read either: after a start, acknowledged messages that could not be
            # removed from a file are sent again.
            self._outbox.waiting()
            self._outage.begin(f"Messages wait: {error}")
            return False
        self._outage.end()
        return True

    def _update_outbox(self, moment: Moment) -> None:
        """Correct the times in the outbox, and drop expired messages."""
        now = int(moment.now)
        self._follow_clock(moment.now)
        # If the clock may be late, messages that seem to come from the future may be right.
        self._outbox.correct_times(EARLIEST_CREDIBLE_TIME, now, _NO_TIME if moment.may_be_late else now)
        if not self._under_way:
            self._drop_expired(now)

    def _follow_clock(self, now: float) -> None:
        at = BootTime.now()
        offset = now - at.up
        if self._followed is None or abs(offset - self._followed) > MAX_DIVERGENCE_SECONDS:
            self._outbox.follow_clock(int(now), at)
            self._followed = offset

    def _drop_expired(self, now: int) -> None:
        for identifier, recipient in self._outbox.forget_expired(now, MESSAGE_EXPIRY_SECONDS, MAX_MESSAGE_AGE_SECONDS):
            self._counters.count_dropped()
            _log_dropped(identifier, recipient, "it has expired")

    def _begin(self, recipients: Iterable[str]) -> None:
        """Start a thread for each recipient that is due, to send its messages."""
        self._of_recipient = {
            recipient: self._of_recipient.get(recipient)
            or RetryTimer(_SHORTEST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
            for recipient in recipients
        }
        self._postponements.keep(self._of_recipient)
        taken_by_others = self._outbox.taken_by_others()
        for recipient in self._in_order():
            if recipient in taken_by_others:
                continue
            with self._lock:
                if recipient in self._under_way or not self._of_recipient[recipient].is_due():
                    continue
                if len(self._under_way) >= self._places_for(recipient):
                    return
            publisher = self._connect()
            if publisher is None:
                return
            with self._lock:
                self._under_way.add(recipient)
            walk = (recipient, self._of_recipient[recipient], publisher)
            threading.Thread(target=self._walk, args=walk, name="Route", daemon=True).start()

    def _in_order(self) -> Iterable[str]:
        """Return the recipients; those that may break the connection come last, the oldest of them at the end."""
        with self._lock:
            self._possible_causes &= self._of_recipient.keys()
            others = [recipient for recipient in self._of_recipient if recipient not in self._possible_causes]
            causes = [recipient for recipient in self._of_recipient if recipient in self._possible_causes]
        return (*others, *reversed(causes))

    def _places_for(self, recipient: str) -> int:
        """Return how many routes may run, including this one; one that may break the connection runs alone."""
        if recipient in self._possible_causes or self._possible_causes & self._under_way:
            return 1
        # More routes would wait for each other and time out as if the broker did not answer.
        return MAX_ROUTES if self._publisher is None else min(MAX_ROUTES, self._publisher.window)

    def _walk(self, recipient: str, timer: RetryTimer, publisher: Publisher) -> None:
        try:
            if not self._outbox.take(recipient):
                return
            key = read_private_key(key_path(self._settings.crypto_path, self._settings.identity_name))
            sealer = Sealer(self._settings, key, self._discovery, self._memory)
            self._own_record.look(key)
            while not self._stopping.is_set() and self._clock.may_seal:
                message = self._outbox.next_to(recipient, 0)
                if message is None:
                    return
                self._deliver(message, sealer, publisher)
                timer.succeed()
                self._note_answer()
                self._clear(recipient)
        except (RefusedMessageError, NoSubscriberError) as error:
            self._note_answer()
            self._postpone(recipient, timer, error)
        except TransportError as error:
            self._lose(publisher, recipient, timer, error)
        except StoreError as error:
            if self._can_read():
                self._postpone(recipient, timer, error)
            else:
                # One line about the outbox is enough, and the thread that looks for messages logs it.
                timer.fail()
        except IdlibError as error:
            self._postpone(recipient, timer, error)
        except Exception:  # noqa: BLE001  # an error of ours that one message causes must not stop the others
            _LOG.exception("Internal error while sending a message to %s", recipient)
            timer.fail()
        finally:
            self._outbox.release(recipient)
            with self._lock:
                self._under_way.discard(recipient)

    def _deliver(self, message: OutgoingMessage, sealer: Sealer, publisher: Publisher) -> None:
        if message.number not in self._outbox.acknowledged:
            moment = self._clock.trusted_moment()
            if moment is not None and _is_overdue(message, moment.now):
                self._drop(message, "it has expired")
                return
            try:
                sealed = sealer.seal(message)
                if sealed.epoch is not None and not message.was_sealed_to_epoch:
                    # Before it is published: after a crash it must not be encrypted to an identity key.
                    self._outbox.note_sealed_to_epoch(message.number)
                self._key_log.tell(message.recipient, sealed)
                self._outbox.check_taken(message.recipient)
                topic = self._broker.topics.of(message.recipient)
                publication = publisher.publish(topic, sealed.payload, sealed.expiry_seconds)
            except (BogusError, TemporaryDiscoveryError):
                self._verdicts.take_back(message.recipient)
                raise
            except (DiscoveryError, NotForwardSecretError) as error:
                if not self._verdicts.is_final(message.recipient):
                    raise
                self._drop(message, str(error))
                return
            except (MessageError, UnsuitableKeyError) as error:
                if self._clock.trusted_moment() is None:
                    # It may seem to have expired only because the clock is wrong.
                    raise
                self._drop(message, str(error))
                return
            self._verdicts.take_back(message.recipient)
            publisher.wait(publication)
            self._outbox.acknowledged.add(message.number)
            self._counters.count_delivered()
            _LOG.info(
                "The broker %s has acknowledged the message %s to %s",
                self._broker,
                message.identifier,
                message.recipient,
            )
        self._outbox.remove(message.number)
        self._outbox.acknowledged.discard(message.number)

    def _can_read(self) -> bool:
        try:
            self._outbox.waiting()
        except StoreError:
            return False
        return True

    def _drop(self, message: OutgoingMessage, why: str) -> None:
        self._outbox.remove(message.number)
        self._counters.count_dropped()
        _log_dropped(message.identifier, message.recipient, why)

    def _postpone(self, recipient: str, timer: RetryTimer, error: IdlibError) -> None:
        self._postponements.begin(recipient, error)
        timer.fail()

    def _connect(self) -> Publisher | None:
        if self._publisher is not None or not self._of_broker.is_due():
            return self._publisher
        publisher = Publisher(self._broker, _BROKER_SECONDS, outage=self._broker_outage)
        try:
            publisher.__enter__()
        except TransportError as error:
            self._broker_outage.begin(f"Messages wait: {error}")
            self._of_broker.fail()
            return None
        with self._lock:
            self._publisher = publisher
        self._counters.note_connection(is_connected=True)
        return publisher

    def _lose(self, publisher: Publisher, recipient: str, timer: RetryTimer, error: TransportError) -> None:
        with self._lock:
            ran_alone = recipient in self._possible_causes
            self._possible_causes.add(recipient)
            is_present = self._publisher is publisher
        if ran_alone:
            self._postpone(recipient, timer, error)
        if not is_present:
            return
        if not ran_alone:
            self._broker_outage.begin(f"Messages wait: {error}")
            self._of_broker.fail()
        self._disconnect(publisher)

    def _note_answer(self) -> None:
        """Note that the broker has answered a message; an accepted connection alone does not reset the back-off."""
        self._of_broker.succeed()
        self._broker_outage.end()

    def _clear(self, recipient: str) -> None:
        self._postponements.end(recipient)
        with self._lock:
            self._possible_causes.discard(recipient)

    def _disconnect(self, publisher: Publisher | None) -> None:
        with self._lock:
            if publisher is None or self._publisher is not publisher:
                return
            self._publisher = None
        self._counters.note_connection(is_connected=False)
        publisher.__exit__()


def _log_dropped(identifier: str, recipient: str, why: str) -> None:
    _LOG.error("The message %s to %s was dropped: %s", identifier, recipient, why)


def _is_overdue(message: OutgoingMessage, now: float) -> bool:
    return now >= expires_at(message)


def _shown_time() -> str:
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
