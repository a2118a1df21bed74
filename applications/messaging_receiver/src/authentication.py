"""The Authentication stage: from DECRYPTED_MESSAGES to AUTHENTICATED_MESSAGES, by way of DNS and at need the store."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lookups import Lookups
from messages import Answer, AuthenticatedMessage, DecryptedMessage, Origin, SettledMessage
from pipeline import Pipeline

from idlib.discovery import Found
from idlib.envelope import UnverifiedMessage, parse, verify
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    Reason,
    Refusal,
    TemporaryDiscoveryError,
)
from idlib.names import IdentityName
from idlib.output import json_line, text_line
from idlib.settings import OutputFormat
from idlib.transport import RECEIVE_MAXIMUM
from idlib.trust import EARLIEST_CREDIBLE_TIME, clock_is_credible, replay_entry

_LOG = logging.getLogger(__name__)

# Less than the broker's window, so that messages which stand aside never hold up all others.
MAX_ASIDE: Final = RECEIVE_MAXIMUM // 2
MAX_WAITING_FOR_A_NAME: Final = 16
MAX_WAITING: Final = 1024
MAX_WAITING_SECONDS: Final = 24 * 3600
# A little more than a failure is remembered for at least.
_FIRST_RETRY_SECONDS: Final = 6.0
_LONGEST_RETRY_SECONDS: Final = 60.0


def message_authentication_thread(pipeline: Pipeline) -> None:
    """Verify each message's signature by the key in its sender's TLSA records, until the receiver stops.

    Args:
        pipeline: Where messages come from and go to.
    """
    stage = Authentication(pipeline)
    for item in pipeline.each(pipeline.decrypted):
        if isinstance(item, Answer):
            stage.go_on(item)
        elif item is not None:
            stage.process(item)
        stage.retry_waiting()


class Authentication:
    """What the stage remembers between messages: which ones stand aside for a look-up, and when to retry whom.

    Args:
        pipeline: Where messages come from and go to.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lookups = Lookups(lambda sender, failure: pipeline.hand_on(Answer(sender, failure), pipeline.decrypted))
        self._aside: dict[IdentityName, list[DecryptedMessage]] = {}
        self._delays: dict[IdentityName, float] = {}
        self._credible_since = math.inf
        self._retry_at = dict.fromkeys(map(IdentityName, pipeline.store.waiting_senders()), 0.0)

    def process(self, message: DecryptedMessage) -> None:
        """Take one message as far as it gets: to the Forwarder, aside, into the store, or refused."""
        self._pipeline.attempt(message.origin, lambda: self._authenticate(message))

    def go_on(self, answer: Answer) -> None:
        """Take up, in their order, the messages that stood aside while their sender was looked up."""
        for message in self._aside.pop(answer.sender):
            if message.was_asked_again and isinstance(answer.failure, BogusError | TemporaryDiscoveryError):
                # Whether there is a new key is not known: no verdict by the old one.
                self._postpone(message, answer)
            else:
                self.process(replace(message, was_asked_for=True))
        if answer.sender in self._retry_at and answer.failure is None:
            self._retry_at[answer.sender] = 0.0

    def retry_waiting(self) -> None:
        """Take up stored messages whose time has come."""
        now = time.monotonic()
        for sender in [sender for sender, moment in self._retry_at.items() if moment <= now]:
            if sender in self._aside:
                continue
            del self._retry_at[sender]
            for waiting in self._pipeline.store.waiting_of(str(sender)):
                origin = Origin(None, waiting.number)
                self.process(DecryptedMessage(waiting.signed, waiting.digest, waiting.received_at, origin))

    def _postpone(self, message: DecryptedMessage, answer: Answer) -> None:
        self._pipeline.attempt(message.origin, lambda: self._wait(message, answer.sender, str(answer.failure)))

    def _authenticate(self, message: DecryptedMessage) -> None:
        unverified = parse(message.signed)
        now = time.time()
        if not clock_is_credible(now, self._pipeline.store.latest_time):
            self._wait(message, unverified.sender, "the clock is not set")
            return
        self._pipeline.policy.check(unverified, now)
        if unverified.sender in self._aside:
            self._stand_aside(message, unverified.sender)
            return
        outcome = self._pipeline.discovery.peek(unverified.sender)
        if isinstance(outcome, Found):
            self._delays.pop(unverified.sender, None)
            self._verify(message, unverified, outcome)
        elif isinstance(outcome, BogusError | TemporaryDiscoveryError):
            self._wait(message, unverified.sender, str(outcome))
        elif outcome is not None:
            raise Refusal(_reason_of(outcome), str(outcome))
        elif message.was_asked_for:
            # A look-up that leaves no outcome met an error of this program; it must not be started for ever.
            raise Refusal(Reason.INTERNAL_ERROR, f"the look-up of {unverified.sender} failed")
        else:
            self._look_up(message, unverified.sender, self._pipeline.discovery.find)

    def _verify(self, message: DecryptedMessage, unverified: UnverifiedMessage, found: Found) -> None:
        try:
            text = verify(unverified, (record.public_key for record in found.records))
        except Refusal as refusal:
            if message.was_asked_again or refusal.reason is not Reason.SIGNATURE_INVALID:
                raise
            # The sender may have a new key that the cache does not know yet (RFC 7671, section 8.1).
            asked_again = replace(message, was_asked_again=True)
            self._look_up(asked_again, unverified.sender, self._pipeline.discovery.find_again)
            return
        entry = replay_entry(unverified, message.digest, time.time())
        self._pipeline.guard.reserve(unverified, entry)
        if unverified.binding is None:
            _LOG.info("unbound sender=%s the message could be passed on to other readers", unverified.sender)
        line = self._line(unverified, text, message.received_at)
        self._pipeline.hand_on(AuthenticatedMessage(line, entry, message.origin), self._pipeline.authenticated)

    def _look_up(self, message: DecryptedMessage, sender: IdentityName, ask: Callable[[IdentityName], object]) -> None:
        self._aside[sender] = []
        self._stand_aside(message, sender)
        self._lookups.start(sender, ask)

    def _stand_aside(self, message: DecryptedMessage, sender: IdentityName) -> None:
        """Keep a message in memory while its sender is looked up; past a bound on disk, for the broker waits for it."""
        if sum(map(len, self._aside.values())) < MAX_ASIDE:
            self._aside[sender].append(message)
        elif message.origin.waiting_number is None:
            self._store(message, sender, "the look-up is under way")
            self._retry_at.setdefault(sender, 0.0)

    def _line(self, unverified: UnverifiedMessage, text: str, received_at: float) -> str:
        if self._pipeline.settings.output_format is OutputFormat.TEXT:
            return text_line(unverified.sender, text)
        binding = unverified.binding
        return json_line(
            unverified.sender,
            text,
            identifier=binding.identifier if binding else None,
            sent_at=binding.issued_at if binding else None,
            received_at=received_at,
        )

    def _wait(self, message: DecryptedMessage, sender: IdentityName, why: str) -> None:
        if self._waited(message) > MAX_WAITING_SECONDS:
            raise Refusal(Reason.WAITED_TOO_LONG, f"a message from {sender} waited for a day: {why}")
        if message.origin.waiting_number is None:
            self._store(message, sender, why)
        self._refuse_all_but_the_oldest(sender, why)
        if sender not in self._retry_at:
            delay = self._delays.get(sender, _FIRST_RETRY_SECONDS)
            self._delays[sender] = min(2 * delay, _LONGEST_RETRY_SECONDS)
            self._retry_at[sender] = time.monotonic() + delay

    def _waited(self, message: DecryptedMessage) -> float:
        """Return for how many seconds a message has waited, as far as a clock that was not set allows to tell."""
        now = time.time()
        if not clock_is_credible(now, self._pipeline.store.latest_time):
            return 0
        self._credible_since = min(self._credible_since, now)
        is_known = message.received_at >= EARLIEST_CREDIBLE_TIME
        return now - (message.received_at if is_known else self._credible_since)

    def _store(self, message: DecryptedMessage, sender: IdentityName, why: str) -> None:
        if self._pipeline.store.number_waiting() >= MAX_WAITING:
            raise Refusal(Reason.WAITING_FULL, f"a message from {sender} has no place among {MAX_WAITING}: {why}")
        self._pipeline.store.keep_waiting(str(sender), message.signed, message.digest, message.received_at)
        _LOG.warning("waiting sender=%s %s", sender, why)
        self._pipeline.hand_on(SettledMessage(message.origin), self._pipeline.authenticated)

    def _refuse_all_but_the_oldest(self, sender: IdentityName, why: str) -> None:
        for _ in range(self._pipeline.store.forget_newest_waiting(str(sender), MAX_WAITING_FOR_A_NAME)):
            self._pipeline.count_refusal(
                Reason.WAITING_FULL, f"{MAX_WAITING_FOR_A_NAME} messages from {sender} wait already: {why}"
            )


def _reason_of(verdict: DiscoveryError) -> Reason:
    if isinstance(verdict, NoRecordError):
        return Reason.SENDER_WITHOUT_RECORD
    if isinstance(verdict, NotSecureError):
        return Reason.SENDER_NOT_SECURE
    return Reason.SENDER_WITHOUT_USABLE_KEY
