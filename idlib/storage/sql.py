"""What the statements of the replay memory need of an engine: SQL with `?` for parameters, in a transaction."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """The rows that a statement returned."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""


class Transaction(Protocol):
    """Runs statements in a transaction."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        """Run a statement and return its rows.

        Args:
            statement: In SQL that every engine understands.
            values: The parameters.
        """
