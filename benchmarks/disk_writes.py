"""Bytes that the receiver writes to the disk for each message that it prints, at steady rates through Mosquitto.

The figure is `write_bytes` in /proc/PID/io (proc(5)): whole pages that the process made dirty, without the file
system's own journal.
Usage: python -m benchmarks.disk_writes [--seconds 60] [--rates 1 100 500]
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.machine import describe
from idlib.discovery import Discovery
from idlib.envelope import Binding, seal
from idlib.keys import key_path, read_private_key
from idlib.names import IdentityName
from idlib.settings import load
from idlib.transport import Broker, Publisher
from lab.interruption import raise_when_signalled
from testbed.lab import Lab, open_lab
from testbed.programs import Device
from testbed.table import print_table

_TTL_SECONDS: Final = 3600
_TIMEOUT_SECONDS: Final = 60.0
_LIFETIME_SECONDS: Final = 3600
_TEXT: Final = "21.5 degrees Celsius, 1013 hectopascal, 48 percent relative humidity, reading"


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long to send at each rate")
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 100, 500], help="messages a second")
    arguments = parser.parse_args()
    raise_when_signalled()
    print(describe(), "", sep="\n")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="disk-writes-")))
        lab = stack.enter_context(open_lab(directory))
        rows = [_row(lab, rate, arguments.seconds) for rate in arguments.rates]
    print_table(["messages/s", "printed", "bytes written for each", "MB a day"], rows)
    return 0


def _row(lab: Lab, rate: float, seconds: float) -> tuple[str, str, str, str]:
    sender, recipient = (lab.published_device(f"{label}-{rate:g}", ttl=_TTL_SECONDS) for label in ("from", "to"))
    number = max(1, round(rate * seconds))
    with recipient.receiver() as receiver, _payloads(sender, recipient, number + 1) as (publisher, payloads):
        # The first message makes the sender known.
        publisher.wait(publisher.publish(recipient.topic, next(payloads), _LIFETIME_SECONDS))
        receiver.wait_for("first message", lambda: len(receiver.stdout) == 1, _TIMEOUT_SECONDS)
        before, begun = _bytes_written(receiver.pid), time.monotonic()
        for index, payload in enumerate(payloads):
            time.sleep(max(0.0, begun + index / rate - time.monotonic()))
            publisher.publish(recipient.topic, payload, _LIFETIME_SECONDS)
        receiver.wait_for("last message", lambda: len(receiver.stdout) == number + 1, _TIMEOUT_SECONDS)
        # The last group is recorded after it is printed.
        time.sleep(1)
        each = (_bytes_written(receiver.pid) - before) / number
    return f"{rate:g}", str(number), f"{each:.0f}", f"{each * rate * 24 * 3600 / 1e6:.0f}"


@contextlib.contextmanager
def _payloads(sender: Device, recipient: Device, number: int) -> Iterator[tuple[Publisher, Iterator[bytes]]]:
    """Seal all messages at once, so that they can be published at any rate."""
    settings = load(sender.settings)
    own, to = IdentityName(sender.name), IdentityName(recipient.name)
    signing_key = read_private_key(key_path(settings.crypto_path, own))
    encryption_key = Discovery.from_settings(settings).find(to).records[0].public_key
    payloads = [
        seal(
            f"{_TEXT} {index}",
            sender=own,
            signing_key=signing_key,
            recipient=to,
            encryption_key=encryption_key,
            binding=Binding.new(to, int(time.time())),
        )
        for index in range(number)
    ]
    with Publisher(Broker.from_settings(settings), _TIMEOUT_SECONDS) as publisher:
        yield publisher, iter(payloads)


def _bytes_written(process: int) -> int:
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


if __name__ == "__main__":
    sys.exit(main())
