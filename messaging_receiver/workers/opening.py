"""Starts the process that starts worker processes, if the receiver is to have some."""

import contextlib
import gc
import logging
from collections.abc import Iterator

from idlib.settings import Settings
from messaging_receiver.workers.process import work_for
from messaging_receiver.workers.spawner import Spawner

_LOG = logging.getLogger("messaging_receiver")


@contextlib.contextmanager
def open_spawner(settings: Settings, number: int) -> Iterator[Spawner | None]:
    """Yield what starts worker processes; None if the receiver opens the messages itself.

    Args:
        settings: The settings from the environment.
        number: How many workers there are to be.
    """
    spawner = None
    if number:
        # The garbage collector writes to each object that it looks at, and the workers would then have copies of all.
        gc.collect()
        gc.freeze()
        try:
            spawner = Spawner(work_for(settings.crypto_path, settings.epoch_directory, settings.identity_name))
        except OSError as error:
            _LOG.warning("Messages are opened without worker processes: %s", error.strerror)
    try:
        yield spawner
    finally:
        if spawner is not None:
            spawner.close()
