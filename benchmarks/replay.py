"""The cost of the replay memory: its file, a look-up, an insert, the bytes written for each message, the longest lock.

Usage: python -m benchmarks.replay [--entries 4000000] [--senders 8]
"""

import argparse
import hashlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.machine import describe
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.replay_load import DAY, DAYS, GROUP, NOW, SENDERS, entry_of, fill, printed, sender_of, tidy
from benchmarks.target import Better, Target
from idlib.storage import Remembered, ReplayEntry, rules
from idlib.storage.replay import FILE_NAME, ReplayMemory

_INSERTS: Final = 12_288
_SAMPLES: Final = 5000
_LONGEST_WAIT_SECONDS: Final = 0.05
_WAIT: Final = Target(
    "longest wait for the replay memory while it forgets 4 million entries", "ms", "", Better.LOWER, 50, 20
)


def main() -> int:
    """Run the benchmark and return the exit status: 1 if a look-up waited too long while entries were forgotten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=rules.MAX_REMEMBERED, help="how many to store")
    parser.add_argument("--senders", type=int, default=SENDERS, help="how many senders have sent them")
    arguments = parser.parse_args()
    entries, senders = arguments.entries, arguments.senders
    print(describe(), "", sep="\n")
    with tempfile.TemporaryDirectory() as directory:
        with ReplayMemory(Path(directory)) as memory:
            begun = time.perf_counter()
            fill(memory, entries, senders)
            seconds = time.perf_counter() - begun
            print(f"{entries} messages of {senders} senders stored in groups of {GROUP}: {seconds:.0f} s")
        size = (Path(directory) / FILE_NAME).stat().st_size
        print(f"file: {size / 1e6:.0f} MB, {size / entries:.1f} bytes each")
        begun = time.perf_counter()
        with ReplayMemory(Path(directory)) as memory:
            print(f"opened in {(time.perf_counter() - begun) * 1e3:.0f} ms")
            _show_tidying("count after the start", memory, NOW)
            _show_look_ups(memory, entries, senders)
            for size in (1, 5, 32):
                _show_inserts(memory, size)
            longest = max(
                _show_tidying("removal of the first day", memory, NOW + 2 * DAY),
                _show_tidying("removal of everything after a year", memory, NOW + 365 * DAY),
            )
    return 0 if longest < _LONGEST_WAIT_SECONDS else 1


def measure(_world: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Fill the memory, forget everything in as many parts as there are runs, and measure the longest wait in each."""
    with tempfile.TemporaryDirectory() as directory, ReplayMemory(Path(directory)) as memory:
        fill(memory, rules.MAX_REMEMBERED, SENDERS)
        tidy(memory, NOW)
        # A message is forgotten some time after it was issued; in the last part, all are.
        ends = [NOW + DAYS * DAY * part // (RUNS - 1) for part in range(1, RUNS)]
        tidied = [tidy(memory, now) for now in (*ends, NOW + 365 * DAY)]
    yield Measurement(_WAIT, Sample(tuple(1000 * one.longest_wait for one in tidied)))


def _show_look_ups(memory: ReplayMemory, entries: int, senders: int) -> None:
    generator = random.Random(1)
    for what, numbers in (
        ("printed", [generator.randrange(entries) for _ in range(_SAMPLES)]),
        ("new", [entries + number for number in range(_SAMPLES)]),
    ):
        seconds = []
        for number in numbers:
            one = entry_of(number, entries, senders)
            begun = time.perf_counter()
            verdict = memory.verdict(one)
            seconds.append(time.perf_counter() - begun)
            if verdict is not Remembered(what):
                raise AssertionError(f"{one} is {verdict}")
        print(f"look-up of a message that is {what}: {_spread(seconds)}")


def _show_inserts(memory: ReplayMemory, size: int) -> None:
    """Insert as if one sender sent a message a second, or several in the time of a group."""
    seconds = []
    written = _bytes_written()
    groups = _INSERTS // size
    for group in range(groups):
        entries = [
            ReplayEntry(sender_of(0, 1), hashlib.sha256(f"{size} {group} {number}".encode()).digest()[:16], NOW)
            for number in range(size)
        ]
        begun = time.perf_counter()
        memory.remember(printed(entries), NOW)
        seconds.append(time.perf_counter() - begun)
        memory.copy_log()
    written = (_bytes_written() - written) // (groups * size)
    print(f"group of {size}: {_spread(seconds)}; {written} bytes written for each message")


def _show_tidying(what: str, memory: ReplayMemory, now: int) -> float:
    """Tidy until nothing is left to do, print how that went, and return the longest wait of a look-up in seconds."""
    tidied = tidy(memory, now)
    print(
        f"{what}: {tidied.seconds:.1f} s in {len(tidied.portions)} portions, the longest"
        f" {max(tidied.portions) * 1e3:.1f} ms ({max(tidied.processor) * 1e3:.1f} ms of CPU time);"
        f" longest wait of a look-up {tidied.longest_wait * 1e3:.1f} ms"
    )
    return tidied.longest_wait


def _bytes_written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    late = ordered[len(ordered) * 99 // 100]
    return f"median {statistics.median(ordered) * 1e6:.0f} µs, 99 % within {late * 1e6:.0f} µs"


if __name__ == "__main__":
    sys.exit(main())
