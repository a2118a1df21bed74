"""What the receivers of one name agree on before an epoch key is used: nothing if there is only one."""

import contextlib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

from idlib.epochs.halves import Halves
from idlib.epochs.schedule import Half


class Turn(Protocol):
    """The right to create keys, to write the spool, and to change the list of destroyed keys."""

    def is_agreed(self, key_id: str) -> bool:
        """Return whether every live receiver has confirmed that it can read a key.

        Args:
            key_id: The id of a key that this receiver can read.
        """

    def tidy(self, halves: Halves) -> None:
        """Note which halves were destroyed, and remove what was left by processes that were killed.

        Args:
            halves: The private halves.
        """


class EpochGroup(Protocol):
    """The receivers of the device's name. `may_appear` and the properties are for any thread, the rest for one."""

    @property
    def is_ready(self) -> bool:
        """Whether this receiver may subscribe, as far as the others are concerned."""

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""

    def elapsed(self) -> float:
        """Return for how many seconds the system, or any of the receivers, has run, whatever the clock shows."""

    def finish(self, halves: Halves) -> None:
        """Complete what a process that was killed has begun to destroy.

        Args:
            halves: The private halves.
        """

    def destroy(self, halves: Halves, half: Half) -> None:
        """Destroy a half.

        Args:
            halves: The private halves.
            half: The half.
        """

    def confirm(self, key_ids: Collection[str], destroyed: Collection[str]) -> None:
        """Confirm which keys this receiver can read, and learn which ones the others can.

        Args:
            key_ids: The ids of the living keys.
            destroyed: The ids of the keys on the list of destroyed ones.

        Raises:
            StoreError: The database cannot be used.
        """

    def turn(self) -> AbstractContextManager[Turn | None]:
        """Give the turn to this receiver until the block ends, or None if another one has it.

        Raises:
            StoreError: The database cannot be used.
        """

    def may_appear(self, halves: Halves, key_id: str) -> bool:
        """Return whether a key that is not known may be one of the device's, although its half is not read yet.

        Args:
            halves: The private halves.
            key_id: The key's id, as a message states it.
        """


class _OwnTurn:
    """The turn of the only receiver, which needs no one's consent."""

    def is_agreed(self, key_id: str) -> bool:  # noqa: ARG002  # as in the protocol
        """Return True.

        Args:
            key_id: Any id.
        """
        return True

    def tidy(self, halves: Halves) -> None:
        """Do nothing: `finish` and `destroy` have done it.

        Args:
            halves: The private halves.
        """


class SingleReceiver:
    """The group of a receiver that is the only one of its name.

    Args:
        elapsed: Returns for how many seconds the system has run.
    """

    is_ready = True
    problem = None

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed

    def elapsed(self) -> float:
        """Return for how many seconds the system has run, whatever the clock shows."""
        return self._elapsed()

    def finish(self, halves: Halves) -> None:
        """Complete what a process that was killed has begun.

        Args:
            halves: The private halves.
        """
        halves.finish()

    def destroy(self, halves: Halves, half: Half) -> None:
        """Destroy a half, and note it.

        Args:
            halves: The private halves.
            half: The half.
        """
        halves.destroy(half)

    def confirm(self, key_ids: Collection[str], destroyed: Collection[str]) -> None:
        """Do nothing: no one waits for it.

        Args:
            key_ids: The ids of the living keys.
            destroyed: The ids of the keys on the list of destroyed ones.
        """

    def turn(self) -> AbstractContextManager[Turn | None]:
        """Return the turn."""
        return contextlib.nullcontext(_OwnTurn())

    def may_appear(self, halves: Halves, key_id: str) -> bool:  # noqa: ARG002  # as in the protocol
        """Return False: no other receiver creates keys.

        Args:
            halves: The private halves.
            key_id: The key's id.
        """
        return False
