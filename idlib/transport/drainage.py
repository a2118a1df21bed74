"""Empties a session: ends its subscription, and waits until the broker has no more messages in it."""

import time
from collections.abc import Sequence

from idlib.transport.arrivals import Arrivals
from idlib.transport.client import PacketClient
from idlib.transport.publication import FIRST_FAILURE


class Drainage:
    """Unsubscribes, and finds out when the broker has nothing more in the session.

    A broker answers the packets of a connection in turn, and sends what it has queued as soon as it may. So a session
    is empty if all its messages are acknowledged, and the broker has sent none before it answers another UNSUBSCRIBE.
    It is given some seconds more, because servers of a cluster may still have messages for one another.

    Args:
        client: The connection that continues the session.
        topic_filters: What the session has subscribed to, and then what it may have subscribed to.
        arrivals: The messages of the connection.
        quiet_seconds: For how many seconds the session has to be quiet.
    """

    def __init__(
        self, client: PacketClient, topic_filters: Sequence[str], arrivals: Arrivals, quiet_seconds: float
    ) -> None:
        self._client = client
        self._topic_filters = list(topic_filters)
        self._arrivals = arrivals
        self._quiet_seconds = quiet_seconds
        self._asked_at = 0.0
        self._is_answered = False
        self.refusal: int | None = None
        self._ask()

    @property
    def is_answered(self) -> bool:
        """Whether the broker has answered the last UNSUBSCRIBE."""
        return self._is_answered

    def note_answer(self, codes: tuple[int, ...]) -> None:
        """Note that the broker has answered.

        Args:
            codes: The reason codes of its UNSUBACK, of which the first counts; "no subscription existed" is not a
                failure.
        """
        self._is_answered = True
        if codes and codes[0] >= FIRST_FAILURE:
            self.refusal = codes[0]

    def is_complete(self) -> bool:
        """Return whether the session is empty and can be ended; to be called again and again."""
        if not self._is_answered or not self._arrivals.is_settled or self.refusal is not None:
            return False
        if self._arrivals.moved_at >= self._asked_at:
            self._ask()
            return False
        return time.monotonic() >= self._asked_at + self._quiet_seconds

    def _ask(self) -> None:
        self._is_answered = False
        self._asked_at = time.monotonic()
        self._client.unsubscribe(self._topic_filters)
