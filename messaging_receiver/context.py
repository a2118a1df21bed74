"""What the stages of the receiver share."""

import threading
import time
from dataclasses import dataclass, field

from idlib.discovery import Discovery
from idlib.errors import StoreError
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage import PrintingStore, ReplayStore, WaitingStore
from idlib.time_source import TimeSource
from idlib.trust import PolicySource, ReplayGuard
from messaging_receiver.counters import Counters
from messaging_receiver.durable_writes import DurableWrites
from messaging_receiver.refusals import Refusals


class Movements:
    """When each thread was last active, by the thread's name, on the monotonic clock."""

    def __init__(self) -> None:
        self._moved_at: dict[str, float] = {}

    def note(self) -> None:
        """Note that the calling thread is active; waiting for the disk or for stdout counts as active."""
        self._moved_at[threading.current_thread().name] = time.monotonic()

    def rest(self) -> None:
        """Note that the calling thread waits for something that may take any time, such as the next message."""
        self._moved_at.pop(threading.current_thread().name, None)

    def stillest(self) -> tuple[str, float] | None:
        """Return the thread that has been inactive for longest, and for how many seconds; None if there is none yet."""
        moved_at = self._moved_at.copy()
        if not moved_at:
            return None
        name = min(moved_at, key=moved_at.__getitem__)
        return name, time.monotonic() - moved_at[name]


class Standings:
    """Which names are trusted. Trusted names do not compete with strangers for limited resources.

    Args:
        memory: Knows which names are proven.
        policies: Knows which names are listed exactly in ALLOWED_SENDERS.
    """

    def __init__(self, memory: ReplayStore, policies: PolicySource) -> None:
        self._memory = memory
        self._policies = policies

    def is_trusted(self, sender: IdentityName) -> bool:
        """Return whether a name is proven or is listed exactly in ALLOWED_SENDERS.

        Args:
            sender: A name from a message; it need not be verified.

        Raises:
            StoreError: The store cannot be read.
        """
        if self._policies.current().lists.names_exactly(sender):
            return True
        standing = self._memory.standing(str(sender))
        return standing is not None and standing.is_proven

    def is_surely_trusted(self, sender: IdentityName) -> bool:
        """Return whether a name is trusted; False if the store cannot be read.

        Args:
            sender: A name from a message; it need not be verified.
        """
        try:
            return self.is_trusted(sender)
        except StoreError:
            return False


@dataclass(frozen=True, slots=True)
class Context:
    """What the stages of the receiver share.

    Args:
        settings: The settings from the environment.
        memory: Which messages were printed, and which names are proven.
        waiting_store: The deferred messages.
        printing: Which messages this receiver may print.
        policies: Whose messages are accepted.
        standings: Which names are trusted.
        discovery: Finds senders' keys.
        timekeeper: Knows how far the clock can be trusted.
        stopping: Set to stop the receiver.
    """

    settings: Settings
    memory: ReplayStore
    waiting_store: WaitingStore
    printing: PrintingStore
    policies: PolicySource
    standings: Standings
    discovery: Discovery
    timekeeper: TimeSource
    stopping: threading.Event
    guard: ReplayGuard = field(init=False)
    counters: Counters = field(default_factory=Counters)
    movements: Movements = field(default_factory=Movements)
    refusals: Refusals = field(init=False)
    writes: DurableWrites = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "guard", ReplayGuard(self.printing))
        object.__setattr__(self, "refusals", Refusals(self.counters))
        object.__setattr__(self, "writes", DurableWrites(self.stopping, self.movements.note))

    def is_trusted(self, sender: IdentityName) -> bool:
        """Return whether a name is trusted, as `Standings.is_trusted` does; wait while the store cannot be read.

        Args:
            sender: A name from a message; it need not be verified.
        """
        return self.writes.retry(lambda: self.standings.is_trusted(sender))
