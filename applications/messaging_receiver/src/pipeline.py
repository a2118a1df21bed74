"""What the stages of the receiver share: how they take, hand on and refuse messages, and when they stop."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from messages import Answer, AuthenticatedMessage, Counters, DecryptedMessage, Origin, SettledMessage
from receipts import ReceiptRequest
from standard_output import StandardOutput

from idlib import clock
from idlib.discovery import Discovery
from idlib.errors import Reason, Refusal, StoreError
from idlib.log_limit import LimitedLog
from idlib.names import IdentityName
from idlib.outage import Outage
from idlib.settings import Settings
from idlib.store import Store
from idlib.transport import Delivery
from idlib.trust import Policy, ReplayGuard

_LOG = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
STORE_RETRY_SECONDS: Final = 1.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The queues between the stages, and what the stages have in common.

    Args:
        settings: What the environment says.
        store: What outlives a restart.
        policy: Whose messages are accepted.
        guard: Which messages are known.
        discovery: Finds senders' certificates.
        encrypted: From MQTT-Ingest to Decryption.
        decrypted: From Decryption to Authentication, and a mark there for each answer of DNS.
        authenticated: From all stages to the Forwarder, which finishes every message in order.
        settle: Lets a message be acknowledged to the broker.
        confirm: Lets a sender know that its message is printed; never waits.
        counters: How many messages went where.
        moved_at: When each stage last looked into its queue, by the name of its thread, on the monotonic clock.
        stopping: Set when the receiver is told to stop.
        stdout: Where messages are printed.
        store_outage: Whether messages can be read from the store and written to it.
        upkeep_outage: Whether the store can be kept small, and the time in it up to date.
        limited_log: Where refused and waiting messages are logged.
    """

    settings: Settings
    store: Store
    policy: Policy
    guard: ReplayGuard
    discovery: Discovery
    encrypted: "queue.Queue[Delivery]"
    decrypted: "queue.Queue[DecryptedMessage | Answer]"
    authenticated: "queue.Queue[AuthenticatedMessage | SettledMessage]"
    settle: Callable[[Delivery], None]
    confirm: Callable[[ReceiptRequest], None]
    counters: Counters = field(default_factory=Counters)
    moved_at: dict[str, float] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    stdout: StandardOutput = field(init=False)
    store_outage: Outage = field(default_factory=lambda: Outage(_LOG))
    upkeep_outage: Outage = field(default_factory=lambda: Outage(_LOG))
    limited_log: LimitedLog = field(default_factory=lambda: LimitedLog(_LOG))

    def __post_init__(self) -> None:
        object.__setattr__(self, "stdout", StandardOutput(self.stopping))

    def note_movement(self) -> None:
        """Note that the calling thread is at work, be it that it waits for the disk or for a reader of stdout."""
        self.moved_at[threading.current_thread().name] = time.monotonic()

    def take(self, source: "queue.Queue[T]", seconds: float = POLL_SECONDS) -> T | None:
        """Return the next of a queue, or None after a moment without one.

        Args:
            source: One of the three queues.
            seconds: How long the moment is.
        """
        self.note_movement()
        try:
            return source.get(timeout=seconds)
        except queue.Empty:
            return None

    def hand_on(self, item: T, target: "queue.Queue[T]") -> None:
        """Put something into a queue, waiting for a place; when the receiver stops it is left to the broker.

        Args:
            item: What to put there.
            target: One of the three queues.
        """
        while not self.stopping.is_set():
            try:
                target.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def each(self, source: "queue.Queue[T]") -> Iterator[T | None]:
        """Yield what comes through a queue, and None in each moment in which nothing does, until the receiver stops.

        Args:
            source: One of the three queues.
        """
        while not self.stopping.is_set():
            yield self.take(source)

    def patiently(self, operation: Callable[[], T]) -> T:
        """Do something with the store; where it fails, again and again until it succeeds or the receiver stops.

        So a full disk holds up the messages and, through them, the broker, and loses none.

        Args:
            operation: Changes all or nothing.

        Raises:
            StoreError: The store cannot be used, and the receiver stops.
        """
        has_failed = False
        while True:
            try:
                result = operation()
            except StoreError as error:
                has_failed = True
                self.store_outage.begin(f"Messages wait for the disk: {error}")
                self.note_movement()
                if self.stopping.wait(STORE_RETRY_SECONDS):
                    raise
            else:
                # Success at once proves nothing: on a full disk reading works.
                if has_failed and self.store_outage.end():
                    _LOG.info("The disk can be used again")
                return result

    def knows(self, sender: IdentityName) -> bool:
        """Return whether a name is one that we listen to: named by the operator, or proven by an earlier message.

        Args:
            sender: A name that anybody may have written into a message.
        """
        allowed = self.policy.allowed_senders
        if allowed is not None and allowed.match(sender):
            return True
        return self.patiently(lambda: self.store.number_printed_of(str(sender))) > 0

    def clock_may_be_late(self) -> bool:
        """Return whether nobody has set the clock since the system was started anew, as far as it says that."""
        return self.store.boot not in {"", clock.boot()} and not clock.is_synchronized()

    def attempt(self, origin: Origin, step: Callable[[], None]) -> None:
        """Do one step on one message; whatever is wrong with the message refuses it and ends no thread.

        Args:
            origin: Where the message came from.
            step: Hands the message on, or raises why it cannot.
        """
        try:
            step()
        except Refusal as refusal:
            self.refuse(origin, refusal.reason, refusal.fact)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  # an error of ours that a message can cause must not stop all others
            _LOG.exception("A message met an error of this program")
            self.refuse(origin, Reason.INTERNAL_ERROR, "this program failed on the message")

    def refuse(self, origin: Origin, reason: Reason, fact: str) -> None:
        """Count and log a refusal, and let the message be acknowledged in its turn.

        Args:
            origin: Where the message came from.
            reason: The stable code.
            fact: What is wrong with the message.
        """
        self.count_refusal(reason, fact)
        self.hand_on(SettledMessage(origin), self.authenticated)

    def count_refusal(self, reason: Reason, fact: str) -> None:
        """Count and log a refusal.

        Args:
            reason: The stable code.
            fact: What is wrong with the message.
        """
        self.counters.count_refused(reason)
        # Receipts are for whoever asked for them; that they come here, too, is as it should be.
        level = logging.INFO if reason is Reason.RECEIPT else logging.WARNING
        self.limited_log.write(level, reason, "refused reason=%s %s", reason, fact)
