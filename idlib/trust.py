"""Decides which messages to accept by their content: allowed sender, right recipient, current, and not a replay."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from idlib.errors import Reason, Refusal
from idlib.lists import SenderLists, WatchedLists
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage import PrintingStore, Remembered, ReplayEntry, ReplayStore
from idlib.storage.rules import MAX_CLOCK_LEAD_SECONDS
from idlib.system.times import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS

__all__ = [
    "EARLIEST_CREDIBLE_TIME",
    "MAX_CLOCK_LEAD_SECONDS",
    "MAX_MESSAGE_AGE_SECONDS",
    "Moment",
    "Policy",
    "PolicySource",
    "ReplayGuard",
    "depends_on_the_clock",
    "received_before",
    "replay_entry",
]

if TYPE_CHECKING:
    # Imported for type hints only: programs that need only the time must not load the cryptography library.
    from idlib.envelope import Binding, SealedTo, UnverifiedMessage

_IDENTIFIER_BYTES: Final = 16
_REASONS_OF_AGE: Final = frozenset({Reason.TOO_OLD, Reason.EXPIRED, Reason.FROM_THE_FUTURE})


@dataclass(frozen=True, slots=True)
class Moment:
    """The time that the clock shows, and how far it can be trusted.

    Args:
        now: The time in seconds since the epoch.
        is_set: Whether the time can be right: it is neither before this software was made nor before the recorded time.
        is_certain: Whether the clock has not jumped and is not far ahead of the latest recorded time.
        may_be_late: Whether the clock may be behind, because it has not been set since the system was started.
    """

    now: float
    is_set: bool = True
    is_certain: bool = True
    may_be_late: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose messages are accepted, and which of them must be bound, or encrypted to an epoch key.

    Args:
        recipient: The name of this device.
        lists: The operator's lists of senders.
    """

    recipient: IdentityName
    lists: SenderLists = field(default_factory=SenderLists)

    def check_recipient(self, message: "UnverifiedMessage") -> None:
        """Check the recipient that a message states.

        Args:
            message: The message; its signature need not be verified yet.

        Raises:
            Refusal: The message is for another recipient, or it is unbound and has to be bound.
        """
        if message.binding is not None:
            self._check_audience(message.binding)
        elif self.lists.requires_binding(message.sender):
            raise Refusal(Reason.UNBOUND, f"a message from {message.sender} must be bound (REQUIRE_BINDING)")

    def check_sealing(self, sender: IdentityName, sealed_to: "SealedTo") -> None:
        """Check the kind of key that a message was encrypted to.

        Args:
            sender: The sender that the message states; its signature need not be verified yet.
            sealed_to: The kind of key.

        Raises:
            Refusal: It was encrypted to the identity key, and has to be encrypted to an epoch key.
        """
        # The value and not the member, so that the envelope need not be loaded.
        if sealed_to != "epoch" and self.lists.requires_forward_secrecy(sender):
            raise Refusal(
                Reason.NOT_FORWARD_SECRET,
                f"a message from {sender} must be encrypted to an epoch key (REQUIRE_FORWARD_SECRECY)",
            )

    def check_message(self, message: "UnverifiedMessage", now: float) -> None:
        """Check the recipient and the time that a message states.

        Args:
            message: The message; its signature need not be verified yet.
            now: The time in seconds since the epoch.

        Raises:
            Refusal: The message is for another recipient, from the future, expired or too old; or it is unbound and has
                to be bound.
        """
        self.check_recipient(message)
        if message.binding is not None:
            self.check_binding(message.binding, now)

    def check_binding(self, binding: "Binding", now: float) -> None:
        """Check the recipient and the time in the binding of a message or a receipt.

        Args:
            binding: The binding; the signature need not be verified yet.
            now: The time in seconds since the epoch.

        Raises:
            Refusal: It is for another recipient, from the future, expired or too old.
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
        if binding.audience != self.recipient:
            raise Refusal(Reason.WRONG_AUDIENCE, f"the message is bound to {binding.audience}")


class PolicySource:
    """Provides the current policy, from the settings and the files that they name. Thread-safe.

    Args:
        settings: The settings from the environment.
    """

    def __init__(self, settings: Settings) -> None:
        self._lists = WatchedLists(
            settings.denied_senders,
            settings.allowed_senders,
            settings.require_binding,
            settings.require_forward_secrecy,
        )
        self._policy = Policy(settings.identity_name, self._lists.current())

    def current(self) -> Policy:
        """Return the policy; checks its files for changes at most once a second."""
        lists, policy = self._lists.current(), self._policy
        if lists is not policy.lists:
            policy = self._policy = Policy(policy.recipient, lists)
        return policy

    def requires_forward_secrecy(self, name: IdentityName) -> bool:
        """Return whether messages from a device, and to it, must be encrypted to an epoch key.

        Args:
            name: The device's name.
        """
        return self.current().lists.requires_forward_secrecy(name)


def depends_on_the_clock(reason: Reason, moment: Moment) -> bool:
    """Return whether our own clock may be the cause of a refusal, so that the message has to wait instead.

    Args:
        reason: Why the message would be refused.
        moment: The time, and how far it can be trusted.
    """
    if reason is Reason.FROM_THE_FUTURE and moment.may_be_late:
        return True
    return reason in _REASONS_OF_AGE and not moment.is_certain


def replay_entry(message: "UnverifiedMessage", digest: bytes) -> ReplayEntry:
    """Return the entry for the replay memory by which a message is recognized if it arrives again.

    Args:
        message: The message; its signature need not be verified yet.
        digest: The SHA-256 digest of its outer layer. It identifies an unbound message, which has no id; its signature
            cannot, because RS256 gives equal texts equal signatures.
    """
    sender = str(message.sender)
    if message.binding is None:
        return ReplayEntry(sender, digest[:_IDENTIFIER_BYTES], None)
    key = hashlib.sha256(f"{sender}\0{message.binding.identifier}".encode()).digest()
    return ReplayEntry(sender, key[:_IDENTIFIER_BYTES], message.binding.issued_at)


def received_before(entry: ReplayEntry) -> Refusal:
    """Return the refusal of a message that was printed before.

    Args:
        entry: Its entry for the replay memory.
    """
    return Refusal(Reason.REPLAY, f"a message from {entry.sender} has been received before")


class ReplayGuard:
    """Detects replays of messages that were printed or are about to be.

    Args:
        store: Knows the printed messages.
    """

    def __init__(self, store: ReplayStore | PrintingStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reserved: set[bytes] = set()

    def check(self, entry: ReplayEntry) -> None:
        """Check that a message is new.

        Args:
            entry: Its entry for the replay memory.

        Raises:
            Refusal: The message was printed before, or it is so old that its entry may have been forgotten.
        """
        with self._lock:
            is_reserved = entry.identifier in self._reserved
        remembered = Remembered.PRINTED if is_reserved else self._store.verdict(entry)
        if remembered is Remembered.PRINTED:
            raise received_before(entry)
        if remembered is Remembered.MAYBE_FORGOTTEN:
            raise Refusal(Reason.REPLAY, f"a message from {entry.sender} may have been received and forgotten")

    def reserve(self, entry: ReplayEntry) -> None:
        """Treat a message as printed from now on; to be called by the one thread that decides about messages.

        Args:
            entry: Its entry for the replay memory.
        """
        with self._lock:
            self._reserved.add(entry.identifier)

    def release(self, entries: Iterable[ReplayEntry]) -> None:
        """No longer treat messages as printed because they were reserved; the store knows them now.

        Args:
            entries: Their entries for the replay memory.
        """
        with self._lock:
            self._reserved.difference_update(entry.identifier for entry in entries)
