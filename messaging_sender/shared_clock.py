"""The clock of a resident sender whose outbox is in a database: messages expire by the database's clock."""

import contextlib
import time
from typing import Final

from idlib.database_time import DatabaseTimekeeper
from idlib.errors import StoreError
from idlib.storage.postgresql.clock import DatabaseClock
from idlib.timekeeping import MAX_DIVERGENCE_SECONDS
from idlib.trust import Moment
from messaging_sender.sender_clock import DeliveryClock

_REFRESH_SECONDS: Final = 60.0


class SharedClock:
    """The database's clock, which all senders share, and this device's clock, with which messages are sealed.

    Args:
        local: This device's clock.
    """

    def __init__(self, local: DeliveryClock) -> None:
        self._local = local
        self._source: DatabaseTimekeeper | None = None
        self._refresh_at = 0.0

    def follow(self, clock: DatabaseClock) -> None:
        """Use the database's clock from now on.

        Args:
            clock: The database's clock.

        Raises:
            ClockError: It shows a time before this software was made.
            StoreError: The database cannot be used.
        """
        self._source = DatabaseTimekeeper(clock)
        self._refresh_at = time.monotonic() + _REFRESH_SECONDS

    def keep(self) -> None:
        """Bring what is known about both clocks up to date; called several times a second."""
        self._local.keep()
        if self._source is None or time.monotonic() < self._refresh_at:
            return
        self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        # Whoever looks for messages finds that the database is away, and reports it.
        with contextlib.suppress(StoreError):
            self._source.refresh()

    def trusted_moment(self) -> Moment | None:
        """Return what the database's clock shows; None if that is not known yet, or if it has jumped."""
        return None if self._source is None else self._source.record()

    @property
    def may_seal(self) -> bool:
        """Whether messages may be sealed: nothing shows that this device's clock is wrong, nor does the database's."""
        if self._source is None:
            return False
        return abs(time.time() - self._source.moment().now) <= MAX_DIVERGENCE_SECONDS and self._local.may_seal
