"""Receivers of a group, as far as the deferred messages in their database are concerned."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from idlib.settings.store_urls import read_store_url
from idlib.storage import Abandoned, WaitingLimits
from idlib.storage.postgresql.connection import PostgresDatabase, Statements, UnknownOutcomeError
from idlib.storage.postgresql.leases import Leases
from idlib.storage.postgresql.waiting import PostgresWaiting
from messaging_receiver.deferral import LIMITS_OF_A_GROUP
from tests.integration.group_database import taken_leases


class LosingDatabase(PostgresDatabase):
    """Loses the answer to a commit if that is wanted."""

    loses_answer = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Statements]:
        with super().transaction() as statements:
            yield statements
        if self.loses_answer:
            self.loses_answer = False
            raise UnknownOutcomeError("the answer is lost")


@dataclass
class Receiver:
    """A receiver of the group, as far as its deferred messages are concerned."""

    database: LosingDatabase
    leases: Leases
    limits: WaitingLimits
    waiting: PostgresWaiting = field(init=False)
    passed: float = 0.0

    def __post_init__(self) -> None:
        self.waiting = PostgresWaiting(self.database, self.leases.holder, self.limits, lambda: self.passed)

    def adopt(self) -> list[int]:
        """Adopt everything, and return the numbers."""
        adopted: list[int] = []
        while entries := self.waiting.adopt(everyone):
            adopted += [one.number for one in entries]
        return adopted


def everyone(senders: Sequence[Abandoned]) -> Collection[str]:
    return [one.sender for one in senders]


@contextlib.contextmanager
def group(url: str, limits: WaitingLimits = LIMITS_OF_A_GROUP) -> Iterator[Callable[[], Receiver]]:
    """Yield what starts another receiver with an empty database."""
    with contextlib.ExitStack() as stack:

        def start() -> Receiver:
            database = stack.enter_context(LosingDatabase(read_store_url(url)))
            return Receiver(database, taken_leases(database), limits)

        with start().database.transaction() as statements:
            statements.execute("TRUNCATE receiver, waiting, waiting_sender")
        yield start
