"""Which messages to accept once it is known what they say: from senders we listen to, meant for us, fresh, and new."""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from idlib.errors import Reason, Refusal
from idlib.lists import SenderLists, WatchedLists
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage import Printed, Remembered, ReplayEntry, ReplayStore
from idlib.storage.rules import MAX_CLOCK_LEAD_SECONDS, MAX_MESSAGE_AGE_SECONDS

__all__ = [
    "EARLIEST_CREDIBLE_TIME",
    "MAX_CLOCK_LEAD_SECONDS",
    "MAX_MESSAGE_AGE_SECONDS",
    "Moment",
    "Policy",
    "PolicySource",
    "ReplayGuard",
    "depends_on_the_clock",
    "replay_entry",
]

if TYPE_CHECKING:
    # What knows only the time must not have all of cryptography in its memory.
    from idlib.envelope import Binding, UnverifiedMessage

# 2026-11-22, when this was written: a clock that shows less has not been set.
EARLIEST_CREDIBLE_TIME: Final = 1_795_305_600
_IDENTIFIER_OCTETS: Final = 16
_REASONS_OF_AGE: Final = frozenset({Reason.TOO_OLD, Reason.EXPIRED, Reason.FROM_THE_FUTURE})


@dataclass(frozen=True, slots=True)
class Moment:
    """What the clock shows, and how far that can be trusted.

    Args:
        now: Seconds since the epoch.
        is_set: Whether the clock can be right: it shows neither a time before this was written nor one before a time
            that it has shown already.
        is_certain: Whether it has neither jumped nor shows a time far ahead of the latest recorded one.
        may_be_late: Whether nobody has set it since the system was started.
    """

    now: float
    is_set: bool = True
    is_certain: bool = True
    may_be_late: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose messages are accepted, and what they must be bound to.

    Args:
        reader: Our own name.
        lists: Whom we listen to, and whose messages must be bound.
    """

    reader: IdentityName
    lists: SenderLists = field(default_factory=SenderLists)

    def check_recipient(self, message: "UnverifiedMessage") -> None:
        """Accept what a message says of its recipient; whether that is true is not known yet.

        Args:
            message: Whose signature need not have been verified.

        Raises:
            Refusal: It is for another reader; or it is not bound to a reader and has to be.
        """
        if message.binding is not None:
            self._check_audience(message.binding)
        elif self.lists.requires_binding(message.sender):
            raise Refusal(Reason.UNBOUND, f"a message from {message.sender} must be bound (REQUIRE_BINDING)")

    def check_message(self, message: "UnverifiedMessage", now: float) -> None:
        """Accept what a message says of its recipient and its time; whether that is true is not known yet.

        Args:
            message: Whose signature need not have been verified.
            now: Seconds since the epoch.

        Raises:
            Refusal: It is for another reader, from the future, expired or too old; or it is not bound and has to be.
        """
        self.check_recipient(message)
        if message.binding is not None:
            self.check_binding(message.binding, now)

    def check_binding(self, binding: "Binding", now: float) -> None:
        """Accept what a message or a receipt says of its recipient and its time; whether that is true is not known yet.

        Args:
            binding: Its own.
            now: Seconds since the epoch.

        Raises:
            Refusal: It is for another reader, from the future, expired or too old.
        """
        self._check_audience(binding)
        if binding.issued_at > now + MAX_CLOCK_LEAD_SECONDS:
            ahead = binding.issued_at - now
            raise Refusal(Reason.FROM_THE_FUTURE, f"the message was issued {ahead:.0f} s ahead of our clock")
        if binding.expires_at is not None and binding.expires_at <= now:
            raise Refusal(Reason.EXPIRED, f"the message expired {now - binding.expires_at:.0f} s ago")
        if binding.issued_at < now - MAX_MESSAGE_AGE_SECONDS:
            raise Refusal(Reason.TOO_OLD, f"the message was issued {now - binding.issued_at:.0f} s ago")

    def _check_audience(self, binding: "Binding") -> None:
        if binding.audience != self.reader:
            raise Refusal(Reason.WRONG_AUDIENCE, f"the message is bound to {binding.audience}")


class PolicySource:
    """The policy as the settings and the files that they name have it at the moment; for any number of threads.

    Args:
        settings: What the environment says.
    """

    def __init__(self, settings: Settings) -> None:
        self._lists = WatchedLists(settings.denied_senders, settings.allowed_senders, settings.require_binding)
        self._policy = Policy(settings.identity_name, self._lists.current())

    def current(self) -> Policy:
        """Return the policy; its files are looked at once a second at most."""
        lists, policy = self._lists.current(), self._policy
        if lists != policy.lists:
            policy = self._policy = Policy(policy.reader, lists)
        return policy


def depends_on_the_clock(reason: Reason, moment: Moment) -> bool:
    """Return whether a refusal may be the fault of our own clock, so that the message has to wait instead.

    Args:
        reason: Why the message would be refused.
        moment: What the clock shows.
    """
    if reason is Reason.FROM_THE_FUTURE and moment.may_be_late:
        return True
    return reason in _REASONS_OF_AGE and not moment.is_certain


def replay_entry(message: "UnverifiedMessage", digest: bytes) -> ReplayEntry:
    """Return how a message is recognized if it arrives again.

    Args:
        message: Its inner layer; the signature need not have been verified.
        digest: SHA-256 over its outer layer, for an unbound message has no other id: RS256 signs equal texts alike.
    """
    sender = str(message.sender)
    if message.binding is None:
        return ReplayEntry(sender, digest[:_IDENTIFIER_OCTETS], None)
    key = hashlib.sha256(f"{sender}\0{message.binding.identifier}".encode()).digest()
    return ReplayEntry(sender, key[:_IDENTIFIER_OCTETS], message.binding.issued_at)


class ReplayGuard:
    """Knows the messages that are printed, and those on their way to be printed.

    Args:
        store: Where the printed ones are remembered.
    """

    def __init__(self, store: ReplayStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reserved: set[bytes] = set()

    def check(self, entry: ReplayEntry) -> None:
        """Accept a message that is new.

        Args:
            entry: How it is recognized.

        Raises:
            Refusal: The message was printed before, or may have been and the memory of it was dropped.
        """
        with self._lock:
            is_reserved = entry.identifier in self._reserved
        remembered = Remembered.PRINTED if is_reserved else self._store.verdict(entry)
        if remembered is Remembered.PRINTED:
            raise Refusal(Reason.REPLAY, f"a message from {entry.sender} has been received before")
        if remembered is Remembered.MAYBE_FORGOTTEN:
            raise Refusal(Reason.REPLAY, f"a message from {entry.sender} may have been received and forgotten")

    def reserve(self, entry: ReplayEntry) -> None:
        """Recognize a message from now on; only one thread decides about messages.

        Args:
            entry: How it is recognized.
        """
        with self._lock:
            self._reserved.add(entry.identifier)

    def remember(self, printed: Sequence[Printed], now: int) -> None:
        """Make it durable, as one group, that messages are printed.

        Args:
            printed: Reserved, and now on stdout.
            now: Seconds since the epoch.
        """
        if printed:
            self._store.remember(printed, now)
        with self._lock:
            self._reserved.difference_update(message.entry.identifier for message in printed)
