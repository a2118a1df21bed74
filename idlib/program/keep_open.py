"""A service that only keeps its container open, so that commands can be run at its terminal.

It imports very little, because it stays in memory as long as the device runs.
"""

import os
import signal
import sys

from idlib.system import update_lock


def keep_open(service: str, advice: str) -> None:
    """Print which commands can be run, and wait for SIGTERM or SIGINT.

    Args:
        service: Its name if BALENA_SERVICE_NAME is not set.
        advice: The commands that can be run, in a sentence.
    """
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    # The container has just started, so no program is writing keys.
    update_lock.remove_leftover(update_lock.PATH)
    announce(service, advice)
    signal.sigwait(ends)


def announce(service: str, advice: str) -> None:
    """Print on stderr that a service is waiting, and which commands can be run at its terminal.

    Args:
        service: Its name if BALENA_SERVICE_NAME is not set.
        advice: The commands that can be run, in a sentence.
    """
    name = os.environ.get("BALENA_SERVICE_NAME") or service
    print(f"{name} waiting\n{advice}", file=sys.stderr, flush=True)
