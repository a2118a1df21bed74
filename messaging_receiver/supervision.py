"""What a receiver does beside its stages: status lines, upkeep of the store, and the answer to `--health`."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from idlib.errors import DatabaseError, IdlibError, StoreError
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import keep_clock
from idlib.transport import Subscription
from messaging_receiver.authentication_stage import AuthenticationStage
from messaging_receiver.context import Context
from messaging_receiver.counters import pairs
from messaging_receiver.ending import Ending
from messaging_receiver.own_epochs import NONE, OwnEpochs
from messaging_receiver.own_identity import OwnKeys
from messaging_receiver.own_record import OwnRecord
from messaging_receiver.service_notices import Notices
from messaging_receiver.sinks import Sink
from messaging_receiver.workers.pool import WorkerPool

if TYPE_CHECKING:
    from messaging_receiver.group.membership import Membership

_LOG = logging.getLogger("messaging_receiver")

STATUS_SECONDS: Final = 60.0
_STILL_SECONDS: Final = 30.0
_KEY_SECONDS: Final = 3.0
_UPKEEP_SECONDS: Final = 10.0
# At most this much of every ten seconds, so that nothing else in this thread waits for long.
_TIDYING_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.001
RECORD_SECONDS: Final = 60.0


class Supervision:
    """Watches the receiver's threads and keeps its store small.

    Args:
        context: What the stages share.
        authentication: Knows how many messages wait.
        sink: Delivers the messages.
        ending: Told if the sink can deliver no more.
        subscription: The session at the broker.
        threads: The threads that must not end by themselves.
        own_keys: Our private keys.
        own_record: Looks up our own record in DNS.
        queue_sizes: Returns how many messages each queue holds.
        workers: The worker processes; None if there are none.
        epochs: Our epoch keys.
        notices: Tells the service manager; None if no one is told.
        membership: The lease of this receiver; None if it shares its stores with no other.
    """

    def __init__(
        self,
        context: Context,
        authentication: AuthenticationStage,
        sink: Sink,
        ending: Ending,
        subscription: Subscription,
        threads: Sequence[threading.Thread],
        own_keys: OwnKeys,
        own_record: OwnRecord,
        queue_sizes: Callable[[], Mapping[str, int]],
        workers: WorkerPool | None = None,
        epochs: OwnEpochs = NONE,
        notices: Notices | None = None,
        membership: "Membership | None" = None,
    ) -> None:
        self._context = context
        self._authentication = authentication
        self._sink = sink
        self._ending = ending
        self._subscription = subscription
        self._threads = threads
        self._own_keys = own_keys
        self._own_record = own_record
        self._is_clock_right = False
        self._queue_sizes = queue_sizes
        self._workers = workers
        self._epochs = epochs
        self._notices = notices
        self._membership = membership
        self._upkeep_outage = FailureLog(_LOG)

    def run(self) -> bool:
        """Run until the receiver is stopped or a thread ends by itself; return whether a thread ended by itself."""
        next_status = next_upkeep = time.monotonic()
        next_look = next_status + _KEY_SECONDS
        while not self._context.stopping.wait(1.0):
            now = time.monotonic()
            self._context.refusals.flush()
            self._check_sink()
            self._keep(self._context.memory.copy_log)
            if self._workers is not None:
                self._workers.flush_log()
            if now >= next_status:
                next_status = now + STATUS_SECONDS
                members = self.status_members()
                _LOG.info("%s", f"status {pairs(members)}", extra={"members": members})
            if now >= next_look:
                next_look = now + _KEY_SECONDS
                self._keep(self._own_keys.refresh)
            if now >= next_upkeep:
                next_upkeep = now + _UPKEEP_SECONDS
                self._keep(self._keep_store)
            if not all(thread.is_alive() for thread in self._threads):
                # If a signal has come in between, the threads have ended because of it.
                return not self._context.stopping.is_set()
            if self._notices is not None:
                self._notices.beat(is_moving=self._still() is None, is_subscribed=self._subscription.is_active)
        return False

    def watch_record(self) -> None:
        """Look up our own records once a minute until the receiver is stopped, and note which keys have a record."""
        while not self._context.stopping.wait(RECORD_SECONDS):
            found = self._own_record.look(self._own_keys.present)
            if found is not None and self._is_clock_right:
                self._keep(functools.partial(self._own_keys.note_records, found))
            self._epochs.look(self._context.discovery)

    def status_members(self) -> dict[str, str | int]:
        """Return what the status line has, in its order."""
        return {
            "subscribed": "yes" if self._subscription.is_active else "no",
            **self._queue_sizes(),
            **{thread.name: "alive" if thread.is_alive() else "dead" for thread in self._threads},
            **({} if self._membership is None else self._membership.members()),
            **({"workers": 0} if self._workers is None else self._workers.members()),
            "waiting": self._authentication.number_waiting,
            **self._context.counters.read().members(),
        }

    @property
    def is_subscribed(self) -> bool:
        """Whether the receiver is connected and subscribed."""
        return self._subscription.is_active

    def problem(self) -> str | None:
        """Return what is wrong with the receiver, or None; look our own record up if it may be that."""
        earlier = self._problem_of_threads() or self._problem_of_session()
        if earlier is None:
            self._own_record.look(self._own_keys.present)
        return earlier or self._problem_of_record()

    def last_problem(self) -> str | None:
        """Return what is wrong with the receiver, or None, by the last look-up of our own record."""
        return self._problem_of_threads() or self._problem_of_session() or self._problem_of_record()

    def _problem_of_threads(self) -> str | None:
        for thread in self._threads:
            if not thread.is_alive():
                return f"thread {thread.name} is dead"
        if self._sink.problem is not None:
            return self._sink.problem
        if self._workers is not None and self._workers.problem is not None:
            return f"workers: {self._workers.problem}"
        if self._context.writes.problem is not None:
            return self._context.writes.problem
        if self._membership is not None and self._membership.problem is not None:
            return self._membership.problem
        if self._upkeep_outage.cause is not None:
            return f"disk: {self._upkeep_outage.cause}"
        still = self._still()
        if still is not None:
            return f"thread {still[0]} has not moved for {still[1]:.0f} s"
        return None

    def _still(self) -> tuple[str, float] | None:
        """Return a thread that does not move, and for how many seconds it has not; None if all do."""
        stillest = self._context.movements.stillest()
        return stillest if stillest is not None and stillest[1] > _STILL_SECONDS else None

    def _problem_of_session(self) -> str | None:
        if self._subscription.problem is not None:
            return f"not subscribed: {self._subscription.problem}"
        if self._subscription.stalled_reason is not None:
            return f"connected without progress: {self._subscription.stalled_reason}"
        if self._authentication.holds_back:
            return "DNS is not answering, and no more messages can be deferred: they stay at the broker"
        return None

    def _problem_of_record(self) -> str | None:
        return self._own_record.problem or self._epochs.problem

    def _check_sink(self) -> None:
        try:
            self._sink.check()
        except IdlibError as error:
            self._ending.fail(error)

    def _keep(self, upkeep: Callable[[], None]) -> None:
        """Run upkeep that uses the store; if it fails, it runs again next time."""
        try:
            upkeep()
        except DatabaseError as error:
            self._context.writes.note_failure(error)
        except StoreError as error:
            self._upkeep_outage.begin(str(error))

    def _keep_store(self) -> None:
        """Record the time and remove expired entries, unless the clock may be wrong."""
        moment = keep_clock(self._context.timekeeper, self._context.settings.data_path)
        self._is_clock_right = moment is not None
        self._context.waiting_store.wipe()
        if moment is not None:
            self._tidy(int(moment.now))
        self._upkeep_outage.end()

    def _tidy(self, now: int) -> None:
        """Remove entries that are expired or exceed a limit, in portions, so that other threads can use the store."""
        end = time.monotonic() + _TIDYING_SECONDS
        is_done = False
        while not is_done and time.monotonic() < end and not self._context.stopping.is_set():
            tidied = self._context.memory.tidy(now)
            if tidied.forgotten_unbound_early:
                _LOG.warning(
                    "Too many unbound messages are remembered: %d were forgotten early, and copies of them would be"
                    " printed again",
                    tidied.forgotten_unbound_early,
                )
            names = (*tidied.raised, *(("all unproven names",) if tidied.pool_raised else ()))
            for name in names:
                _LOG.debug(
                    "Replay memory full for %s: messages as old as its forgotten ones are refused from now on", name
                )
            is_done = not tidied.more
            # The store's lock is not fair: without a pause, other threads might not get it.
            time.sleep(_PAUSE_SECONDS)
