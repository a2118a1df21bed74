"""Compares what the public broker has acknowledged to senders with what has arrived at the local broker."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.delivery_report import GROUP_SIZE
from chaos.home_listener import Arrival
from chaos.reports import Promise


@dataclass(frozen=True, slots=True)
class HomeReport:
    """What was promised, compared with what the local broker has passed on to a listener.

    Args:
        promises: What must have arrived.
        arrivals: What has arrived, in order.
        published: The texts that a client of the local broker has published on `out/`.
        prefix: The first level of the topics.
        faults: How many faults could make the bridge repeat what was in transit.
    """

    promises: frozenset[Promise]
    arrivals: Sequence[Arrival]
    published: frozenset[str]
    prefix: str
    faults: int

    @property
    def lost(self) -> tuple[Promise, ...]:
        """What was promised and has never arrived on `in/`."""
        arrived = self._numbers()
        return tuple(
            sorted(
                (promise for promise in self.promises if promise.text not in arrived), key=lambda promise: promise.text
            )
        )

    @property
    def arrived(self) -> int:
        """How many different messages have arrived on `in/`."""
        return len(self._numbers())

    @property
    def repeated(self) -> int:
        """How many copies have arrived on `in/`, beyond the first of each."""
        return sum(number - 1 for number in self._numbers().values())

    @property
    def allowed(self) -> int:
        """How many copies the faults explain: what was in transit at each."""
        return GROUP_SIZE * self.faults

    @property
    def circling(self) -> tuple[str, ...]:
        """The topics of messages that only a loop explains: on `out/`, and published there by no client.

        Each fault can repeat a message once on its way out and once on its way in; more copies also show a loop.
        """
        written = [
            arrival.topic
            for arrival in self.arrivals
            if arrival.topic.startswith(f"{self.prefix}/out/")
            and arrival.payload.decode(errors="replace") not in self.published
        ]
        repeated = [text for text, number in self._numbers().items() if number > 2 * self.faults + 1]
        return (*written, *repeated)

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, and nothing was repeated without a reason."""
        return not self.lost and not self.circling and self.repeated <= self.allowed

    def _numbers(self) -> Counter[str]:
        """Return how often each text has arrived on `in/`."""
        return Counter(
            arrival.sender_and_text()[1] for arrival in self.arrivals if arrival.topic.startswith(f"{self.prefix}/in/")
        )
