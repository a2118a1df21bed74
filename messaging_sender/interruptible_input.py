"""Reads input that the user may still be typing, and calls a function while it waits."""

import io
import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from idlib.errors import MessageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_POLL_MILLISECONDS: Final = 50


class InterruptibleInput(io.RawIOBase):
    """A file, a pipe or a terminal, read as soon as data arrives.

    Args:
        descriptor: The file descriptor.
        meanwhile: Called repeatedly while no data arrives; an exception from it ends the reading.
    """

    def __init__(self, descriptor: int, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._meanwhile = meanwhile
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Wait for data and read it; return the number of bytes, 0 at the end.

        Args:
            buffer: Receives the data.

        Raises:
            MessageError: The input cannot be read.
        """
        while not self._poll.poll(_POLL_MILLISECONDS):
            self._meanwhile()
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise MessageError(f"the lines cannot be read: {error.strerror}") from error
