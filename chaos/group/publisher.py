"""Publishes messages, each three times with the same bytes, and knows which the broker has acknowledged."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import Binding, seal
from idlib.names import IdentityName
from testbed.paced_client import PacedClient, Publication

_PORTION: Final = 16
_COPIES: Final = 2
# The receivers of the group keep up to 16 messages of a sender while its look-up fails.
SENDERS: Final = 400
_WINDOW: Final = 4000
_PAUSE_SECONDS: Final = 0.02
_BROKER_PAUSE_SECONDS: Final = 0.2
# A broker that is killed may have acknowledged a message after it last wrote its state to the disk.
_SAVED_SECONDS: Final = 1.0
# Copies follow at once, and when up to so many portions have been published since.
_LATEST_COPY: Final = 40


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals texts as if many senders that share a key had sent them in turn.

    Args:
        senders: Their names.
        signing_key: Their key.
        recipient: The recipient.
        encryption_key: The recipient's key.
    """

    senders: tuple[IdentityName, ...]
    signing_key: PrivateKey
    recipient: IdentityName
    encryption_key: PublicKey

    def seal(self, number: int) -> bytes:
        """Return a message, whose text is its number.

        Args:
            number: Different for each message.
        """
        return seal(
            str(number),
            sender=self.senders[number % len(self.senders)],
            signing_key=self.signing_key,
            recipient=self.recipient,
            encryption_key=self.encryption_key,
            binding=Binding.new(self.recipient, int(time.time())),
        )


@dataclass(frozen=True, slots=True)
class _Message:
    text: str
    publication: Publication


class Publisher:
    """Publishes in a thread of its own, as fast as the receivers print.

    Args:
        port: The broker's.
        topic: What the receivers subscribe to.
        sealer: Makes the messages.
        number_printed: How many different texts were printed so far.
        generator: Decides when copies follow.
        limit: How many messages to publish; None for as many as there is time for.
    """

    def __init__(
        self,
        port: int,
        topic: str,
        sealer: Sealer,
        number_printed: Callable[[], int],
        generator: random.Random,
        limit: int | None,
    ) -> None:
        self.copies = 0
        self.rejected = 0
        self._port = port
        self._topic = topic
        self._sealer = sealer
        self._number_printed = number_printed
        self._generator = generator
        self._limit = limit
        self._number = 0
        self._published: set[str] = set()
        self._acknowledged: set[str] = set()
        self._copies: deque[list[_Message]] = deque([] for _ in range(_LATEST_COPY))
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, _Message]] = deque()
        self._again: list[_Message] = []
        self._kills = 0
        self._client: PacedClient | None = None
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def acknowledged(self) -> frozenset[str]:
        """The texts whose messages the broker has acknowledged; complete after `finish`."""
        return frozenset(self._acknowledged)

    @property
    def published(self) -> frozenset[str]:
        """These, and those that the broker may have; complete after `finish`."""
        return frozenset(self._published)

    @property
    def is_running(self) -> bool:
        """Whether it still publishes."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def check(self) -> None:
        """Raise the exception that has ended the thread, if any."""
        if self._error is not None:
            raise self._error

    def publish_again_since(self, saved_at: float) -> None:
        """Publish again what the broker has acknowledged and may have lost, because it was killed.

        Args:
            saved_at: When it last wrote its state to the disk, on the monotonic clock.
        """
        with self._lock:
            self._kills += 1
            self._again += [message for at, message in self._recent if at >= saved_at - _SAVED_SECONDS]
            self._recent.clear()

    def finish(self) -> None:
        """Publish no new messages; return when the copies of the last ones were published too."""
        self._stopping.set()
        self._thread.join()
        self.check()
        # The broker may have been killed since the last message.
        self._deliver([])

    def close(self) -> None:
        """End it, whatever its state."""
        self._stopping.set()
        self._disconnect()

    def publish(self, number: int) -> None:
        """Publish more messages, without copies; after `finish`.

        Args:
            number: How many.
        """
        self._deliver([self._new_message() for _ in range(number)])

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and (self._limit is None or self._number < self._limit):
                if self._number - self._number_printed() >= _WINDOW:
                    time.sleep(_PAUSE_SECONDS)
                    continue
                portion = [self._new_message() for _ in range(_PORTION)]
                for message in portion:
                    for _ in range(_COPIES):
                        self._copies[self._generator.choice((0, self._generator.randrange(_LATEST_COPY)))].append(
                            message
                        )
                self._deliver([*portion, *self._due_copies()])
            self._deliver([message for _ in range(_LATEST_COPY) for message in self._due_copies()])
        except BaseException as error:  # noqa: BLE001  # raised by `check` in the main thread
            self._error = error

    def _new_message(self) -> _Message:
        self._number += 1
        return _Message(str(self._number), Publication(self._sealer.seal(self._number)))

    def _due_copies(self) -> list[_Message]:
        due = self._copies.popleft()
        self._copies.append([])
        self.copies += len(due)
        return due

    def _deliver(self, messages: Iterable[_Message]) -> None:
        """Publish until the broker has acknowledged everything, and was not killed meanwhile."""
        waiting = list(messages)
        self._published.update(message.text for message in waiting)
        while True:
            with self._lock:
                waiting, self._again = [*waiting, *self._again], []
                kills = self._kills
            if not waiting:
                return
            self._generator.shuffle(waiting)
            try:
                dropped = self._connected().publish_all(self._topic, [message.publication for message in waiting])
            except OSError:
                self._disconnect()
                time.sleep(_BROKER_PAUSE_SECONDS)
                continue
            # Mosquitto 2.0 forgets shared subscriptions when it ends, until the receivers subscribe again, and says of
            # each message that there is no subscriber. No sender reports such a message as sent.
            rejected = {id(publication) for publication in dropped}
            waiting = [
                *(message for message in waiting if id(message.publication) in rejected),
                *self._note([message for message in waiting if id(message.publication) not in rejected], kills),
            ]
            if rejected:
                self.rejected += len(dropped)
                time.sleep(_BROKER_PAUSE_SECONDS)

    def _note(self, messages: list[_Message], kills: int) -> list[_Message]:
        """Note that the broker has acknowledged messages, and return what is still to be published.

        Args:
            messages: The messages.
            kills: How often it had been killed before they were published.
        """
        now = time.monotonic()
        with self._lock:
            if kills != self._kills:
                return messages
            self._acknowledged.update(message.text for message in messages)
            self._recent += [(now, message) for message in messages]
            while self._recent and self._recent[0][0] < now - 2 * _SAVED_SECONDS:
                self._recent.popleft()
        return []

    def _connected(self) -> PacedClient:
        if self._client is None:
            self._client = PacedClient(self._port)
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
