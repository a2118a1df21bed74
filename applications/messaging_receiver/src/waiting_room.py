"""Where messages wait for DNS: on the disk, acknowledged, within bounds, until their sender's time to be retried."""

import functools
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from messages import DecryptedMessage, Origin, SettledMessage
from pipeline import Pipeline

from idlib.errors import Reason
from idlib.names import IdentityName
from idlib.store import NewWaitingMessage
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS, clock_is_credible, clock_is_doubtful

# Of a name that no authentic message has come from yet, which anybody can make up.
MAX_WAITING_FOR_A_STRANGER: Final = 16
MAX_WAITING: Final = 1024
MAX_WAITING_SECONDS: Final = 24 * 3600
# A little more than a failure is remembered for.
_FIRST_RETRY_SECONDS: Final = 6.0
_LONGEST_RETRY_SECONDS: Final = 60.0


class WaitingRoom:
    """The stored messages, and when to retry whose.

    Args:
        pipeline: Of the receiver.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._store = pipeline.store
        self._delays: dict[IdentityName, float] = {}
        self._credible_since = math.inf
        self._set_at = 0.0
        self._is_set = True
        self._retry_at = dict.fromkeys(map(IdentityName, pipeline.patiently(self._store.waiting_senders)), 0.0)

    def admit(self, arrivals: Mapping[IdentityName, Sequence[DecryptedMessage]]) -> None:
        """Store messages that do not wait yet, in one durable group, and let them be acknowledged.

        Args:
            arrivals: By their senders, each sender's in the order of their arrival.
        """
        new = [
            (sender, message)
            for sender, messages in arrivals.items()
            for message in messages
            if message.origin.waiting_number is None
        ]
        if not new:
            return
        kept = [NewWaitingMessage(str(sender), one.signed, one.digest, one.received_at) for sender, one in new]
        self._pipeline.patiently(lambda: self._store.keep_waiting(kept))
        for sender, _ in new:
            self._retry_at.setdefault(sender, math.inf)
        self._make_room(new[-1][0])
        for _, message in new:
            self._pipeline.hand_on(SettledMessage(message.origin), self._pipeline.authenticated)

    def postpone(self, sender: IdentityName, messages: Sequence[DecryptedMessage], why: str) -> None:
        """Let messages wait because DNS cannot be asked, or not be believed, for the time being.

        Args:
            sender: Of all of them.
            messages: New ones, or such as wait already.
            why: What is wrong, for the log.
        """
        patient = [message for message in messages if not self._has_waited_too_long(sender, message, why)]
        self.admit({sender: patient})
        if not self._pipeline.knows(sender):
            for _ in range(self._forget_newest(str(sender), MAX_WAITING_FOR_A_STRANGER)):
                self._pipeline.count_refusal(
                    Reason.WAITING_FULL, f"{MAX_WAITING_FOR_A_STRANGER} messages from {sender} wait already: {why}"
                )
        if self._retry_at.get(sender, math.inf) == math.inf:
            delay = self._delays.get(sender, _FIRST_RETRY_SECONDS)
            self._delays[sender] = min(2 * delay, _LONGEST_RETRY_SECONDS)
            self._retry_at[sender] = time.monotonic() + delay
            self._pipeline.limited_log.write(
                logging.WARNING, "waiting", "waiting sender=%s again in %.0f s: %s", sender, delay, why
            )

    def due(self) -> Sequence[IdentityName]:
        """Return the senders whose messages are to be retried now; each is returned once."""
        now = time.monotonic()
        senders = [sender for sender, moment in self._retry_at.items() if moment <= now]
        for sender in senders:
            self._retry_at[sender] = math.inf
        return [sender for sender in senders if not self.forget_if_empty(sender)]

    def messages_of(self, sender: IdentityName) -> Iterator[DecryptedMessage]:
        """Yield what waits of a sender, the oldest first.

        Args:
            sender: Its name.
        """
        if sender not in self._retry_at:
            return
        number = 0
        while portion := self._pipeline.patiently(functools.partial(self._store.waiting_of, str(sender), number)):
            for one in portion:
                yield DecryptedMessage(one.signed, one.digest, one.received_at, Origin(None, one.number))
            number = portion[-1].number

    def forget(self, sender: IdentityName) -> None:
        """Forget that a sender's messages were waited with, unless they are to be retried at some time.

        Args:
            sender: Its name.
        """
        if self._retry_at.get(sender, math.inf) == math.inf:
            self._delays.pop(sender, None)
            self._retry_at.pop(sender, None)

    def forget_if_empty(self, sender: IdentityName) -> bool:
        """Forget a sender of whom nothing waits any more; return whether that is so.

        Args:
            sender: Its name.
        """
        is_empty = not self._pipeline.patiently(lambda: self._store.is_waiting(str(sender)))
        if is_empty:
            self.forget(sender)
        return is_empty

    def _forget_newest(self, sender: str, places: int) -> int:
        return self._pipeline.patiently(lambda: self._store.forget_newest_waiting(sender, places))

    def _make_room(self, sender: IdentityName) -> None:
        """Past the bound for all, refuse the newest of the name with most."""
        while self._pipeline.patiently(self._store.number_waiting) > MAX_WAITING:
            most, number = self._pipeline.patiently(lambda: self._store.most_waiting(str(sender)))
            self._forget_newest(most, number - 1)
            self._pipeline.count_refusal(
                Reason.WAITING_FULL, f"{MAX_WAITING} messages wait already, {number} of them from {most}"
            )

    def _has_waited_too_long(self, sender: IdentityName, message: DecryptedMessage, why: str) -> bool:
        """Refuse a message whose time is over, as far as a clock that was not set allows to tell."""
        now = time.time()
        latest_time = self._store.latest_time
        was_set = self._is_set
        self._is_set = not self._pipeline.clock_may_be_late()
        if self._is_set and not was_set:
            self._set_at = now
        if not self._is_set or not clock_is_credible(now, latest_time) or clock_is_doubtful(now, latest_time):
            return False
        self._credible_since = min(self._credible_since, now)
        is_known = message.received_at >= EARLIEST_CREDIBLE_TIME
        # What came while the clock was late came at a time that it did not show.
        waited = now - max(message.received_at if is_known else self._credible_since, self._set_at)
        if waited <= (MAX_MESSAGE_AGE_SECONDS if self._pipeline.knows(sender) else MAX_WAITING_SECONDS):
            return False
        fact = f"a message from {sender} has waited for {waited / 3600:.0f} h: {why}"
        self._pipeline.refuse(message.origin, Reason.WAITED_TOO_LONG, fact)
        return True
