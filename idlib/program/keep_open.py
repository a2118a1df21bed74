"""A service that only holds its container open, so that its terminal is there to work in.

It imports next to nothing, for it stays in memory as long as the device runs.
"""

import os
import signal
import sys

import idlib
from idlib.system import update_lock


def keep_open(service: str, advice: str) -> None:
    """Say what can be run here and wait for SIGTERM or SIGINT; with `--health` say instead that all is well.

    Args:
        service: What the service calls itself where BALENA_SERVICE_NAME does not say it.
        advice: Which commands are there, in a sentence.
    """
    if len(sys.argv) > 1:
        # Late, for the service itself is never started with arguments.
        import argparse

        parser = argparse.ArgumentParser(description=f"Hold the {service} container open. {advice}", allow_abbrev=False)
        parser.add_argument("--version", action="version", version=f"%(prog)s {idlib.__version__}")
        parser.add_argument("--health", action="store_true", help="say whether the service is well, and end")
        if parser.parse_args().health:
            print("ok: waiting for commands")
            return
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    # Where the container has just started, nobody is writing.
    update_lock.remove_leftover(update_lock.PATH)
    announce(service, advice)
    signal.sigwait(ends)


def announce(service: str, advice: str) -> None:
    """Say on stderr that a service waits, and what can be run at its terminal.

    Args:
        service: What it calls itself where BALENA_SERVICE_NAME does not say it.
        advice: Which commands are there, in a sentence.
    """
    name = os.environ.get("BALENA_SERVICE_NAME") or service
    print(f"{name} waiting\n{advice}", file=sys.stderr, flush=True)
