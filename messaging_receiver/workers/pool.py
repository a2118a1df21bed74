"""Hands batches of messages to worker processes, and replaces a worker that ends or does not answer.

The batch of such a worker is repeated. If it ends a second worker, its messages are repeated one at a time, and a
message that ends two more workers by itself is refused: whatever is retried must come to an end.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from idlib.system.failure_log import FailureLog
from idlib.system.log_limit import LimitedLog
from messaging_receiver.bounded_queue import BATCH_MESSAGES
from messaging_receiver.opening import Outcome
from messaging_receiver.workers.frames import Channel, LostPeer
from messaging_receiver.workers.process import MAX_SENDERS
from messaging_receiver.workers.protocol import Batch, SenderKeys, read_outcomes, write_batch
from messaging_receiver.workers.spawner import WorkerProcess

_LOG = logging.getLogger(__name__)

# How long a worker may take for a batch: so long, and a second more for each 100000 bytes.
BATCH_SECONDS: Final = 20.0
BYTES_PER_SECOND: Final = 100_000
START_AGAIN_SECONDS: Final = 1.0
MAX_ENDED: Final = 2
_SHOWN_CHARACTERS: Final = 16


class Starter(Protocol):
    """Starts worker processes."""

    def start(self) -> WorkerProcess:
        """Start a worker process.

        Raises:
            OSError: The system has no resources for another process.
        """


class KnownSenders:
    """The keys of senders whose messages were verified, for the workers; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = 0
        # In the order in which they were learned.
        self._known: OrderedDict[str, tuple[int, SenderKeys]] = OrderedDict()

    def learn(self, sender: IdentityName, keys: tuple[bytes, ...]) -> None:
        """Note the keys of a sender.

        Args:
            sender: The sender's name.
            keys: Each key as a SubjectPublicKeyInfo.
        """
        with self._lock:
            known = self._known.get(sender.text)
            if known is not None and known[1].keys == keys:
                return
            self._newest += 1
            self._known[sender.text] = self._newest, SenderKeys(sender.text, keys)
            self._known.move_to_end(sender.text)
            if len(self._known) > MAX_SENDERS:
                self._known.popitem(last=False)

    def since(self, number: int) -> tuple[int, tuple[SenderKeys, ...]]:
        """Return the number of the newest entry, and the entries after the one with a given number, oldest first.

        Args:
            number: The number of an entry; 0 for all.
        """
        with self._lock:
            if number == self._newest:
                return number, ()
            news = []
            for position, known in reversed(self._known.values()):
                if position <= number:
                    break
                news.append(known)
            return self._newest, tuple(reversed(news))


class WorkerPool:
    """What the Decryption threads share about their worker processes.

    Args:
        starter: Starts worker processes.
        number: How many there are.
        fingerprints: Returns the fingerprints of the device's private keys to try, in this order.
        stopping: Set to stop the receiver.
        note_movement: Called while a thread waits for a worker process, because it is not stuck then.
        epochs: Returns the ids of the device's living epoch keys.
    """

    def __init__(
        self,
        starter: Starter,
        number: int,
        fingerprints: Callable[[], tuple[bytes, ...]],
        stopping: threading.Event,
        note_movement: Callable[[], None],
        epochs: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.starter = starter
        self.fingerprints = fingerprints
        self.epochs = epochs
        self.stopping = stopping
        self.note_movement = note_movement
        self.senders = KnownSenders()
        self.openers = tuple(WorkerOpener(self) for _ in range(number))
        self._lock = threading.Lock()
        self._replaced = 0
        self._log = LimitedLog(_LOG)
        self._outage = FailureLog(_LOG)

    def members(self) -> dict[str, int]:
        """Return how many workers run, and how many were replaced, under their names in the status line."""
        running = sum(opener.is_running for opener in self.openers)
        return {"workers": running, "workers_replaced": self._replaced}

    @property
    def problem(self) -> str | None:
        """Why a worker process cannot be started, or None."""
        return self._outage.cause

    def start(self) -> WorkerProcess | None:
        """Start a worker process; if the system has no resources for it, retry. Return None if the receiver stops.

        Raises:
            SpawnerError: No worker process can be started any more.
        """
        while not self.stopping.is_set():
            self.note_movement()
            try:
                process = self.starter.start()
            except OSError as error:
                self._outage.begin(f"No worker process can be started: {error.strerror}")
                self.stopping.wait(START_AGAIN_SECONDS)
            else:
                self._outage.end()
                return process
        return None

    def note_end(self, how: str) -> None:
        """Count and log the end of a worker process that is going to be replaced.

        Args:
            how: How it ended.
        """
        with self._lock:
            self._replaced += 1
        if not self.stopping.is_set():
            self._log.write(logging.WARNING, "worker", "A worker process is replaced: %s", how)

    def flush_log(self) -> None:
        """Log lines that were held back, as far as the rate allows."""
        self._log.flush()


class WorkerOpener:
    """Opens batches in a worker process of its own.

    Args:
        pool: What it shares with the others.
    """

    most: Final = BATCH_MESSAGES

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._process: WorkerProcess | None = None
        self._fingerprints: tuple[bytes, ...] = ()
        self._epochs: tuple[str, ...] = ()
        self._newest_sender = 0
        self._payloads: tuple[bytes, ...] = ()
        self._failure: LostPeer | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has a worker process."""
        return self._process is not None

    def refresh(self) -> None:
        """Replace the worker if it has ended, and have it follow a change of the device's keys."""
        if self._process is not None and not self._process.channel.is_open:
            self._discard(LostPeer())
        has_changed = (self._fingerprints, self._epochs) != (self._pool.fingerprints(), self._pool.epochs())
        if self._process is None or has_changed:
            self._attempt(())

    def begin(self, payloads: Sequence[bytes]) -> None:
        """Send a batch to the worker.

        Args:
            payloads: One or more payloads.
        """
        self._payloads = tuple(payloads)
        self._failure = None
        channel = self._channel()
        if channel is not None:
            try:
                self._send(channel, self._payloads)
            except LostPeer as lost:
                self._failure = lost

    def finish(self) -> Sequence[Outcome] | None:
        """Return the outcome of each message; None if the receiver stops."""
        payloads = self._payloads
        if self._process is None:
            return None
        try:
            if self._failure is not None:
                raise self._failure
            return self._receive(self._process.channel, payloads)
        except LostPeer as lost:
            self._discard(lost)
        return self._repeat(payloads, 1)

    def _repeat(self, payloads: tuple[bytes, ...], failures: int) -> list[Outcome] | None:
        """Repeat a batch that has ended workers."""
        for _ in range(failures, MAX_ENDED):
            outcomes = self._attempt(payloads)
            if outcomes is not None or self._pool.stopping.is_set():
                return outcomes
        if len(payloads) == 1:
            return [_refusal_of(payloads[0])]
        outcomes = []
        for payload in payloads:
            outcome = self._repeat((payload,), 0)
            if outcome is None:
                return None
            outcomes += outcome
        return outcomes

    def _attempt(self, payloads: tuple[bytes, ...]) -> list[Outcome] | None:
        """Return the outcomes of a batch; None if the worker has ended or the receiver stops."""
        channel = self._channel()
        if channel is None:
            return None
        try:
            self._send(channel, payloads)
            return self._receive(channel, payloads)
        except LostPeer as lost:
            self._discard(lost)
            return None

    def _channel(self) -> Channel | None:
        if self._process is None:
            self._process = self._pool.start()
            self._newest_sender = 0
        return None if self._process is None else self._process.channel

    def _send(self, channel: Channel, payloads: tuple[bytes, ...]) -> None:
        self._fingerprints, self._epochs = self._pool.fingerprints(), self._pool.epochs()
        newest, senders = self._pool.senders.since(self._newest_sender)
        self._newest_sender = newest
        batch = Batch(self._fingerprints, senders, payloads, self._epochs)
        channel.send(write_batch(batch), _seconds_for(payloads))

    def _receive(self, channel: Channel, payloads: tuple[bytes, ...]) -> list[Outcome]:
        self._pool.note_movement()
        try:
            outcomes = read_outcomes(channel.receive(_seconds_for(payloads)))
        except ValueError as error:
            raise LostPeer from error
        if len(outcomes) != len(payloads):
            raise LostPeer
        return outcomes

    def _discard(self, lost: LostPeer) -> None:
        process, self._process = self._process, None
        if process is not None:
            how = process.end()
            self._pool.note_end("it did not answer in time" if lost.is_late else how)


def _seconds_for(payloads: Sequence[bytes]) -> float:
    return BATCH_SECONDS + sum(map(len, payloads)) / BYTES_PER_SECOND


def _refusal_of(payload: bytes) -> Refusal:
    digest = hashlib.sha256(payload).hexdigest()[:_SHOWN_CHARACTERS]
    fact = (
        f"the message of {len(payload)} bytes with the SHA-256 digest {digest}… ends each worker process that opens it"
    )
    return Refusal(Reason.INTERNAL_ERROR, fact)
