"""Runs command lines from settings, with `sh`, and ends all that they have started if they take too long."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping


def run_user_command(command: str, stdin: str, environment: Mapping[str, str], seconds: float) -> int:
    """Run a command, and return its exit status; negative for the signal that ended it.

    What it prints goes to stderr, because stdout belongs to the program's own output.

    Args:
        command: A command line for `sh`.
        stdin: Its input.
        environment: All of its environment variables.
        seconds: How long it may take.

    Raises:
        TimeoutError: It took longer, and was killed with all that it had started.
        OSError: It cannot be started.
    """
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=2, text=True, env=environment, start_new_session=True
    )
    with process:
        try:
            process.communicate(stdin, timeout=seconds)
        except BaseException as error:
            # The shell alone would leave behind what it has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            # Without the cause, which quotes the command, and that may have a secret in it.
            raise TimeoutError from None
    return process.returncode
