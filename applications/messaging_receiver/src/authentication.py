"""The Authentication stage: from DECRYPTED_MESSAGES to AUTHENTICATED_MESSAGES, by way of DNS and at need the store."""

import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lookups import (
    MAX_QUESTIONS,
    MAX_QUESTIONS_OF_A_DOMAIN,
    MAX_UNKNOWN_OF_A_DOMAIN,
    WORKERS_FOR_KNOWN_NAMES,
    WORKERS_FOR_UNKNOWN_NAMES,
    Lookups,
    Outcome,
    Question,
)
from messages import Answer, AuthenticatedMessage, DecryptedMessage
from pipeline import POLL_SECONDS, Pipeline
from receipts import requested
from waiting_room import WaitingRoom

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
from idlib.trust import clock_is_credible, clock_is_doubtful, replay_entry

_LOG = logging.getLogger(__name__)

# The broker waits for the acknowledgement of what stands aside, and with it for that of all that came later.
ASIDE_SECONDS: Final = 0.05
MAX_ASIDE: Final = 64
_TOO_MANY: Final = "too many look-ups are under way"
_DOUBTFUL: Final = "the clock is far ahead of when it was last looked at"
_MAY_BE_LATE: Final = "the clock is not set since the system was started"
_REASONS_OF_AGE: Final = frozenset({Reason.TOO_OLD, Reason.EXPIRED})


def message_authentication_thread(pipeline: Pipeline) -> None:
    """Verify each message's signature by the key in its sender's TLSA records, until the receiver stops.

    Args:
        pipeline: Where messages come from and go to.
    """
    stage = Authentication(pipeline)
    while not pipeline.stopping.is_set():
        item = pipeline.take(pipeline.decrypted, stage.patience)
        if isinstance(item, Answer):
            stage.go_on(item)
        elif item is not None:
            stage.process(item)
        stage.relieve()
        stage.retry_waiting()


class Authentication:
    """What the stage remembers between messages: which ones stand aside for a look-up, and which wait on the disk.

    Args:
        pipeline: Where messages come from and go to.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        def answered(sender: IdentityName, outcome: Outcome) -> None:
            pipeline.hand_on(Answer(sender, outcome), pipeline.decrypted)

        self._pipeline = pipeline
        self._known = Lookups(answered, WORKERS_FOR_KNOWN_NAMES, WORKERS_FOR_KNOWN_NAMES, MAX_QUESTIONS)
        self._unknown = Lookups(answered, WORKERS_FOR_UNKNOWN_NAMES, MAX_UNKNOWN_OF_A_DOMAIN, MAX_QUESTIONS_OF_A_DOMAIN)
        self._room = WaitingRoom(pipeline)
        self._aside: dict[IdentityName, list[DecryptedMessage]] = {}
        self._relieve_at = math.inf

    @property
    def patience(self) -> float:
        """For how many seconds the stage may wait for its next message."""
        return min(POLL_SECONDS, max(0.0, self._relieve_at - time.monotonic()))

    def process(self, message: DecryptedMessage) -> None:
        """Take one message as far as it gets: to the Forwarder, aside, into the store, or refused."""
        self._pipeline.attempt(message.origin, lambda: self._authenticate(message))

    def go_on(self, answer: Answer) -> None:
        """Take up, in their order, the messages that stood aside or wait since their sender is being looked up."""
        sender, outcome = answer.sender, answer.outcome
        # A look-up for a new key that fails says nothing against the old one, by which others may have signed.
        known = self._pipeline.discovery.peek(sender) or outcome
        aside = self._aside.pop(sender)
        numbers = {message.origin.waiting_number for message in aside}
        waiting = (one for one in self._room.messages_of(sender) if one.origin.waiting_number not in numbers)
        for message in itertools.chain(waiting, aside):
            self._take_up(message, outcome if message.was_asked_again else known)
        if isinstance(outcome, BogusError | TemporaryDiscoveryError):
            self._room.forget_if_empty(sender)
        elif sender not in self._aside:
            self._room.forget(sender)

    def relieve(self) -> None:
        """Store the messages that have stood aside for long, so that the broker need not wait for them."""
        if time.monotonic() < self._relieve_at and sum(map(len, self._aside.values())) < MAX_ASIDE:
            return
        self._relieve_at = math.inf
        self._room.admit(self._aside)
        for messages in self._aside.values():
            messages.clear()

    def retry_waiting(self) -> None:
        """Take up stored messages whose time has come."""
        for sender in self._room.due():
            if sender not in self._aside and not self._look_up(sender, self._pipeline.discovery.find):
                self._room.postpone(sender, [], _TOO_MANY)

    def _take_up(self, message: DecryptedMessage, outcome: Outcome) -> None:
        def step() -> None:
            unverified = self._judge(message)
            if unverified is not None:
                self._decide(message, unverified, outcome)

        self._pipeline.attempt(message.origin, step)

    def _authenticate(self, message: DecryptedMessage) -> None:
        unverified = self._judge(message)
        if unverified is None:
            return
        sender = unverified.sender
        if sender not in self._aside:
            outcome = self._pipeline.discovery.peek(sender)
            if outcome is not None:
                self._decide(message, unverified, outcome)
                return
        self._stand_aside(message, sender, self._pipeline.discovery.find)

    def _judge(self, message: DecryptedMessage) -> UnverifiedMessage | None:
        """Return what a message says if it is one to be believed once its signature verifies; None if it has to wait.

        Raises:
            Refusal: It is not to be believed, whoever has signed it.
        """
        unverified = parse(message.signed)
        now = time.time()
        if not clock_is_credible(now, self._pipeline.store.latest_time):
            self._room.postpone(unverified.sender, [message], "the clock is not set")
            return None
        try:
            self._pipeline.policy.check(unverified, now)
        except Refusal as refusal:
            if refusal.reason in _REASONS_OF_AGE and clock_is_doubtful(now, self._pipeline.store.latest_time):
                self._room.postpone(unverified.sender, [message], f"{_DOUBTFUL}, and by it {refusal.fact}")
                return None
            if refusal.reason is Reason.FROM_THE_FUTURE and self._pipeline.clock_may_be_late():
                self._room.postpone(unverified.sender, [message], f"{_MAY_BE_LATE}, and by it {refusal.fact}")
                return None
            raise
        return unverified

    def _decide(self, message: DecryptedMessage, unverified: UnverifiedMessage, outcome: Outcome) -> None:
        match outcome:
            case Found():
                self._verify(message, unverified, outcome)
            case BogusError() | TemporaryDiscoveryError():
                self._room.postpone(unverified.sender, [message], str(outcome))
            case DiscoveryError():
                raise Refusal(_reason_of(outcome), str(outcome))
            case None:
                raise Refusal(Reason.INTERNAL_ERROR, f"this program failed to look {unverified.sender} up")

    def _verify(self, message: DecryptedMessage, unverified: UnverifiedMessage, found: Found) -> None:
        try:
            text = verify(unverified, (record.public_key for record in found.records))
        except Refusal as refusal:
            if message.was_asked_again or refusal.reason is not Reason.SIGNATURE_INVALID:
                raise
            # The sender may have a new key that the cache does not know yet (RFC 7671, section 8.1).
            asked_again = replace(message, was_asked_again=True)
            self._stand_aside(asked_again, unverified.sender, self._pipeline.discovery.find_again)
            return
        now = time.time()
        entry = replay_entry(unverified, message.digest, now)
        self._pipeline.patiently(lambda: self._pipeline.guard.reserve(unverified, entry))
        if unverified.binding is not None:
            self._confirm_clock(now)
        else:
            _LOG.info("unbound sender=%s the message could be passed on to other readers", unverified.sender)
        line = self._line(unverified, text, message.received_at)
        authenticated = AuthenticatedMessage(line, entry, message.origin, requested(unverified))
        self._pipeline.hand_on(authenticated, self._pipeline.authenticated)

    def _confirm_clock(self, now: float) -> None:
        """Believe the clock, for an authentic message is fresh by it."""
        store = self._pipeline.store
        if clock_is_doubtful(now, store.latest_time):
            self._pipeline.patiently(lambda: store.note_time(int(now)))

    def _stand_aside(
        self, message: DecryptedMessage, sender: IdentityName, ask: Callable[[IdentityName], Found]
    ) -> None:
        """Keep a message in memory until its sender is looked up, which is begun unless it is under way."""
        if sender not in self._aside and not self._look_up(sender, ask):
            self._room.postpone(sender, [message], _TOO_MANY)
            return
        if message.origin.waiting_number is None:
            self._relieve_at = min(self._relieve_at, time.monotonic() + ASIDE_SECONDS)
        self._aside[sender].append(message)

    def _look_up(self, sender: IdentityName, ask: Callable[[IdentityName], Found]) -> bool:
        lookups = self._known if self._pipeline.knows(sender) else self._unknown
        has_started = lookups.start(Question(sender, ask))
        if has_started:
            self._aside[sender] = []
        return has_started

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


def _reason_of(verdict: DiscoveryError) -> Reason:
    if isinstance(verdict, NoRecordError):
        return Reason.SENDER_WITHOUT_RECORD
    if isinstance(verdict, NotSecureError):
        return Reason.SENDER_NOT_SECURE
    return Reason.SENDER_WITHOUT_USABLE_KEY
