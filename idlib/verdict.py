"""Decides about a decrypted message from its content, the result of its sender's look-up, and the time.

The checks are in the order of docs/protocol.md, "What a receiver checks". Nothing here queries DNS, waits or writes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from idlib.algorithms import PublicKey
from idlib.discovery import Found
from idlib.envelope import SealedTo, UnverifiedMessage, signing_key_of
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    Reason,
    Refusal,
    TemporaryDiscoveryError,
)
from idlib.storage import ReplayEntry
from idlib.trust import Moment, Policy, depends_on_the_clock, replay_entry


@dataclass(frozen=True, slots=True)
class Print:
    """The message is authentic, sent to this device, current, and not a replay.

    Args:
        content: The message's content, exactly as it was signed.
        entry: Its entry for the replay memory.
        key: The sender's key that verified the signature.
        zone: The zone that signed the sender's records, or else the sender's registrable domain.
        content_type: The media type of the content; None for a text, which is UTF-8.
    """

    content: bytes
    entry: ReplayEntry
    key: PublicKey
    zone: str
    content_type: str | None = None

    @property
    def text(self) -> str | None:
        """The content as a text; None if it has a content type and is not UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None


class Cause(Enum):
    """What a message waits for."""

    CLOCK = auto()
    DNS = auto()
    NEW_RECORD = auto()


@dataclass(frozen=True, slots=True)
class Wait:
    """The message cannot be decided yet, because of the clock or DNS.

    Args:
        why: One line for the log.
        cause: What the message waits for.
    """

    why: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Refuse:
    """The message is not printed.

    Args:
        reason: The stable code.
        fact: What is wrong with the message.
    """

    reason: Reason
    fact: str


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The sender has to be looked up before the message can be decided.

    Args:
        renew: Whether to bypass the cache, because none of the sender's known keys verifies the signature and it may
            have a new one (RFC 7671, section 8.1). False if the sender has not been looked up yet.
    """

    renew: bool


# For this long, a name without a record may be new; its messages wait, and are refused afterwards.
ABSENCE_SECONDS: Final = 3600.0

Verdict = Print | Wait | Refuse | AskAgain


class Renewal(Enum):
    """The state of a new look-up, past the cache, of a sender whose known keys do not verify a message."""

    POSSIBLE = auto()
    DONE = auto()
    FAILED = auto()


def authenticate(
    message: UnverifiedMessage,
    digest: bytes,
    found: Found | DiscoveryError | None,
    moment: Moment,
    policy: Policy,
    check_replay: Callable[[ReplayEntry], None],
    renewal: Renewal = Renewal.POSSIBLE,
    waited: float = 0.0,
    verified_with: bytes | None = None,
    sealed_to: SealedTo = SealedTo.IDENTITY,
) -> Verdict:
    """Decide about a decrypted and parsed message.

    Args:
        message: The message, from `idlib.envelope.parse`, which does steps 1 and 2.
        digest: The SHA-256 digest of the outer layer.
        found: The result of the sender's look-up; None if it has not been looked up.
        moment: The time, and how far it can be trusted.
        policy: Whose messages are accepted.
        check_replay: Raises a Refusal if the message was printed before.
        renewal: Whether the sender can be looked up again if none of its known keys verifies the message.
        waited: For how many seconds the message has waited.
        verified_with: The SubjectPublicKeyInfo of a key that is known to verify the signature, to save verifying it
            again; it counts only if it is among the sender's keys in `found`.
        sealed_to: The kind of key that the message was encrypted to.
    """
    try:
        policy.lists.check(message.sender)
        policy.check_recipient(message)
        policy.check_sealing(message.sender, sealed_to)
        if not moment.is_set:
            return Wait("the clock is not set", Cause.CLOCK)
        policy.check_message(message, moment.now)
    except Refusal as refusal:
        if depends_on_the_clock(refusal.reason, moment):
            return Wait(f"the clock may be wrong; if it is right, {refusal.fact}", Cause.CLOCK)
        return Refuse(refusal.reason, refusal.fact)
    if found is None:
        return AskAgain(renew=False)
    if isinstance(found, DiscoveryError):
        return _without_records(found, moment, waited)
    key = _key_of(message, found, verified_with)
    if key is None:
        return _without_key(message, renewal)
    entry = replay_entry(message, digest)
    try:
        check_replay(entry)
    except Refusal as refusal:
        return Refuse(refusal.reason, refusal.fact)
    return _print(message, entry, key, found)


def _print(message: UnverifiedMessage, entry: ReplayEntry, key: PublicKey, found: Found) -> Print:
    return Print(message.unverified_content, entry, key, found.zone, message.content_type)


def _key_of(message: UnverifiedMessage, found: Found, verified_with: bytes | None) -> PublicKey | None:
    if verified_with is not None and verified_with in found.accepted:
        return found.parse(verified_with)
    return signing_key_of(message, found.public_keys)


def _without_records(error: DiscoveryError, moment: Moment, waited: float) -> Verdict:
    if isinstance(error, BogusError | TemporaryDiscoveryError):
        return Wait(str(error), Cause.DNS)
    if isinstance(error, NoRecordError) and waited < ABSENCE_SECONDS:
        # The name may be new, and its record may not have reached every name server yet.
        return Wait(str(error), Cause.NEW_RECORD)
    if isinstance(error, NoUsableRecordError) and not moment.is_certain:
        # The certificates' dates may have been checked with a wrong clock.
        return Wait(f"the clock may be wrong; if it is right, {error}", Cause.CLOCK)
    return Refuse(_reason_of(error), str(error))


def _without_key(message: UnverifiedMessage, renewal: Renewal) -> Verdict:
    match renewal:
        case Renewal.POSSIBLE:
            return AskAgain(renew=True)
        case Renewal.FAILED:
            return Wait(
                f"no known key of {message.sender} verifies the signature, and looking up a new one in DNS failed",
                Cause.DNS,
            )
        case Renewal.DONE:
            return Refuse(
                Reason.SIGNATURE_INVALID, f"no key of {message.sender} verifies the {message.algorithm} signature"
            )


def _reason_of(error: DiscoveryError) -> Reason:
    if isinstance(error, NoRecordError):
        return Reason.SENDER_WITHOUT_RECORD
    if isinstance(error, NotSecureError):
        return Reason.SENDER_NOT_SECURE
    return Reason.SENDER_WITHOUT_USABLE_KEY
