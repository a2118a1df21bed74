"""What becomes of a decrypted message: one function of the message, what is known of its sender, and the time.

The steps stand in the order of docs/protocol.md, "What a reader checks". Nothing here asks DNS, waits or writes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from idlib.algorithms import PublicKey
from idlib.discovery import Found
from idlib.envelope import UnverifiedMessage, signing_key_of
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
    """The message is authentic, for us, fresh and new.

    Args:
        text: What its sender says.
        entry: How it is recognized if it arrives again.
        key: The sender's key that verified the signature.
    """

    text: str
    entry: ReplayEntry
    key: PublicKey


class Cause(Enum):
    """What a message waits for."""

    CLOCK = auto()
    DNS = auto()
    NEW_RECORD = auto()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be decided at present, through no fault of the message.

    Args:
        why: One line for the log.
        cause: What it waits for.
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
    """DNS has to be asked about the sender before anything can be decided.

    Args:
        anew: Whether keys are known of which none verifies the signature, so that the sender may have a new one
            (RFC 7671, section 8.1); otherwise nothing is known of the sender.
    """

    anew: bool


# After so many seconds a name that has no record is not a new one.
ABSENCE_SECONDS: Final = 3600.0

Verdict = Print | Wait | Refuse | AskAgain


class Renewal(Enum):
    """What became of asking DNS anew about a sender whose known keys do not verify a message."""

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
) -> Verdict:
    """Decide about a message whose outer layer is open and whose inner layer is well formed.

    Args:
        message: From `idlib.envelope.parse`, which is steps 1 and 2.
        digest: SHA-256 over the outer layer.
        found: What DNS says of the sender, as far as it has been asked; None if it has not been.
        moment: What our clock shows.
        policy: Whom we listen to.
        check_replay: Raises a Refusal if a message was printed before.
        renewal: Whether DNS can be asked anew about a sender whose known keys do not verify the message.
        waited: For how many seconds the message has waited.
    """
    try:
        policy.lists.check(message.sender)
        policy.check_recipient(message)
        if not moment.is_set:
            return Wait("the clock is not set", Cause.CLOCK)
        policy.check_message(message, moment.now)
    except Refusal as refusal:
        if depends_on_the_clock(refusal.reason, moment):
            return Wait(f"the clock may be wrong; if it is right, {refusal.fact}", Cause.CLOCK)
        return Refuse(refusal.reason, refusal.fact)
    if found is None:
        return AskAgain(anew=False)
    if isinstance(found, DiscoveryError):
        return _without_records(found, moment, waited)
    key = signing_key_of(message, found.public_keys)
    if key is None:
        return _without_key(message, renewal)
    entry = replay_entry(message, digest)
    try:
        check_replay(entry)
    except Refusal as refusal:
        return Refuse(refusal.reason, refusal.fact)
    return Print(message.unverified_text, entry, key)


def _without_records(error: DiscoveryError, moment: Moment, waited: float) -> Verdict:
    if isinstance(error, BogusError | TemporaryDiscoveryError):
        return Wait(str(error), Cause.DNS)
    if isinstance(error, NoRecordError) and waited < ABSENCE_SECONDS:
        # The name may be new, and a server may not have heard of its record yet.
        return Wait(str(error), Cause.NEW_RECORD)
    if isinstance(error, NoUsableRecordError) and not moment.is_certain:
        # The certificates may have been judged by a wrong clock.
        return Wait(f"the clock may be wrong, and by it {error}", Cause.CLOCK)
    return Refuse(_reason_of(error), str(error))


def _without_key(message: UnverifiedMessage, renewal: Renewal) -> Verdict:
    match renewal:
        case Renewal.POSSIBLE:
            return AskAgain(anew=True)
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
