"""The receiver's memory, threads, open files and latency over time, as a table and a plot.

Messages of several sizes are sent at a steady rate. Every other row also has a burst, and a flood of junk at QoS 0,
which the broker does not hold back. Use should be flat after the first fifth of the time: the status is 1 if the last
fifth uses more threads or files than the second, or over a tenth more memory, or if a message is missing.
Usage: python -m benchmarks.soak --minutes 10 [--plot soak.svg]
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
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
from testbed.lab import open_lab
from testbed.messages import BrokerClient
from testbed.programs import Device, Program
from testbed.table import print_table

_ROWS: Final = 20
_MESSAGES_A_SECOND: Final = 20.0
_BURST: Final = 300
_FLOOD: Final = 2000
_TTL_SECONDS: Final = 3600
_ALLOWED_GROWTH: Final = 1.1
_TIMEOUT_SECONDS: Final = 30.0
_SIZES: Final = (20, 200, 2000, 20000)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a part of the time.

    Args:
        seconds: Since the start, at the part's end.
        memory: The receiver's resident memory, in KiB.
        threads: How many it has.
        files: How many it has open.
        messages: How many it printed in this part.
        median: The median latency from sealing to the printed line, in milliseconds.
        high: Its 99th percentile, in milliseconds.
    """

    seconds: float
    memory: int
    threads: int
    files: int
    messages: int
    median: float
    high: float


class Load:
    """Sends texts that contain the time of sealing.

    Args:
        sender: The sender.
        recipient: The recipient.
    """

    def __init__(self, sender: Device, recipient: Device) -> None:
        settings = load(sender.settings)
        self._sender, self._recipient = IdentityName(sender.name), IdentityName(recipient.name)
        self._key = read_private_key(key_path(settings.crypto_path, self._sender))
        self._public = Discovery.from_settings(settings).find(self._recipient).records[0].public_key
        self._broker = Broker.from_settings(settings)
        self.sent = 0
        self.stopping = threading.Event()
        self.burst = threading.Event()

    def run(self) -> None:
        """Send until it is stopped."""
        topic = self._broker.topics.of(self._recipient)
        with Publisher(self._broker, _TIMEOUT_SECONDS) as publisher:
            while not self.stopping.wait(1 / _MESSAGES_A_SECOND):
                number = 1
                if self.burst.is_set():
                    self.burst.clear()
                    number = _BURST
                publications = [publisher.publish(topic, self._payload(), _TTL_SECONDS) for _ in range(number)]
                for publication in publications:
                    publisher.wait(publication)

    def _payload(self) -> bytes:
        self.sent += 1
        text = f"{time.time()!r} {'x' * _SIZES[self.sent % len(_SIZES)]}"
        return seal(
            text,
            sender=self._sender,
            signing_key=self._key,
            recipient=self._recipient,
            encryption_key=self._public,
            binding=Binding.new(self._recipient, int(time.time())),
        )


class Meter:
    """Reads the receiver's lines as they arrive, and the system's figures about its process.

    Args:
        receiver: The running program.
    """

    def __init__(self, receiver: Program) -> None:
        self._process = Path("/proc") / str(receiver.process_id)
        self._receiver = receiver
        self._read = 0
        self._started_at = time.monotonic()

    def row(self, seconds: float) -> Row:
        """Return what was measured in the next seconds."""
        end = time.monotonic() + seconds
        latencies: list[float] = []
        while time.monotonic() < end:
            self._receiver.wait_for_news(0.5)
            now = time.time()
            for line in self._receiver.stdout[self._read :]:
                self._read += 1
                latencies.append(1000 * (now - float(json.loads(line).partition(" says: ")[2].split()[0])))
        status = dict(line.split(":", 1) for line in (self._process / "status").read_text().splitlines())
        return Row(
            time.monotonic() - self._started_at,
            int(status["VmRSS"].split()[0]),
            int(status["Threads"]),
            len(list((self._process / "fd").iterdir())),
            len(latencies),
            statistics.median(latencies) if latencies else 0.0,
            statistics.quantiles(latencies, n=100)[98] if len(latencies) > 1 else 0.0,
        )

    @property
    def messages(self) -> int:
        """How many lines it has read."""
        return self._read


def soak(minutes: float) -> tuple[list[Row], int, int]:
    """Return the rows, how many messages were sent, and how many of them were printed.

    Args:
        minutes: How long.
    """
    seconds = minutes * 60 / _ROWS
    rows: list[Row] = []
    with _system() as (load_, meter, flooder, recipient):
        sending = threading.Thread(target=load_.run, daemon=True)
        sending.start()
        for number in range(_ROWS):
            if number % 2:
                load_.burst.set()
                flooder.flood(recipient, b"rubbish" * 1000, _FLOOD)
            rows.append(meter.row(seconds))
            print(*_cells(rows[-1]), file=sys.stderr, flush=True)
        load_.stopping.set()
        sending.join(_TIMEOUT_SECONDS)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while meter.messages < load_.sent and time.monotonic() < deadline:
            meter.row(0.5)
        return rows, load_.sent, meter.messages


@contextlib.contextmanager
def _system() -> Iterator[tuple[Load, Meter, BrokerClient, Device]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        lab = stack.enter_context(open_lab(directory))
        sender, recipient = (lab.published_device(label, ttl=_TTL_SECONDS) for label in ("sender", "recipient"))
        receiver = stack.enter_context(recipient.receiver())
        flooder = BrokerClient(lab.mosquitto)
        stack.callback(flooder.close)
        yield Load(sender, recipient), Meter(receiver), flooder, recipient


def is_flat(rows: Sequence[Row]) -> bool:
    """Return whether the last fifth used no more memory, threads and files than the second."""
    fifth = len(rows) // 5
    early, late = rows[fifth : 2 * fifth], rows[-fifth:]
    return (
        max(row.memory for row in late) <= _ALLOWED_GROWTH * max(row.memory for row in early)
        and max(row.threads for row in late) <= max(row.threads for row in early)
        and max(row.files for row in late) <= max(row.files for row in early) + 1
    )


def plot(rows: Sequence[Row]) -> str:
    """Return memory and latency over time as an SVG picture.

    Args:
        rows: At least one.
    """
    width, height = 720, 160
    curves = []
    for index, (label, values) in enumerate(
        (
            ("memory, KiB", [float(row.memory) for row in rows]),
            ("latency, median, ms", [row.median for row in rows]),
            ("latency, 99th percentile, ms", [row.high for row in rows]),
            ("threads and open files", [float(row.threads + row.files) for row in rows]),
        )
    ):
        top, most = index * (height + 40) + 30, max(*values, 1.0)
        points = " ".join(
            f"{10 + width * row.seconds / rows[-1].seconds:.1f},{top + height * (1 - value / most):.1f}"
            for row, value in zip(rows, values, strict=True)
        )
        curves.append(
            f'<text x="10" y="{top - 8}">{label}: at most {most:.0f}, {values[-1]:.0f} at the end</text>'
            f'<path d="M10 {top}V{top + height}H{10 + width}" stroke="#999" fill="none"/>'
            f'<polyline points="{points}" stroke="#06c" fill="none"/>'
        )
    bottom = 4 * (height + 40)
    curves.append(f'<text x="10" y="{bottom}">0</text>')
    curves.append(f'<text x="{10 + width}" y="{bottom}" text-anchor="end">{rows[-1].seconds / 60:.1f} minutes</text>')
    size = f'width="{width + 20}" height="{bottom + 20}"'
    body = "\n".join(curves)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">\n{body}\n</svg>\n'


def _cells(row: Row) -> tuple[str, ...]:
    return tuple(f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(row))


def main() -> int:
    """Soak, print the table, write the plot; return the exit status."""
    command_line = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    command_line.add_argument("--minutes", type=float, default=10)
    command_line.add_argument("--plot", type=Path, default=Path("soak.svg"))
    arguments = command_line.parse_args()
    raise_when_signalled()
    rows, sent, printed = soak(arguments.minutes)
    print(describe(), "", sep="\n")
    print_table([field.name for field in fields(Row)], [_cells(row) for row in rows])
    arguments.plot.write_text(plot(rows))
    flat = is_flat(rows)
    print(f"\n{sent} messages sent, {printed} printed; {'flat' if flat else 'NOT flat'}; plot in {arguments.plot}")
    return 0 if flat and printed == sent else 1


if __name__ == "__main__":
    sys.exit(main())
