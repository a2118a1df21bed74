"""The receiver, which looks its own records up every second instead of every minute."""

from idlib.discovery import cache
from idlib.program.command_line import run
from messaging_receiver import start, supervision

_SECONDS = 1.0

if __name__ == "__main__":
    supervision.RECORD_SECONDS = _SECONDS  # type: ignore[misc]
    cache.SECONDS_BETWEEN_RENEWALS = _SECONDS  # type: ignore[misc]
    run(start.main)
