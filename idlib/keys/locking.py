"""Lets only one process at a time write key files, and not during an update of balena."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from idlib.errors import KeyFileError, quoted
from idlib.keys.faults import os_errors_reported
from idlib.keys.writing import remove_unfinished
from idlib.system import file_lock, update_lock


@contextmanager
def locked(directory: Path, timeout: float = 10.0) -> Iterator[None]:
    """Lock the key files against other writing processes and hold off balena's updates; do not nest calls.

    Unfinished files of a killed process are removed.

    Args:
        directory: The directory of the key files.
        timeout: How many seconds to wait if another process has the lock.

    Raises:
        KeyFileError: There is no such directory, or another process has the lock.
    """
    with ExitStack() as stack:
        with os_errors_reported("open", directory, directory):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            try:
                file_lock.lock(descriptor, timeout)
            except TimeoutError as error:
                raise KeyFileError(
                    f"another program is writing keys in {quoted(directory)}", "try again when it has finished"
                ) from error
            remove_unfinished(directory)
        stack.enter_context(update_lock.held(update_lock.PATH))
        yield
