"""What the stack needs on a device: sizes of the images, memory as the engine reports it, the receiver's start time."""

import re
import sys
from datetime import datetime
from typing import Final

from benchmarks.measurement import RUNS, Sample
from testbed.containers.engine import docker
from testbed.containers.stack import MAX_MEMORY, SUBSCRIBED, Stack
from testbed.table import print_table

MAX_SECONDS: Final = 3
_MESSAGES: Final = 200
_HEADING: Final = ("", "MB over its base", "MiB of memory at rest", "while sending", "allowed")


def main() -> int:
    """Print the figures; return the exit status."""
    with Stack() as stack:
        sizes = {service: stack.size(service) / 1e6 for service in MAX_MEMORY}
        together = stack.size(*MAX_MEMORY) / 1e6
        stack.up()
        stack.make_identity()
        started = Sample(tuple(_start(stack) for _ in range(RUNS)))
        _send_many(stack)
        at_rest = {service: stack.memory(service) for service in MAX_MEMORY}
        with stack.sending():
            sending = {service: stack.memory(service) for service in MAX_MEMORY}
        delivering = stack.memory_while_delivering(_MESSAGES)
    rows = [
        *(
            (name, f"{sizes[name]:.1f}", f"{at_rest[name]:.1f}", f"{sending[name]:.1f}", str(most))
            for name, most in MAX_MEMORY.items()
        ),
        ("together", f"{together:.1f}", "", "", ""),
    ]
    print_table(_HEADING, rows)
    print()
    most = MAX_MEMORY["messaging_sender"]
    print(f"MiB of messaging_sender while it delivers {_MESSAGES} queued messages: {delivering:.1f}; allowed: {most}")
    print(f"seconds from the receiver's start to its subscription, median of {RUNS}: {started}; allowed: {MAX_SECONDS}")
    return 0


def _start(stack: Stack) -> float:
    """Start the receiver again, and return the seconds until it has subscribed."""
    seen = stack.log("messaging_receiver").stderr.count(SUBSCRIBED)
    stack.compose("restart", "messaging_receiver")
    stack.wait_for_line("messaging_receiver", SUBSCRIBED, times=seen + 1)
    began = datetime.fromisoformat(_to_microseconds(stack.inspect("messaging_receiver")["State"]["StartedAt"]))
    log = docker("logs", "--timestamps", stack.container("messaging_receiver")).stderr
    subscribed = [line.partition(" ")[0] for line in log.splitlines() if SUBSCRIBED in line][-1]
    return (datetime.fromisoformat(_to_microseconds(subscribed)) - began).total_seconds()


def _to_microseconds(timestamp: str) -> str:
    return re.sub(r"(\.\d{6})\d*", r"\1", timestamp)


def _send_many(stack: Stack) -> None:
    script = f'for i in $(seq {_MESSAGES}); do echo "message $i"; done | ./send_message.py "$IDENTITY_NAME" --lines'
    stack.exec("messaging_sender", "bash", "-c", script)
    stack.wait_for_message(f"message {_MESSAGES}")


if __name__ == "__main__":
    sys.exit(main())
