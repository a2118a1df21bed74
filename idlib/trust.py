"""Which messages to believe once it is known what they say: meant for us, fresh, and not seen before."""

import hashlib
import threading
from collections.abc import Iterable
from typing import Final

from idlib.envelope import Binding, UnverifiedMessage
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from idlib.store import ReplayEntry, Store

MAX_MESSAGE_AGE_SECONDS: Final = 14 * 24 * 3600
MAX_CLOCK_LEAD_SECONDS: Final = 5 * 60
UNBOUND_MEMORY_SECONDS: Final = 365 * 24 * 3600


def check_binding(binding: Binding | None, reader: IdentityName, now: float) -> None:
    """Accept a message that is bound to this reader and fresh, or that is not bound at all.

    Args:
        binding: What the message is bound to; None where it is not.
        reader: Our own name.
        now: Seconds since the epoch.

    Raises:
        Refusal: It is for another reader, from the future, expired, or too old.
    """
    if binding is None:
        return
    if binding.audience != reader:
        raise Refusal(Reason.WRONG_AUDIENCE, f"the message is bound to {binding.audience}")
    if binding.issued_at > now + MAX_CLOCK_LEAD_SECONDS:
        raise Refusal(
            Reason.FROM_THE_FUTURE, f"the message was issued {binding.issued_at - now:.0f} s ahead of our clock"
        )
    if binding.expires_at is not None and binding.expires_at <= now:
        raise Refusal(Reason.EXPIRED, f"the message expired {now - binding.expires_at:.0f} s ago")
    if binding.issued_at < now - MAX_MESSAGE_AGE_SECONDS:
        raise Refusal(Reason.TOO_OLD, f"the message was issued {now - binding.issued_at:.0f} s ago")


def replay_entry(message: UnverifiedMessage, digest: bytes, now: float) -> ReplayEntry:
    """Return what a message is recognized by when it comes once more, and for how long.

    Args:
        message: Whose signature has verified.
        digest: SHA-256 over its outer layer, for an unbound message has no other id: RS256 signs equal texts alike.
        now: Seconds since the epoch.
    """
    if message.binding is None:
        return ReplayEntry(digest, int(now) + UNBOUND_MEMORY_SECONDS)
    key = f"{message.sender}\0{message.binding.identifier}".encode()
    keep_until = message.binding.issued_at + MAX_MESSAGE_AGE_SECONDS + MAX_CLOCK_LEAD_SECONDS
    return ReplayEntry(hashlib.sha256(key).digest(), keep_until)


class ReplayGuard:
    """Knows the messages that are printed, and those on their way to be.

    Args:
        store: Where the printed ones are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reserved: set[bytes] = set()

    def reserve(self, entry: ReplayEntry) -> None:
        """Check that a message is new and reserve it, in one step.

        Args:
            entry: Of a message whose signature has verified.

        Raises:
            Refusal: The message is known.
        """
        with self._lock:
            if entry.identifier in self._reserved or self._store.has_printed(entry.identifier):
                raise Refusal(Reason.REPLAY, "the message has been received before")
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
