"""Where the resident sender finds the outbox, and how it notices that there are messages in it."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from idlib.errors import quoted
from idlib.settings import Settings
from idlib.storage.outbox import FILE_NAME, Outbox, is_to_be_opened, state_of_files
from idlib.storage.queued import DeliveryStore
from messaging_sender.sender_clock import DeliveryClock

if TYPE_CHECKING:
    from idlib.storage.postgresql.delivery import PostgresDelivery
    from messaging_sender.shared_clock import SharedClock

LOOK_SECONDS: Final = 1.0


class OutboxPlace(Protocol):
    """Where the outbox is. For one thread."""

    @property
    def description(self) -> str:
        """Where it is, for the log."""

    def is_known_to_be_empty(self) -> bool:
        """Return whether the outbox need not be opened yet; cheap enough to call every second."""

    def opened(self) -> contextlib.AbstractContextManager[DeliveryStore]:
        """Return the open outbox, for one use.

        Raises:
            IdlibError: It cannot be opened.
        """

    def note_emptied(self) -> None:
        """Note that the outbox was empty at some time after the last call of `is_known_to_be_empty`."""

    def clock(self, local: DeliveryClock) -> DeliveryClock:
        """Return the clock by which messages expire.

        Args:
            local: This device's clock.
        """

    def close(self) -> None:
        """Close the outbox."""


def outbox_place(settings: Settings) -> OutboxPlace:
    """Return the place of the outbox.

    Args:
        settings: STORE, STORE_PASSWORD_FILE and DATA_PATH are used.
    """
    return _File(settings) if settings.store is None else _Database(settings)


class _File:
    """The outbox is a file in DATA_PATH, opened only while there are messages in it."""

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.data_path
        self._state: object = None
        self._emptied: object = None
        self.description = quoted(settings.data_path / FILE_NAME)

    def is_known_to_be_empty(self) -> bool:
        # Taken before the outbox is read, so that a message queued in the meantime is found next time.
        self._state = state_of_files(self._directory)
        return self._state == self._emptied or not is_to_be_opened(self._directory)

    def opened(self) -> Outbox:
        return Outbox(self._directory)

    def note_emptied(self) -> None:
        self._emptied = self._state

    @staticmethod
    def clock(local: DeliveryClock) -> DeliveryClock:
        return local

    def close(self) -> None:
        """Do nothing: the file is closed after each use."""


class _Database:
    """The outbox is in the database in STORE, and stays open until the program ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outbox: PostgresDelivery | None = None
        self._clock: SharedClock | None = None
        self._look_at = time.monotonic()
        self.description = f"in the database {settings.store}"

    def is_known_to_be_empty(self) -> bool:
        return time.monotonic() < self._look_at

    @contextlib.contextmanager
    def opened(self) -> Iterator[DeliveryStore]:
        if self._outbox is None:
            # Imported late, because most devices have no database.
            from idlib.storage.postgresql.delivery import PostgresDelivery

            outbox = PostgresDelivery.from_settings(self._settings)
            try:
                if self._clock is not None:
                    self._clock.follow(outbox.clock)
            except BaseException:
                outbox.close()
                raise
            self._outbox = outbox
        yield self._outbox

    def note_emptied(self) -> None:
        self._look_at = time.monotonic() + LOOK_SECONDS

    def clock(self, local: DeliveryClock) -> DeliveryClock:
        # Imported late, because most devices have no database.
        from messaging_sender.shared_clock import SharedClock

        self._clock = SharedClock(local)
        return self._clock

    def close(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
