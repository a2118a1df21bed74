"""The Authentication stage: from DECRYPTED_MESSAGES to AUTHENTICATED_MESSAGES, by way of DNS and, if needed, the store.

`idlib.verdict.authenticate` decides about each message; this stage carries out what it says. A message whose sender has
to be looked up first stands aside in memory for a moment, then on the disk: MQTT acknowledges in order, so nothing may
stay unacknowledged because of one sender's DNS.
"""

import logging
import math
import queue
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from idlib.discovery import Found
from idlib.envelope import UnverifiedMessage, parse
from idlib.errors import BogusError, DiscoveryError, Reason, TemporaryDiscoveryError
from idlib.names import IdentityName
from idlib.output import json_line, text_line
from idlib.settings import OutputFormat
from idlib.storage import Printed
from idlib.trust import Moment
from idlib.verdict import AskAgain, Cause, Print, Refuse, Renewal, Verdict, Wait, authenticate
from idlib.zones import registrable_domain
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.context import Context
from messaging_receiver.deferral import Arrival, Deferral
from messaging_receiver.lookups import WORKERS_FOR_OTHER_NAMES, WORKERS_FOR_TRUSTED_NAMES, Lookups, Outcome, Question
from messaging_receiver.messages import Answer, AuthenticatedMessage, DecryptedMessage, SettledMessage
from messaging_receiver.receipts import requested
from messaging_receiver.stage import POLL_SECONDS, Stage

_LOG = logging.getLogger(__name__)

# The broker waits for the acknowledgement of what stands aside, and with it for that of all that came later.
ASIDE_SECONDS: Final = 0.05
MAX_ASIDE: Final = 64
# While DNS answers nobody, what has no room on the disk stays at the broker.
DEAD_DNS_SECONDS: Final = 60.0
HOLDING_SECONDS: Final = 60.0
_TAKEN_UP_AT_ONCE: Final = 16
_TAKEN_UP_BESIDE_OTHERS: Final = 2


def message_authentication_thread(stage: "Authentication") -> None:
    """Verify each message's signature by the keys in its sender's TLSA records, until the receiver stops.

    Args:
        stage: Where messages come from and go to.
    """
    while not stage.context.stopping.is_set():
        stage.work()


@dataclass(slots=True)
class _TakeUp:
    """The messages of one sender that can be decided now.

    Args:
        outcome: What DNS says of the sender.
        renewal: Whether DNS was asked anew.
        numbers: Those of the stored messages that are left.
        is_trusted: Whether the sender's name is trusted; such senders come first.
    """

    outcome: Outcome
    renewal: Renewal
    numbers: deque[int] = field(default_factory=deque)
    is_trusted: bool = False


class Authentication(Stage["DecryptedMessage | Answer"]):
    """What the stage remembers between messages: which ones stand aside for a look-up, and which wait on the disk.

    Args:
        context: What the stages share.
        source: Where messages come from.
        finished: The queue to the Forwarder.
    """

    def __init__(
        self,
        context: Context,
        source: "BoundedQueue[DecryptedMessage | Answer]",
        finished: "queue.Queue[AuthenticatedMessage | SettledMessage]",
    ) -> None:
        super().__init__(context, source, finished)

        def answered(sender: IdentityName, outcome: Outcome) -> None:
            source.put_urgent(Answer(sender, outcome))

        self._answers = source
        self._trusted_lookups = Lookups(answered, WORKERS_FOR_TRUSTED_NAMES)
        self._other_lookups = Lookups(answered, WORKERS_FOR_OTHER_NAMES)
        self._deferral = Deferral(self, self._stop_asking)
        self._aside: dict[IdentityName, list[Arrival]] = {}
        self._number_aside = 0
        self._relieve_at = math.inf
        self._asking: dict[IdentityName, tuple[Lookups, Question]] = {}
        self._taking_up: dict[IdentityName, _TakeUp] = {}
        self._holds_back = False
        self._held_back_until = -math.inf
        for sender in self._deferral.senders():
            self._retry(sender)

    @property
    def number_waiting(self) -> int:
        """How many messages wait, in memory and on the disk."""
        return len(self._deferral) + self._number_aside

    @property
    def holds_back(self) -> bool:
        """Whether no message is taken from the broker, because DNS answers nobody and there is no room to wait."""
        return self._holds_back

    def finish(self, item: AuthenticatedMessage | SettledMessage) -> None:
        """Hand a message on to the Forwarder, which removes it if it was stored.

        Args:
            item: To be printed, or only to be acknowledged or removed.
        """
        if item.origin.waiting_number is not None:
            self._deferral.forget_message(item.origin.waiting_number)
        super().finish(item)

    def work(self) -> None:
        """Take the next message or answer, and go on with what waits."""
        item = self._next()
        if isinstance(item, Answer):
            self._go_on(item)
        elif item is not None:
            self.attempt(item.origin, lambda: self._process(item))
        if (sender := self._next_to_take_up()) is not None:
            self._take_up_some(sender)
        if time.monotonic() >= self._relieve_at or self._number_aside >= MAX_ASIDE:
            self._relieve()
        for sender in self._deferral.due():
            self._retry(sender)

    def _next(self) -> "DecryptedMessage | Answer | None":
        if not self._holds_back:
            return self.take(self._patience())
        self.context.movements.note()
        try:
            return self._answers.get_urgent(POLL_SECONDS)
        except queue.Empty:
            return None

    def _patience(self) -> float:
        """Return for how many seconds the stage may wait for its next message."""
        if self._taking_up:
            return 0.0
        return min(POLL_SECONDS, max(0.0, min(self._relieve_at, self._deferral.next_due) - time.monotonic()))

    def _process(self, message: DecryptedMessage) -> None:
        """Take a new message as far as it gets: to the Forwarder, aside, or refused."""
        unverified = parse(message.signed)
        sender = unverified.sender
        was_renewed = self.context.discovery.was_renewed(sender)
        renewal = Renewal.DONE if was_renewed else Renewal.POSSIBLE
        moment = self.context.timekeeper.moment()
        known = self.context.discovery.peek(sender)
        verdict = self._judge(message, unverified, known, moment, renewal)
        if isinstance(verdict, Print | Wait) and self._is_awaited(sender):
            # In its sender's order, behind those that could not be decided before.
            self._set_aside(Arrival(message, unverified))
            if isinstance(verdict, Print) and sender not in self._taking_up:
                self._begin_take_up(sender, known, Renewal.FAILED)
        else:
            self._carry_out(verdict, message, unverified)

    def _is_awaited(self, sender: IdentityName) -> bool:
        return self._deferral.is_awaited(sender) or any(
            not arrival.contradicts for arrival in self._aside.get(sender, ())
        )

    def _judge(
        self,
        message: DecryptedMessage,
        unverified: UnverifiedMessage,
        found: Found | DiscoveryError | None,
        moment: Moment,
        renewal: Renewal,
    ) -> Verdict:
        return authenticate(
            unverified,
            message.digest,
            found,
            moment,
            self.context.policies.current(),
            lambda entry: self.context.writes.retry(lambda: self.context.guard.check(entry)),
            renewal,
            self._deferral.waited(message.origin.waiting_number),
        )

    def _carry_out(self, verdict: Verdict, message: DecryptedMessage, unverified: UnverifiedMessage) -> None:
        sender = unverified.sender
        match verdict:
            case Print():
                self._print(verdict, message, unverified)
            case Refuse():
                self.refuse(message.origin, verdict.reason, verdict.fact)
            case AskAgain():
                self._set_aside(Arrival(message, unverified, verdict.anew))
                self._ask(sender, anew=verdict.anew)
            case Wait():
                self._defer(verdict, message, unverified)

    def _defer(self, verdict: Wait, message: DecryptedMessage, unverified: UnverifiedMessage) -> None:
        sender, is_absent = unverified.sender, verdict.cause is Cause.NEW_RECORD
        if message.origin.waiting_number is None:
            if is_absent and not self._deferral.admits_absent(sender):
                self.refuse(message.origin, Reason.SENDER_WITHOUT_RECORD, verdict.why)
                return
            self._set_aside(Arrival(message, unverified, is_absent=is_absent))
        self._deferral.postpone(sender, verdict.why, verdict.cause)

    def _print(self, verdict: Print, message: DecryptedMessage, unverified: UnverifiedMessage) -> None:
        sender = unverified.sender
        self.context.guard.reserve(verdict.entry)
        if unverified.binding is None:
            self.context.refusals.note_unbound(sender)
        is_listed = self.context.policies.current().lists.names_exactly(sender)
        printed = Printed(verdict.entry, self.context.discovery.zone_of(sender), verdict.key.der, is_listed)
        line = self._line(unverified, verdict.text, message.received_at)
        self.finish(AuthenticatedMessage(line, printed, message.origin, requested(unverified)))

    def _set_aside(self, arrival: Arrival) -> None:
        self._aside.setdefault(arrival.unverified.sender, []).append(arrival)
        self._number_aside += 1
        self._relieve_at = min(self._relieve_at, time.monotonic() + ASIDE_SECONDS)

    def _ask(self, sender: IdentityName, *, anew: bool) -> None:
        """Look a sender up, unless that is under way."""
        if sender in self._asking:
            return
        discovery = self.context.discovery
        lookups = self._trusted_lookups if self.context.is_trusted(sender) else self._other_lookups
        question = Question(
            sender,
            discovery.zone_of(sender),
            registrable_domain(sender),
            discovery.find_again if anew else discovery.find,
            self._deferral.has_failed(sender),
        )
        self._asking[sender] = lookups, question
        lookups.ask(question)

    def _stop_asking(self, sender: IdentityName) -> None:
        """Forget to look a sender up of which no message waits any more."""
        lookups, question = self._asking.get(sender, (None, None))
        if lookups is None or question is None or sender in self._aside:
            return
        if lookups.cancel(question):
            del self._asking[sender]

    def _go_on(self, answer: Answer) -> None:
        """Note what DNS says of a sender, and let its messages be taken up if they can be decided by it."""
        sender, outcome = answer.sender, answer.outcome
        self._asking.pop(sender, None)
        # A failure to ask anew says nothing against the keys that are known.
        known = self.context.discovery.peek(sender) or outcome
        if not self._deferral.stored(sender) and sender not in self._aside:
            self._deferral.forget(sender)
            return
        if _is_failure(outcome):
            moment = self._moment()
            if moment.is_set and moment.is_certain:
                self._deferral.refuse_overdue(sender)
            self._deferral.postpone(sender, str(outcome), Cause.DNS)
        if not _is_failure(known):
            renewal = Renewal.FAILED if _is_failure(outcome) else Renewal.DONE
            self._begin_take_up(sender, known, renewal)

    def _begin_take_up(self, sender: IdentityName, outcome: Outcome, renewal: Renewal) -> None:
        is_failed = renewal is Renewal.FAILED
        # What contradicts the known keys cannot be decided by them, however often it is tried.
        numbers = self._deferral.awaited(sender) if is_failed else self._deferral.stored(sender)
        self._taking_up[sender] = _TakeUp(outcome, renewal, deque(numbers), self.context.is_trusted(sender))

    def _next_to_take_up(self) -> IdentityName | None:
        trusted = next((sender for sender, take_up in self._taking_up.items() if take_up.is_trusted), None)
        return trusted or next(iter(self._taking_up), None)

    def _take_up_some(self, sender: IdentityName) -> None:
        """Decide about a bounded number of a sender's messages: other senders' messages come in between."""
        take_up = self._taking_up.pop(sender)
        # What strangers have stored must not hold up what arrives meanwhile.
        is_urgent = take_up.is_trusted or self._answers.empty()
        number = _TAKEN_UP_AT_ONCE if is_urgent else _TAKEN_UP_BESIDE_OTHERS
        stored = [take_up.numbers.popleft() for _ in range(min(number, len(take_up.numbers)))]
        for message in self._deferral.read(stored):
            self._take_up(message, take_up)
        if take_up.numbers:
            # The others take their turns first.
            self._taking_up[sender] = take_up
            return
        arrivals = sorted(self._aside.pop(sender, ()), key=lambda arrival: arrival.contradicts)
        self._number_aside -= len(arrivals)
        if not self._number_aside:
            self._relieve_at = math.inf
            self._holds_back = False
        for arrival in arrivals:
            self._take_up(arrival.message, take_up)
        if take_up.renewal is Renewal.DONE and not self._deferral.stored(sender) and sender not in self._aside:
            self._deferral.forget(sender)

    def _take_up(self, message: DecryptedMessage, take_up: _TakeUp) -> None:
        def step() -> None:
            unverified = parse(message.signed)
            if take_up.outcome is None:
                fact = f"internal error while looking up {unverified.sender}"
                self._carry_out(Refuse(Reason.INTERNAL_ERROR, fact), message, unverified)
                return
            verdict = self._judge(message, unverified, take_up.outcome, self._moment(), take_up.renewal)
            number = message.origin.waiting_number
            is_contradicted = isinstance(verdict, Wait) and verdict.cause is Cause.DNS
            if take_up.renewal is Renewal.FAILED and is_contradicted and number is not None:
                self._deferral.contradict(number)
            self._carry_out(verdict, message, unverified)

        self.attempt(message.origin, step)

    def _moment(self) -> Moment:
        return self.context.timekeeper.moment()

    def _relieve(self) -> None:
        """Store what has stood aside, so that the broker need not wait for it."""
        arrivals = [arrival for arrivals in self._aside.values() for arrival in arrivals]
        admitted, held_back = self._deferral.split_by_room(arrivals) if self._may_hold_back() else (arrivals, [])
        self._aside = {}
        for arrival in held_back:
            self._aside.setdefault(arrival.unverified.sender, []).append(arrival)
        self._number_aside = len(held_back)
        stored = self._deferral.admit(admitted)
        self._holds_back = bool(held_back)
        self._relieve_at = time.monotonic() + POLL_SECONDS if held_back else math.inf
        for waiting in stored:
            take_up = self._taking_up.get(IdentityName(waiting.sender))
            if take_up is not None:
                # It comes behind those of its sender that have waited for longer.
                take_up.numbers.append(waiting.number)

    def _may_hold_back(self) -> bool:
        """Return whether messages for which there is no room stay at the broker; for a while after DNS is back, too."""
        if self._is_dns_dead():
            self._held_back_until = time.monotonic() + HOLDING_SECONDS
        return time.monotonic() < self._held_back_until

    def _is_dns_dead(self) -> bool:
        """Return whether DNS has answered nobody for a minute: not only the names of one owner, and not us either."""
        lookups = (self._trusted_lookups, self._other_lookups)
        if time.monotonic() - max(one.answered_at for one in lookups) <= DEAD_DNS_SECONDS:
            return False
        failed = frozenset[str]().union(*(one.failed_domains for one in lookups))
        if failed:
            # Its answer tells a silent owner of names from a silent DNS.
            self._ask(self.context.settings.identity_name, anew=True)
        return len(failed) > 1

    def _retry(self, sender: IdentityName) -> None:
        if not self._deferral.stored(sender) and sender not in self._aside:
            self._deferral.forget(sender)
            return
        known = self.context.discovery.peek(sender)
        if known is None or _is_failure(known):
            self._ask(sender, anew=False)
        elif self._is_awaited(sender):
            self._begin_take_up(sender, known, Renewal.FAILED)
            self._ask(sender, anew=True)
        else:
            self._ask(sender, anew=True)

    def _line(self, unverified: UnverifiedMessage, text: str, received_at: float) -> str:
        if self.context.settings.output_format is OutputFormat.TEXT:
            return text_line(unverified.sender, text)
        binding = unverified.binding
        return json_line(
            unverified.sender,
            text,
            identifier=binding.identifier if binding else None,
            sent_at=binding.issued_at if binding else None,
            received_at=received_at,
        )


def _is_failure(outcome: Outcome) -> bool:
    """Return whether DNS was out of order, so that its answer decides nothing."""
    return isinstance(outcome, BogusError | TemporaryDiscoveryError)
