"""Notes for how long the system has run at a stage of a rotation: a clock may never be known to be right."""

from dataclasses import replace

from idlib import keys
from idlib.settings import Settings
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.schedule import Instant
from messaging_maintenance.rotation.state import state_file


def note_running_time(settings: Settings, now: Instant) -> None:
    """Write the running time into the state if waiting times cannot be measured by the clock.

    Args:
        settings: From the environment.
        now: The present.

    Raises:
        KeyFileError: The state cannot be read or written, or a step is being taken.
    """
    with alone(settings):
        file = state_file(settings)
        state = file.read()
        if state is None or (now.is_set and state.since.is_set):
            return
        with keys.locked(settings.crypto_path):
            file.write(replace(state, running=state.running_at(now)))
