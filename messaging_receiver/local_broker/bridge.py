"""The bridge to the local broker: what the receiver needs of it, in both directions."""

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from idlib.errors import StoreError
from idlib.local_broker.place import LocalBroker
from idlib.settings import Switch
from idlib.storage import ReplayStore
from idlib.storage.outboxes import is_watched, open_outbox
from idlib.transport import Broker, new_client_id
from messaging_receiver.context import Context
from messaging_receiver.counters import Counts
from messaging_receiver.local_broker.connection import LocalConnection, Taken
from messaging_receiver.local_broker.outgoing import Outgoing

if TYPE_CHECKING:
    from messaging_receiver.local_broker.home_assistant_removal import Removal
    from messaging_receiver.local_broker.home_assistant_service import HomeAssistant

# Written while HOME_ASSISTANT is on.
HOME_ASSISTANT_FILE: Final = "home_assistant.json"
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
            partial(open_outbox, context.settings),
            partial(is_watched, context.settings),
            place.topics,
            context.settings.max_message_size,
            self.connection.acknowledge,
            self.connection.is_sent_again,
            lambda report: self.connection.publish(place.topics.errors, report),
            context.movements.note,
        )
        self.home_assistant = _home_assistant(self.connection, place, context)
        self._removal = None if self.home_assistant is not None else _removal(self.connection, context)
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
        threads: dict[str, Callable[[], None]] = {
            "Local-Broker": lambda: self.connection.run(self._disconnecting),
            "Local-Outgoing": lambda: self.outgoing.run(self._stopping),
        }
        home_assistant = self.home_assistant
        if home_assistant is not None:
            threads["Home-Assistant"] = lambda: home_assistant.run(self._stopping)
        return threads

    def show(
        self, problem: Callable[[], str | None], number_waiting: Callable[[], int], counts: Callable[[], Counts]
    ) -> None:
        """Let Home Assistant show the state of the receiver, which has started now.

        Args:
            problem: Returns what is wrong, or None.
            number_waiting: Returns how many messages are deferred.
            counts: Returns how many messages were refused.
        """
        if self.home_assistant is not None:
            self.home_assistant.show(problem, number_waiting, lambda: sum(counts().refused.values()))

    def disconnect(self) -> None:
        """Let its connection end, once everything that was to be published is."""
        if self._removal is not None:
            self._removal.finish()
        self._disconnecting.set()
        self.connection.wake()
        self.outgoing.wake()

    def _take(self, taken: Taken) -> None:
        self.outgoing.take(taken)


def _home_assistant(connection: LocalConnection, place: LocalBroker, context: Context) -> "HomeAssistant | None":
    settings = context.settings
    if settings.home_assistant is not Switch.ON:
        return None
    # Only those who use Home Assistant need it in memory.
    from messaging_receiver.local_broker.home_assistant_note import AnnouncementNote
    from messaging_receiver.local_broker.home_assistant_service import HomeAssistant

    return HomeAssistant(
        connection,
        settings.identity_name,
        place.topics,
        settings.home_assistant_prefix,
        lambda: context.policies.current().lists,
        AnnouncementNote(settings.data_path / HOME_ASSISTANT_FILE),
    )


def _removal(connection: LocalConnection, context: Context) -> "Removal | None":
    path = context.settings.data_path / HOME_ASSISTANT_FILE
    if not path.exists():
        return None
    # Only those who have used Home Assistant need it in memory.
    from messaging_receiver.local_broker.home_assistant_note import AnnouncementNote
    from messaging_receiver.local_broker.home_assistant_removal import Removal

    return Removal(connection, AnnouncementNote(path))


def _kept_client_id(memory: ReplayStore, place: LocalBroker) -> str:
    """Return the client id of the session; with other topics it is another, because the session has subscriptions."""
    name = f"{_CLIENT_ID} {place.topics.prefix}"
    try:
        return memory.fact(name, new_client_id())
    except StoreError as error:
        raise StoreError(f"the client id at the local broker cannot be kept: {error.fact}", error.hint) from error
