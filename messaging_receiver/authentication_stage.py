"""The Authentication stage: from DECRYPTED_MESSAGES to AUTHENTICATED_MESSAGES.

`idlib.verdict.authenticate` decides about each message; this stage carries out the decision. If the sender has to be
looked up first, the message is held in memory for a moment and then stored: MQTT acknowledges in order, so no message
may stay unacknowledged because DNS is slow for one sender.
"""

import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from idlib.discovery import Found
from idlib.envelope import UnverifiedMessage, parse
from idlib.errors import BogusError, DiscoveryError, Reason, TemporaryDiscoveryError
from idlib.names import IdentityName, NamePatterns
from idlib.storage import Printed
from idlib.trust import Moment, replay_entry
from idlib.verdict import AskAgain, Cause, Print, Refuse, Renewal, Verdict, Wait, authenticate
from idlib.zones import registrable_domain
from messaging_receiver.bounded_queue import BATCH_BYTES, BATCH_MESSAGES, BoundedQueue
from messaging_receiver.context import Context
from messaging_receiver.deferral import Arrival, Deferral
from messaging_receiver.lookups import (
    WORKERS_FOR_OTHER_NAMES,
    WORKERS_FOR_TRUSTED_NAMES,
    LookupOutcome,
    LookupRequest,
    Lookups,
)
from messaging_receiver.queue_items import (
    AuthenticatedMessage,
    DecryptedMessage,
    LookupResult,
    ReceivedMessage,
    SettledMessage,
)
from messaging_receiver.receipt_requests import requested
from messaging_receiver.stage import IDLE_SECONDS, POLL_SECONDS, Stage

_LOG = logging.getLogger(__name__)

# A message held in memory is not acknowledged, and neither is any message that came after it.
HELD_SECONDS: Final = 0.05
MAX_HELD: Final = 64
# If DNS has not answered any look-up for this long, messages for which the store has no room stay at the broker.
DEAD_DNS_SECONDS: Final = 60.0
HOLDING_SECONDS: Final = 60.0
_MOMENT_SECONDS: Final = 1.0
EVERYONE: Final = NamePatterns.all()
_PROCESSED_AT_ONCE: Final = 16
_PROCESSED_BESIDE_OTHERS: Final = 2


def message_authentication_thread(stage: "AuthenticationStage") -> None:
    """Verify each message's signature with the keys in its sender's TLSA records, until the receiver stops.

    Args:
        stage: Takes the messages and hands them on.
    """
    while not stage.context.stopping.is_set():
        stage.work()


@dataclass(slots=True)
class _Backlog:
    """One sender's messages that waited for a look-up and can be processed now.

    Args:
        outcome: The outcome of the look-up.
        renewal: Whether the look-up bypassed the cache, and whether it succeeded.
        numbers: The numbers of the stored messages that are still to be processed.
        is_trusted: Whether the sender's name is trusted; such senders come first.
    """

    outcome: LookupOutcome
    renewal: Renewal
    numbers: deque[int] = field(default_factory=deque)
    is_trusted: bool = False


class AuthenticationStage(Stage["DecryptedMessage | LookupResult"]):
    """Authenticates messages, and keeps those that wait for a look-up: in memory first, then in the store.

    Args:
        context: What the stages share.
        source: The queue from which messages and look-up results come.
        finished: The queue to the Forwarder.
        learn: Called with the keys of a sender whose message is authentic, as SubjectPublicKeyInfo.
        wanted: The senders whose messages are delivered in this run; those of others are stored for a later run.
    """

    def __init__(
        self,
        context: Context,
        source: "BoundedQueue[DecryptedMessage | LookupResult]",
        finished: "BoundedQueue[AuthenticatedMessage | SettledMessage]",
        learn: Callable[[IdentityName, tuple[bytes, ...]], None] = lambda *_: None,
        wanted: NamePatterns = EVERYONE,
    ) -> None:
        super().__init__(context, source, finished)

        def answered(sender: IdentityName, outcome: LookupOutcome) -> None:
            source.put_urgent(LookupResult(sender, outcome))

        self._input = source
        self._learn = learn
        self._wanted = wanted
        # Taken from the queue together; and what became of messages, to be handed on together.
        self._taken: deque[DecryptedMessage | LookupResult] = deque()
        self._finished_together: list[AuthenticatedMessage | SettledMessage] = []
        # The time at which the messages were taken.
        self._moment_of_taken: Moment | None = None
        self._moment_read_at = -math.inf
        self._trusted_lookups: Lookups[Found] = Lookups(answered, WORKERS_FOR_TRUSTED_NAMES)
        self._other_lookups: Lookups[Found] = Lookups(answered, WORKERS_FOR_OTHER_NAMES)
        self._deferral = Deferral(self, self._stop_asking)
        self._held: dict[IdentityName, list[Arrival]] = {}
        self._number_held = 0
        self._store_held_at = math.inf
        self._asking: dict[IdentityName, tuple[Lookups[Found], LookupRequest[Found]]] = {}
        self._backlogs: dict[IdentityName, _Backlog] = {}
        self._holds_back = False
        self._held_back_until = -math.inf
        # Before the first new message, which must not overtake them.
        self._deferral.adopt_all()
        for sender in self._deferral.senders():
            self._begin(sender)

    @property
    def number_waiting(self) -> int:
        """How many messages wait, in memory and in the store."""
        return len(self._deferral) + self._number_held

    @property
    def holds_back(self) -> bool:
        """Whether messages are left at the broker because DNS does not answer and the store has no room for more."""
        return self._holds_back

    def note_lapse(self) -> None:
        """Note that our lease had expired, so that other receivers may have taken over deferred messages."""
        self._deferral.note_lapse()

    def finish(self, item: AuthenticatedMessage | SettledMessage) -> None:
        """Hand a message on to the Forwarder, which removes it if it was stored; at the latest when `work` returns.

        Args:
            item: A message to print, or one to acknowledge or remove only.
        """
        if item.origin.waiting_number is not None:
            self._deferral.forget_message(item.origin.waiting_number)
        self._finished_together.append(item)
        if len(self._finished_together) >= BATCH_MESSAGES:
            self._hand_on_finished()

    def work(self) -> None:
        """Process the next messages and look-up results, and some of the messages that wait."""
        self._work_on(self._next())
        while self._may_work_on_taken() and not self.context.stopping.is_set():
            self._work_on(self._taken.popleft())
        self._moment_of_taken = None
        self._hand_on_finished()

    def _may_work_on_taken(self) -> bool:
        # Results of look-ups come first among the items, and only they can end the holding back.
        return bool(self._taken) and (not self._holds_back or isinstance(self._taken[0], LookupResult))

    def _work_on(self, item: DecryptedMessage | LookupResult | None) -> None:
        self.context.movements.note()
        if isinstance(item, LookupResult):
            self._use_result(item)
        elif item is not None:
            self.attempt(item.origin, lambda: self._process(item))
        if (sender := self._next_backlog()) is not None:
            self._process_backlog(sender)
        if time.monotonic() >= self._store_held_at or self._number_held >= MAX_HELD:
            # Storing may wait for the disk: messages that are decided must not.
            self._hand_on_finished()
            self._store_held()
        for sender in self._deferral.due():
            self._retry(sender)
        if self._deferral.may_adopt:
            for sender in self._deferral.adopt():
                self._begin(sender)

    def _hand_on_finished(self) -> None:
        finished, self._finished_together = self._finished_together, []
        self.finish_all(finished)

    def _next(self) -> "DecryptedMessage | LookupResult | None":
        if not self._holds_back:
            if not self._taken:
                # Beside stored messages one at a time, so that these get their share.
                most = 1 if self._backlogs else BATCH_MESSAGES
                _, items = self.take_all(most, BATCH_BYTES, self._patience())
                self._taken.extend(items)
            return self._taken.popleft() if self._taken else None
        self.context.movements.note()
        try:
            return self._input.get_urgent(POLL_SECONDS)
        except queue.Empty:
            return None

    def _patience(self) -> float:
        """Return how many seconds the stage may wait for its next message."""
        if self._backlogs:
            return 0.0
        return min(IDLE_SECONDS, max(0.0, min(self._store_held_at, self._deferral.next_due) - time.monotonic()))

    def _process(self, message: DecryptedMessage) -> None:
        """Process a new message: print it, refuse it, or hold it."""
        unverified = message.unverified or parse(message.signed)
        sender = unverified.sender
        was_renewed = self.context.discovery.was_renewed(sender)
        renewal = Renewal.DONE if was_renewed else Renewal.POSSIBLE
        moment = self._recent_moment()
        known = self.context.discovery.peek(sender)
        verdict = self._judge(message, unverified, known, moment, renewal)
        if not isinstance(verdict, Refuse) and not self._wanted.match(sender):
            self.context.refusals.note_unwanted(sender)
            self._hold(Arrival(message, unverified, is_unwanted=True))
        elif isinstance(verdict, Print | Wait) and self._is_awaited(sender):
            # Earlier messages of the sender still wait, and its messages are printed in order.
            self._hold(Arrival(message, unverified))
            if isinstance(verdict, Print) and sender not in self._backlogs:
                self._begin_backlog(sender, known, Renewal.FAILED)
        else:
            self._carry_out(verdict, message, unverified)

    def _is_awaited(self, sender: IdentityName) -> bool:
        return self._deferral.is_awaited(sender) or any(
            not arrival.contradicts for arrival in self._held.get(sender, ())
        )

    def _judge(
        self,
        message: DecryptedMessage,
        unverified: UnverifiedMessage,
        found: Found | DiscoveryError | None,
        moment: Moment,
        renewal: Renewal,
    ) -> Verdict:
        verdict = authenticate(
            unverified,
            message.digest,
            found,
            moment,
            self.context.policies.current(),
            lambda entry: self.context.writes.retry(lambda: self.context.guard.check(entry)),
            renewal,
            self._deferral.waited(message.origin.waiting_number),
            message.verified_with,
            message.sealed_to,
        )
        if isinstance(verdict, Print) and isinstance(found, Found):
            self._learn(unverified.sender, found.accepted)
        return verdict

    def _carry_out(self, verdict: Verdict, message: DecryptedMessage, unverified: UnverifiedMessage) -> None:
        sender = unverified.sender
        match verdict:
            case Print():
                self._print(verdict, message, unverified)
            case Refuse():
                is_copy = verdict.reason is Reason.REPLAY
                copy_of = replay_entry(unverified, message.digest) if is_copy else None
                self.refuse(message.origin, verdict.reason, verdict.fact, copy_of)
            case AskAgain():
                self._hold(Arrival(message, unverified, verdict.renew))
                self._ask(sender, renew=verdict.renew)
            case Wait():
                self._defer(verdict, message, unverified)

    def _defer(self, verdict: Wait, message: DecryptedMessage, unverified: UnverifiedMessage) -> None:
        sender, is_absent = unverified.sender, verdict.cause is Cause.NEW_RECORD
        if message.origin.waiting_number is None:
            if is_absent and not self._deferral.admits_absent(sender):
                self.refuse(message.origin, Reason.SENDER_WITHOUT_RECORD, verdict.why)
                return
            self._hold(Arrival(message, unverified, is_absent=is_absent))
        self._deferral.postpone(sender, verdict.why, verdict.cause)

    def _print(self, verdict: Print, message: DecryptedMessage, unverified: UnverifiedMessage) -> None:
        sender = unverified.sender
        self.context.guard.reserve(verdict.entry)
        if unverified.binding is None:
            self.context.refusals.note_unbound(sender)
        is_listed = self.context.policies.current().lists.names_exactly(sender)
        printed = Printed(verdict.entry, verdict.zone, verdict.key.der, is_listed)
        received = _received(unverified, verdict, message)
        self.finish(AuthenticatedMessage(received, printed, message.origin, requested(unverified)))

    def _hold(self, arrival: Arrival) -> None:
        self._held.setdefault(arrival.unverified.sender, []).append(arrival)
        self._number_held += 1
        self._store_held_at = min(self._store_held_at, time.monotonic() + HELD_SECONDS)

    def _ask(self, sender: IdentityName, *, renew: bool) -> None:
        """Look a sender up, unless a look-up is under way."""
        if sender in self._asking:
            return
        discovery = self.context.discovery
        lookups = self._trusted_lookups if self.context.is_trusted(sender) else self._other_lookups
        request = LookupRequest(
            sender,
            discovery.zone_of(sender),
            registrable_domain(sender),
            discovery.find_again if renew else discovery.find,
            self._deferral.has_failed(sender),
        )
        self._asking[sender] = lookups, request
        lookups.ask(request)

    def _stop_asking(self, sender: IdentityName) -> None:
        """Cancel the look-up of a sender that has no more messages waiting."""
        lookups, request = self._asking.get(sender, (None, None))
        if lookups is None or request is None or sender in self._held:
            return
        if lookups.cancel(request):
            del self._asking[sender]

    def _use_result(self, result: LookupResult) -> None:
        """Process a sender's messages if its look-up succeeded; otherwise schedule a retry."""
        sender, outcome = result.sender, result.outcome
        self._asking.pop(sender, None)
        # If this look-up failed, the keys from an earlier one can still be used.
        known = self.context.discovery.peek(sender) or outcome
        if not self._deferral.stored(sender) and sender not in self._held:
            self._deferral.forget(sender)
            return
        if _is_failure(outcome):
            moment = self._moment()
            if moment.is_set and moment.is_certain:
                self._deferral.refuse_overdue(sender)
            self._deferral.postpone(sender, str(outcome), Cause.DNS)
        if not _is_failure(known):
            renewal = Renewal.FAILED if _is_failure(outcome) else Renewal.DONE
            self._begin_backlog(sender, known, renewal)

    def _begin_backlog(self, sender: IdentityName, outcome: LookupOutcome, renewal: Renewal) -> None:
        is_failed = renewal is Renewal.FAILED
        # After a failed look-up, messages that the known keys do not verify keep waiting.
        numbers = self._deferral.awaited(sender) if is_failed else self._deferral.stored(sender)
        self._backlogs[sender] = _Backlog(outcome, renewal, deque(numbers), self.context.is_trusted(sender))

    def _next_backlog(self) -> IdentityName | None:
        trusted = next((sender for sender, backlog in self._backlogs.items() if backlog.is_trusted), None)
        return trusted or next(iter(self._backlogs), None)

    def _process_backlog(self, sender: IdentityName) -> None:
        """Process a bounded number of a sender's waiting messages, so that other senders' messages get their turn."""
        backlog = self._backlogs.pop(sender)
        # Stored messages of strangers must not delay new messages.
        is_urgent = backlog.is_trusted or (self._input.empty() and not self._taken)
        number = _PROCESSED_AT_ONCE if is_urgent else _PROCESSED_BESIDE_OTHERS
        stored = [backlog.numbers.popleft() for _ in range(min(number, len(backlog.numbers)))]
        for message in self._deferral.read(stored):
            self._process_again(message, backlog)
        if backlog.numbers:
            # Moved to the end, so that the other senders get their turn first.
            self._backlogs[sender] = backlog
            return
        arrivals = sorted(self._held.pop(sender, ()), key=lambda arrival: arrival.contradicts)
        self._number_held -= len(arrivals)
        if not self._number_held:
            self._store_held_at = math.inf
            self._holds_back = False
        for arrival in arrivals:
            self._process_again(arrival.message, backlog)
        if backlog.renewal is Renewal.DONE and not self._deferral.stored(sender) and sender not in self._held:
            self._deferral.forget(sender)

    def _process_again(self, message: DecryptedMessage, backlog: _Backlog) -> None:
        def step() -> None:
            unverified = message.unverified or parse(message.signed)
            if backlog.outcome is None:
                fact = f"internal error while looking up {unverified.sender}"
                self._carry_out(Refuse(Reason.INTERNAL_ERROR, fact), message, unverified)
                return
            verdict = self._judge(message, unverified, backlog.outcome, self._moment(), backlog.renewal)
            number = message.origin.waiting_number
            is_contradicted = isinstance(verdict, Wait) and verdict.cause is Cause.DNS
            if backlog.renewal is Renewal.FAILED and is_contradicted and number is not None:
                self._deferral.contradict(number)
            self._carry_out(verdict, message, unverified)

        self.attempt(message.origin, step)

    def _recent_moment(self) -> Moment:
        """Return the time, at most a second old: within a batch, the stage may wait for the disk or stdout."""
        now = time.monotonic()
        if self._moment_of_taken is None or now - self._moment_read_at > _MOMENT_SECONDS:
            self._moment_of_taken, self._moment_read_at = self._moment(), now
        return self._moment_of_taken

    def _moment(self) -> Moment:
        return self.context.timekeeper.moment()

    def _store_held(self) -> None:
        """Store the messages held in memory, so that they can be acknowledged to the broker."""
        arrivals = [arrival for arrivals in self._held.values() for arrival in arrivals]
        may_hold_back = self._may_hold_back()
        admitted, held_back = self._deferral.split_by_room(arrivals) if may_hold_back else (arrivals, [])
        self._hold_back(held_back)
        stored, excess = self._deferral.admit(admitted)
        reserved = [arrival for arrival in excess if may_hold_back and self._deferral.is_reserved(arrival)]
        # Later messages of their senders may be held back already.
        held_back = [*reserved, *held_back]
        self._hold_back(held_back)
        # Afterwards, so that no look-up is cancelled for which another message of the sender waits.
        for arrival in excess:
            if arrival not in reserved:
                self._deferral.refuse_excess(arrival)
        self._holds_back = bool(held_back)
        self._store_held_at = time.monotonic() + POLL_SECONDS if held_back else math.inf
        for waiting in stored:
            backlog = self._backlogs.get(IdentityName(waiting.sender))
            if backlog is not None:
                # Processed after the sender's older messages.
                backlog.numbers.append(waiting.number)

    def _hold_back(self, arrivals: Sequence[Arrival]) -> None:
        """Hold these messages in memory, and no others."""
        self._held = {}
        for arrival in arrivals:
            self._held.setdefault(arrival.unverified.sender, []).append(arrival)
        self._number_held = len(arrivals)

    def _may_hold_back(self) -> bool:
        """Return whether messages may be left at the broker, because DNS is silent now or was a short time ago."""
        if self._is_dns_silent():
            self._held_back_until = time.monotonic() + HOLDING_SECONDS
        return time.monotonic() < self._held_back_until

    def _is_dns_silent(self) -> bool:
        """Return whether DNS has answered no look-up for a minute, of several owners' names and our own."""
        lookups = (self._trusted_lookups, self._other_lookups)
        if time.monotonic() - max(one.answered_at for one in lookups) <= DEAD_DNS_SECONDS:
            return False
        failed = frozenset[str]().union(*(one.failed_domains for one in lookups))
        if failed:
            # If our own name can be looked up, DNS works and only these owners' servers are down.
            self._ask(self.context.settings.identity_name, renew=True)
        return len(failed) > 1

    def _begin(self, sender: IdentityName) -> None:
        """Retry the stored messages of a sender that are new to this run, if they are to be delivered in it."""
        if self._wanted.match(sender):
            self._retry(sender)
        else:
            self._deferral.note_unwanted(sender)

    def _retry(self, sender: IdentityName) -> None:
        if not self._deferral.stored(sender) and sender not in self._held:
            self._deferral.forget(sender)
            return
        known = self.context.discovery.peek(sender)
        if known is None or _is_failure(known):
            self._ask(sender, renew=False)
        elif self._is_awaited(sender):
            self._begin_backlog(sender, known, Renewal.FAILED)
            self._ask(sender, renew=True)
        else:
            self._ask(sender, renew=True)


def _received(unverified: UnverifiedMessage, verdict: Print, message: DecryptedMessage) -> ReceivedMessage:
    binding = unverified.binding
    return ReceivedMessage(
        unverified.sender,
        verdict.content,
        verdict.content_type,
        binding.identifier if binding else None,
        binding.issued_at if binding else None,
        message.received_at,
        message.sealed_to,
    )


def _is_failure(outcome: LookupOutcome) -> bool:
    """Return whether the look-up failed, so that it decides nothing about the sender's messages."""
    return isinstance(outcome, BogusError | TemporaryDiscoveryError)
