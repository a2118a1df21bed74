"""The resident sender, which measures the database's clock every second instead of every minute."""

from idlib.program.command_line import run
from messaging_sender import application, shared_clock

if __name__ == "__main__":
    shared_clock._REFRESH_SECONDS = 1.0  # type: ignore[misc]
    run(application.main)
