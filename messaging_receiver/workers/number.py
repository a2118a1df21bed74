"""How many worker processes the receiver starts."""

from typing import Final

from idlib.settings import MAX_RECEIVER_WORKERS, Settings
from idlib.system.resources import memory_limit, usable_cores

# What the receiver itself needs beside workers, even while strangers flood it with large messages.
RECEIVER_BYTES: Final = 128 * 1024 * 1024
WORKER_BYTES: Final = 16 * 1024 * 1024
MAX_AUTOMATIC: Final = 4


def number_of_workers(settings: Settings) -> int:
    """Return how many worker processes to start.

    Args:
        settings: The settings from the environment.
    """
    if settings.receiver_workers is not None:
        return settings.receiver_workers
    return automatic_number(usable_cores(), memory_limit())


def automatic_number(cores: int, memory: int | None) -> int:
    """Return how many worker processes suit a system.

    Args:
        cores: How many processor cores the receiver may use.
        memory: How many bytes of memory it may use; None if it has no limit of its own.
    """
    number = min(cores, MAX_AUTOMATIC, MAX_RECEIVER_WORKERS)
    if memory is not None:
        number = min(number, max(0, memory - RECEIVER_BYTES) // WORKER_BYTES)
    return number
