"""Notes the running time of a rotation; the resident maintenance service runs it every few minutes."""

import os
import sys
from contextlib import suppress

from idlib.errors import IdlibError
from idlib.program.command_line import run
from idlib.settings import MAINTENANCE_READS, ROTATION_READS, load
from messaging_maintenance.rotation.running_time import note_running_time
from messaging_maintenance.rotation.schedule import Instant


def main() -> None:
    """Note it; what is wrong is reported by the next check of the identity."""
    with suppress(IdlibError):
        note_running_time(load(os.environ, MAINTENANCE_READS | ROTATION_READS), Instant.now())


if __name__ == "__main__":
    # The path of the service, because what an error names is beside the service, not beside this module.
    if len(sys.argv) > 1:
        del sys.argv[0]
    run(main)
