"""The values that the stores accept and return, the same for every engine."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

IDENTIFIER_BYTES: Final = 16


class Remembered(Enum):
    """What the replay memory knows about a message."""

    NEW = "new"
    PRINTED = "printed"
    MAYBE_FORGOTTEN = "maybe forgotten"


class Claim(Enum):
    """Whether this receiver may print a message."""

    CLAIMED = "claimed"
    # Or it is so old that it may have been printed and forgotten.
    PRINTED = "printed"
    HELD = "held"


class Admission(Enum):
    """What became of a message that was to be deferred."""

    OURS = "this receiver handles it"
    TO_BE_ADOPTED = "the receiver that handles its sender adopts it"
    COPY = "a copy of it is already deferred, and it was not stored"
    NO_ROOM = "another receiver handles its sender and adopts too little, and it was not stored"


@dataclass(frozen=True, slots=True)
class ReplayEntry:
    """What identifies a message if it arrives again.

    Args:
        sender: The name whose key verified the message.
        identifier: 16 bytes that are unique to the message.
        issued_at: Its `iat`, in seconds since the epoch; None for an unbound message.

    Raises:
        ValueError: The identifier has another length, or the time is negative.
    """

    sender: str
    identifier: bytes
    issued_at: int | None

    def __post_init__(self) -> None:
        if len(self.identifier) != IDENTIFIER_BYTES:
            raise ValueError(f"the identifier has {len(self.identifier)} bytes, not {IDENTIFIER_BYTES}")
        if self.issued_at is not None and self.issued_at < 0:
            raise ValueError(f"issued at {self.issued_at}, before the epoch")


@dataclass(frozen=True, slots=True)
class Printed:
    """One message that has been printed.

    Args:
        entry: What identifies the message.
        zone: The authenticated zone that has the sender's records.
        key: The key that verified it, as a DER SubjectPublicKeyInfo (RFC 5280, section 4.1).
        is_listed: Whether ALLOWED_SENDERS names its sender exactly.
    """

    entry: ReplayEntry
    zone: str
    key: bytes
    is_listed: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known about a name from its printed messages.

    Args:
        name: The sender's name.
        zone: The authenticated zone of its last printed message; empty if unknown.
        printed: How many of its messages were printed; exact only until there are enough to prove it.
        first_printed_at: When the first of them was printed, in seconds since the epoch.
        last_printed_at: When the last was printed; once there are enough to prove it, up to a minute too early, or
            up to an hour if its messages are remembered separately.
        proven_at: When the name was proven; None if it is not.
        apart_since: Since when its messages have been remembered separately from those of unproven names: since it was
            proven, or had a message printed while ALLOWED_SENDERS listed it exactly. None if they are not.
        watermark: Messages issued at or before this time may have been printed and forgotten; -1 if none were.
        key: The key of its last printed message, as a DER SubjectPublicKeyInfo; None if unknown.
    """

    name: str
    zone: str
    printed: int
    first_printed_at: int
    last_printed_at: int
    proven_at: int | None
    apart_since: int | None
    watermark: int
    key: bytes | None

    @property
    def is_proven(self) -> bool:
        """Whether enough messages of the name were printed, over a long enough time."""
        return self.proven_at is not None


@dataclass(frozen=True, slots=True)
class Tidied:
    """What one portion of tidying did.

    Args:
        more: Whether more is left to do; if so, call again at once.
        forgotten_unbound_early: How many unbound messages were forgotten before their year was over: copies of them
            would be printed again.
        raised: The names whose watermark rose.
        pool_raised: Whether the watermark that all unproven names share rose.
    """

    more: bool
    forgotten_unbound_early: int = 0
    raised: tuple[str, ...] = ()
    pool_raised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingHeader:
    """What is known about a deferred message apart from its text.

    Args:
        number: Its number; later messages have higher numbers.
        sender: The name in its `x5u`.
        digest: What identifies it before its signature has verified.
        identifier: What identifies it in the replay memory, 16 bytes.
        issued_at: Its `iat`, in seconds since the epoch; None for an unbound message.
        received_at: When it arrived, in seconds since the epoch.
        deferred_at: When it was deferred, in seconds by `Timekeeper.elapsed`.
        is_asked_again: Whether the look-up was repeated because no key that was found verified the message.
        is_reserved: Whether it takes space in the area for proven and listed names.

    Raises:
        ValueError: The number is not positive, or the identifier has another length.
    """

    number: int
    sender: str
    digest: bytes
    identifier: bytes
    issued_at: int | None
    received_at: float
    deferred_at: float
    is_asked_again: bool
    is_reserved: bool

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"the number {self.number} of a waiting message is not positive")
        if len(self.identifier) != IDENTIFIER_BYTES:
            raise ValueError(f"the identifier has {len(self.identifier)} bytes, not {IDENTIFIER_BYTES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEntry(WaitingHeader):
    """One deferred message, without its text.

    Args:
        size: The length of its text in bytes; for the rest see `WaitingHeader`.
    """

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMessage(WaitingHeader):
    """One deferred message.

    Args:
        signed: Its text, a JWS.
        is_sealed_to_epoch: Whether it was encrypted to an epoch key; for the rest see `WaitingHeader`.
    """

    signed: str
    is_sealed_to_epoch: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The deferred messages of a sender whose receiver has ended.

    Args:
        sender: The name in their `x5u`.
        reserved: How many of them take space in the area for proven and listed names.
        reserved_size: The length of the texts of these, in bytes.
        open: How many take space in the area for other names.
        open_size: The length of the texts of these, in bytes.
    """

    sender: str
    reserved: int
    reserved_size: int
    open: int
    open_size: int


@dataclass(frozen=True, slots=True)
class WaitingLimits:
    """The limits on deferred messages that no live receiver has in its index.

    Args:
        reserved_bytes: The size of those in the area for proven and listed names, in bytes.
        open_bytes: The size of the others, in bytes.
        open_messages: The number of the others.
        overhead_bytes: What counts for each message in addition to its text.
        reserved_seconds: How long a message in the area for proven and listed names waits.
        open_seconds: How long any other message waits.

    Raises:
        ValueError: A limit is negative.
    """

    reserved_bytes: int
    open_bytes: int
    open_messages: int
    overhead_bytes: int
    reserved_seconds: int
    open_seconds: int

    def __post_init__(self) -> None:
        if any(getattr(self, name) < 0 for name in self.__slots__):
            raise ValueError("a limit on deferred messages is negative")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A deferred message that was removed although no receiver has decided about it.

    Args:
        sender: The name in its `x5u`.
        waited: For how many seconds it has waited.
        is_overdue: Whether that was too long; if not, there was no room for it.
    """

    sender: str
    waited: float
    is_overdue: bool
