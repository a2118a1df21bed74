"""Which messages to believe once it is known what they say: of whom we listen to, meant for us, fresh, and new."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from idlib.envelope import Binding, UnverifiedMessage
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName, NamePatterns
from idlib.settings import Settings
from idlib.store import ReplayEntry, Store

MAX_MESSAGE_AGE_SECONDS: Final = 14 * 24 * 3600
MAX_CLOCK_LEAD_SECONDS: Final = 5 * 60
UNBOUND_MEMORY_SECONDS: Final = 365 * 24 * 3600
MAX_REMEMBERED_OF_A_SENDER: Final = 1_000_000
MAX_REMEMBERED: Final = 4_000_000
# 2026-11-22, when this was written: a clock that shows less has not been set.
EARLIEST_CREDIBLE_TIME: Final = 1_795_305_600
_IDENTIFIER_OCTETS: Final = 16


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose messages are accepted, and what they must be bound to.

    Args:
        reader: Our own name.
        allowed_senders: Whom we listen to; None for everybody.
        require_binding: Whose messages must be bound to their recipient and a time; None for nobody's.
    """

    reader: IdentityName
    allowed_senders: NamePatterns | None = None
    require_binding: NamePatterns | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the policy that the settings describe."""
        return cls(settings.identity_name, settings.allowed_senders, settings.require_binding)

    def check(self, message: UnverifiedMessage, now: float) -> None:
        """Accept what a message says of its sender, its recipient and its time; whether that is true is not known yet.

        Args:
            message: Whose signature need not have verified.
            now: Seconds since the epoch.

        Raises:
            Refusal: We do not listen to its sender; it is for another reader, from the future, expired or too old; or
                it is not bound and has to be.
        """
        if self.allowed_senders is not None and not self.allowed_senders.match(message.sender):
            raise Refusal(Reason.SENDER_NOT_ALLOWED, f"{message.sender} is not among ALLOWED_SENDERS")
        if message.binding is not None:
            self.check_binding(message.binding, now)
        elif self.require_binding is not None and self.require_binding.match(message.sender):
            raise Refusal(Reason.UNBOUND, f"a message from {message.sender} must be bound (REQUIRE_BINDING)")

    def check_binding(self, binding: Binding, now: float) -> None:
        """Accept what a message or a receipt says of its recipient and its time; whether that is true is not known yet.

        Args:
            binding: Its own.
            now: Seconds since the epoch.

        Raises:
            Refusal: It is for another reader, from the future, expired or too old.
        """
        if binding.audience != self.reader:
            raise Refusal(Reason.WRONG_AUDIENCE, f"the message is bound to {binding.audience}")
        if binding.issued_at > now + MAX_CLOCK_LEAD_SECONDS:
            ahead = binding.issued_at - now
            raise Refusal(Reason.FROM_THE_FUTURE, f"the message was issued {ahead:.0f} s ahead of our clock")
        if binding.expires_at is not None and binding.expires_at <= now:
            raise Refusal(Reason.EXPIRED, f"the message expired {now - binding.expires_at:.0f} s ago")
        if binding.issued_at < now - MAX_MESSAGE_AGE_SECONDS:
            raise Refusal(Reason.TOO_OLD, f"the message was issued {now - binding.issued_at:.0f} s ago")


def clock_is_credible(now: float, latest_time: int) -> bool:
    """Return whether the clock can be right: not before this was written, nor before a time that it showed already.

    Args:
        now: What it shows, in seconds since the epoch.
        latest_time: The latest time that was noted, likewise.
    """
    return now >= max(EARLIEST_CREDIBLE_TIME, latest_time)


def clock_is_doubtful(now: float, latest_time: int) -> bool:
    """Return whether the clock shows a time so far ahead of the latest that was noted that it may be wrong.

    A device may have been off for that long. An authentic message that is fresh by this clock decides it; until then no
    message is refused for its age, and no time is noted that would make the right one look wrong.

    Args:
        now: What it shows, in seconds since the epoch.
        latest_time: The latest time that was noted, likewise.
    """
    return now > max(EARLIEST_CREDIBLE_TIME, latest_time) + MAX_MESSAGE_AGE_SECONDS


def replay_entry(message: UnverifiedMessage, digest: bytes, now: float) -> ReplayEntry:
    """Return what a message is recognized by when it comes once more, and for how long.

    Args:
        message: Whose signature has verified.
        digest: SHA-256 over its outer layer, for an unbound message has no other id: RS256 signs equal texts alike.
        now: Seconds since the epoch.
    """
    sender = str(message.sender)
    if message.binding is None:
        return ReplayEntry(digest[:_IDENTIFIER_OCTETS], sender, 0, int(now) + UNBOUND_MEMORY_SECONDS)
    key = hashlib.sha256(f"{sender}\0{message.binding.identifier}".encode()).digest()
    issued_at = message.binding.issued_at
    keep_until = issued_at + MAX_MESSAGE_AGE_SECONDS + MAX_CLOCK_LEAD_SECONDS
    return ReplayEntry(key[:_IDENTIFIER_OCTETS], sender, issued_at, keep_until)


class ReplayGuard:
    """Knows the messages that are printed, and those on their way to be. Nothing that still matters is forgotten.

    Args:
        store: Where the printed ones are kept.
        allowed_senders: Whom we listen to by name, and so never refuse for others' sake.
    """

    def __init__(self, store: Store, allowed_senders: NamePatterns | None = None) -> None:
        self._store = store
        self._allowed_senders = allowed_senders
        self._lock = threading.Lock()
        self._reserved: set[bytes] = set()

    def reserve(self, message: UnverifiedMessage, entry: ReplayEntry) -> None:
        """Check that a message is new and reserve it, in one step.

        Args:
            message: Whose signature has verified.
            entry: Its own.

        Raises:
            Refusal: The message is known, may be one that is forgotten, or cannot be remembered.
        """
        with self._lock:
            if entry.identifier in self._reserved or self._store.has_printed(entry.identifier):
                raise Refusal(Reason.REPLAY, f"a message from {message.sender} has been received before")
            if message.binding is not None and message.binding.issued_at <= self._store.latest_forgotten_issue:
                raise Refusal(Reason.REPLAY, f"a message from {message.sender} may have been received and forgotten")
            self._check_room(message.sender)
            self._reserved.add(entry.identifier)

    def finish(self, printed: Iterable[ReplayEntry], no_longer_waiting: Iterable[int]) -> None:
        """Make it durable, as one group, that messages are printed.

        Args:
            printed: Reserved, and now on stdout.
            no_longer_waiting: Numbers of stored messages that are printed or refused.
        """
        entries = tuple(printed)
        self._store.finish(entries, no_longer_waiting)
        with self._lock:
            self._reserved.difference_update(entry.identifier for entry in entries)

    def _check_room(self, sender: IdentityName) -> None:
        remembered = self._store.number_printed_of(str(sender))
        if remembered >= MAX_REMEMBERED_OF_A_SENDER:
            raise Refusal(Reason.REPLAY_FULL, f"{remembered} messages from {sender} have to be remembered already")
        is_allowed_by_name = self._allowed_senders is not None and self._allowed_senders.match(sender)
        if self._store.number_printed >= MAX_REMEMBERED and remembered == 0 and not is_allowed_by_name:
            raise Refusal(
                Reason.REPLAY_FULL, f"{MAX_REMEMBERED} messages have to be remembered already, none from {sender}"
            )
