"""The bridge to the local broker: what the receiver needs of it, in both directions."""

import threading
from collections.abc import Callable
from typing import Final

from idlib.errors import StoreError
from idlib.storage import ReplayStore
from idlib.transport import Broker, new_client_id
from messaging_receiver.context import Context
from messaging_receiver.local_broker.connection import LocalConnection, Taken
from messaging_receiver.local_broker.outgoing import Outgoing
from messaging_receiver.local_broker.place import LocalBroker

_CLIENT_ID: Final = "local_client_id"


class LocalBridge:
    """Both directions between this device and the local broker.

    Args:
        place: The local broker.
        public: The broker through which devices reach each other.
        context: What the stages share.

    Raises:
        StoreError: The client id of the session cannot be read.
    """

    def __init__(self, place: LocalBroker, public: Broker, context: Context) -> None:
        self.topics = place.topics
        self.connection = LocalConnection(
            place,
            public,
            _kept_client_id(context.memory, place),
            context.settings.max_message_size,
            self._take,
        )
        self.outgoing = Outgoing(
            context.settings.data_path,
            place.topics,
            context.settings.max_message_size,
            self.connection.acknowledge,
            self.connection.is_sent_again,
            lambda report: self.connection.publish(place.topics.errors, report),
            context.movements.note,
        )
        self._disconnecting = threading.Event()
        self._stopping = context.stopping
        self._number_published = 0

    @property
    def problem(self) -> str | None:
        """Why the bridge does not work at present; None if it does."""
        return self.connection.problem or self.outgoing.problem

    @property
    def number_published(self) -> int:
        """How many messages the local broker has accepted."""
        return self._number_published

    def count_published(self) -> None:
        """Count a message that the local broker has accepted."""
        self._number_published += 1

    def threads(self) -> dict[str, Callable[[], None]]:
        """Return what its threads run, by their names."""
        return {
            "Local-Broker": lambda: self.connection.run(self._disconnecting),
            "Local-Outgoing": lambda: self.outgoing.run(self._stopping),
        }

    def disconnect(self) -> None:
        """Let its connection end, once everything that was to be published is."""
        self._disconnecting.set()
        self.connection.wake()
        self.outgoing.wake()

    def _take(self, taken: Taken) -> None:
        self.outgoing.take(taken)


def _kept_client_id(memory: ReplayStore, place: LocalBroker) -> str:
    """Return the client id of the session; with other topics it is another, because the session has subscriptions."""
    name = f"{_CLIENT_ID} {place.topics.prefix}"
    try:
        return memory.fact(name, new_client_id())
    except StoreError as error:
        raise StoreError(f"the client id at the local broker cannot be kept: {error.fact}", error.hint) from error
