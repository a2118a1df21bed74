"""Starts the receiver: first the process that starts its workers, then everything else.

That process and the workers need only a third of the receiver's imports. What is imported and read later takes none of
their memory, and they cannot disclose it.
"""

import os
import sys

from idlib.errors import ClockError, ConfigurationError, ExitStatus, OutputError
from idlib.program.environment import read_environment
from idlib.program.imports import leave_out_dns_resolver
from idlib.settings import RECEIVER_READS, WORKER_READS, Settings
from idlib.system.service_manager import take_service_manager
from messaging_receiver.arguments import command_line, read_arguments
from messaging_receiver.workers.number import number_of_workers
from messaging_receiver.workers.opening import open_spawner

__all__ = ["command_line", "main"]


def main() -> int:
    """Run the receiver until it is stopped; return its exit status."""
    arguments = read_arguments()
    if arguments.health:
        # Without another option, the health is answered before this module is imported.
        from messaging_receiver.health import main as answer_for_health

        return answer_for_health()
    if arguments.trust_clock:
        return _trust_clock()
    if sys.stdout is None:
        # Stdout was closed at the start: the next file to be opened would get descriptor 1, and the messages with it.
        raise OutputError(
            "stdout is closed", "start the receiver with stdout connected to a terminal, a file or a program"
        )
    # Before workers are started, so that they do not have its variables.
    manager = take_service_manager(os.environ)
    settings = _worker_settings()
    number = number_of_workers(settings)
    # Before files are opened and threads are started, so that workers have neither.
    with open_spawner(settings, number) as spawner:
        # The rest afterwards, so that workers do not have it either.
        settings = read_environment(RECEIVER_READS)
        leave_out_dns_resolver()
        from messaging_receiver.application import receive

        return receive(arguments, settings, manager, (spawner, number))


def _worker_settings() -> Settings:
    try:
        return read_environment(WORKER_READS)
    except ConfigurationError:
        # Its error names all that is wrong, not only with these settings.
        read_environment(RECEIVER_READS)
        raise


def _trust_clock() -> int:
    from idlib.timekeeping import leave_command

    settings = read_environment(RECEIVER_READS)
    if settings.store is not None:
        raise ClockError("with STORE, times come from the database's clock", "set the clock of the database server")
    print(f"The receiver will trust the clock within 10 s; the clock shows {leave_command(settings.data_path)}.")
    return ExitStatus.OK
