"""Opens what the receivers of a name share: the stores and the lease in the database of STORE."""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from idlib.database_time import DatabaseTimekeeper
from idlib.discovery import Discovery
from idlib.errors import DatabaseError
from idlib.settings import Settings, Switch
from idlib.settings.store_settings import SHARED
from idlib.storage import ReplayStore
from idlib.storage.postgresql.claims import PostgresPrinting
from idlib.storage.postgresql.clock import DatabaseClock
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import LEASE_SECONDS, Leases, OtherReceiverError, SoleLease, new_holder
from idlib.storage.postgresql.owner import check_owner
from idlib.storage.postgresql.replay import PostgresReplay
from idlib.storage.postgresql.waiting import PostgresWaiting
from idlib.transport import Broker
from idlib.transport.connection import new_client_id_at
from idlib.trust import PolicySource
from messaging_receiver.context import Context, Standings
from messaging_receiver.deferral import LIMITS_OF_A_GROUP
from messaging_receiver.durable_writes import STORE_RETRY_SECONDS, DurableWrites
from messaging_receiver.group.membership import Membership
from messaging_receiver.own_session import OwnSession
from messaging_receiver.state import KeptSession

_LOG = logging.getLogger(__name__)

_GROUP_BYTES: Final = 16
_CONNECTING: Final = "database: waiting for the first answer"


@dataclass(frozen=True, slots=True)
class Shared:
    """What a receiver shares with others, opened.

    Args:
        context: What the stages share.
        membership: The lease of this receiver.
        session: The session to subscribe with.
    """

    context: Context
    membership: Membership
    session: OwnSession


class SharedState:
    """Opens the database of STORE, and waits until it can be used.

    Args:
        settings: The settings from the environment, with STORE.
        broker: The broker to subscribe at.
        stopping: Set to stop the receiver.

    Raises:
        ConfigurationError: The file with the password cannot be read, or the library for the database is missing.
    """

    def __init__(self, settings: Settings, broker: Broker, stopping: threading.Event) -> None:
        self._settings = settings
        self._broker = broker
        self._stopping = stopping
        self._writes = DurableWrites(stopping, lambda: None)
        self._was_away = False
        # A connection for each thread that must not wait for the others.
        self._of_leases, self._of_memory, self._of_waiting, self._of_printing = (
            PostgresDatabase.from_settings(settings) for _ in range(4)
        )
        kind = Leases if settings.receiver_group is Switch.ON else SoleLease
        self._leases = kind(self._of_leases, new_holder(), lambda: new_client_id_at(broker))

    @property
    def problem(self) -> str:
        """Why the database is not open yet, as `--health` says it."""
        return self._writes.problem or _CONNECTING

    @contextlib.contextmanager
    def open(self) -> Iterator[Shared | None]:
        """Yield what the receiver shares, or None if it is stopped while it waits for the database.

        Raises:
            StoreError: The database belongs to another name or was written by a newer version, or another receiver that
                is not of the same group uses it.
            ClockError: The database's clock is wrong.
        """
        with contextlib.ExitStack() as stack:
            for database in (self._of_leases, self._of_memory, self._of_waiting, self._of_printing):
                stack.enter_context(database)
            shared = self._wait_for(lambda: self._open(stack))
            if shared is None:
                yield None
                return
            shared.membership.start()
            try:
                yield shared
            finally:
                shared.membership.end()

    def _wait_for(self, attempt: Callable[[], Shared | None]) -> Shared | None:
        while not self._stopping.is_set():
            try:
                opened = attempt()
            except DatabaseError as error:
                self._was_away = True
                self._writes.note_failure(error)
                self._stopping.wait(STORE_RETRY_SECONDS)
            else:
                self._writes.note_database()
                return opened
        return None

    def _open(self, stack: contextlib.ExitStack) -> Shared | None:
        settings = self._settings
        timekeeper = DatabaseTimekeeper(DatabaseClock(self._of_leases))
        memory = stack.enter_context(PostgresReplay(self._of_memory))
        name = str(settings.identity_name)
        check_owner(self._of_memory, name)
        memory.fact("identity_name", name)
        # Another receiver may have noted another name at the same moment.
        check_owner(self._of_memory, name)
        leases = self._leases
        leases.prepare()
        client_id = self._take()
        if client_id is None:
            return None
        waiting = PostgresWaiting(self._of_waiting, leases.holder, LIMITS_OF_A_GROUP)
        if self._was_away:
            # The leases of receivers that run may have expired meanwhile.
            leases.note_outage()
            waiting.note_outage()
        printing = PostgresPrinting(self._of_printing, leases.holder, lambda: leases.term, lambda: leases.may_take_over)
        policies = PolicySource(settings)
        standings = Standings(memory, policies)
        discovery = Discovery.from_settings(settings, standings.is_surely_trusted)
        context = Context(
            settings, memory, waiting, printing, policies, standings, discovery, timekeeper, self._stopping
        )
        membership = Membership(leases, client_id, timekeeper, context.writes)
        return Shared(context, membership, self._session(membership, memory))

    def _session(self, membership: Membership, memory: ReplayStore) -> OwnSession:
        settings, broker = self._settings, self._broker
        topic = broker.topics.of(settings.identity_name)
        if settings.receiver_group is Switch.OFF:
            notes = membership if broker.client_id is None else KeptSession(memory, broker.client_id)
            return OwnSession(lambda: broker.client_id or membership.client_id, topic, notes)
        # At a public broker, anyone who knows the name of the group could join it and take messages away.
        group = memory.fact("group", secrets.token_hex(_GROUP_BYTES))
        topic_filter = settings.subscription or f"{SHARED}{group}/{topic}"
        if not topic_filter.startswith(SHARED):
            # Only the broker knows what is in a queue of its own.
            _LOG.info(
                "The broker must put messages to the topic %a into what SUBSCRIPTION names; this cannot be checked",
                topic,
            )
        return OwnSession(lambda: membership.held_client_id, topic_filter, membership)

    def _take(self) -> str | None:
        """Take a lease, and return its client id; None if the receiver is stopped meanwhile.

        It waits until the lease of a receiver that has died expires, and gives up if that lease is renewed.
        """
        expires_at: str | None = None
        until = time.monotonic() + 2 * LEASE_SECONDS
        while not self._stopping.is_set():
            try:
                return self._leases.take()
            except OtherReceiverError as error:
                if error.expires_at != (expires_at or error.expires_at) or time.monotonic() >= until:
                    raise
                if expires_at is None:
                    _LOG.info("Another receiver uses the database, or has died: waiting until its lease expires")
                expires_at = error.expires_at
                self._stopping.wait(STORE_RETRY_SECONDS)
        return None
