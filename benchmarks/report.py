"""Runs benchmarks on one set of daemons, prints their table, and writes it into docs/performance.md."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.environment import BenchmarkEnvironment, open_world
from benchmarks.machine import describe
from benchmarks.measurement import Measurement
from benchmarks.plot import draw
from benchmarks.target import Verdict
from testbed.daemons.process import DaemonError
from testbed.table import print_table

Benchmark = Callable[[BenchmarkEnvironment], Iterable[Measurement]]
HEADING: Final = ("what", "median", "beside it", "ratio or figure (lowest to highest)", "floor", "aim", "verdict")
_DOCUMENT: Final = Path(__file__).parents[1] / "docs/performance.md"
_PLOT: Final = "performance.svg"
_WRITTEN_BY_BENCH: Final = re.compile(r"(<!-- written by make bench -->\n).*?(<!-- end -->\n)", re.DOTALL)


def run(*benchmarks: Benchmark) -> int:
    """Run the benchmarks and print the machine and their table; return the exit status: 1 if a limit was missed.

    Args:
        benchmarks: Each measures rows of the table.
    """
    rows = _measure(benchmarks)
    return 1 if rows is None else _status(rows)


def run_and_write(*benchmarks: Benchmark) -> int:
    """Do the same as `run`, and write the table and its plot into docs/performance.md.

    Args:
        benchmarks: Each measures rows of the table.
    """
    rows = _measure(benchmarks)
    if rows is None:
        return 1
    _DOCUMENT.write_text(updated(_DOCUMENT.read_text(), describe(), rows))
    _DOCUMENT.with_name(_PLOT).write_text(draw(rows))
    return _status(rows)


def updated(document: str, machine: str, rows: Sequence[Measurement]) -> str:
    """Return the document with another table.

    Args:
        document: A Markdown text that has the marks of `make bench`.
        machine: The description of the machine.
        rows: What was measured.
    """
    lines = [HEADING, ("---",) * len(HEADING), *(row.cells() for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = f"```\n{machine}\n```\n\n{table}\n\n![Each figure beside its limit]({_PLOT})\n"
    return _WRITTEN_BY_BENCH.sub(lambda found: f"{found[1]}{text}{found[2]}", document)


def _measure(benchmarks: Sequence[Benchmark]) -> list[Measurement] | None:
    rows = []
    try:
        with open_world() as world:
            for benchmark in benchmarks:
                for row in benchmark(world):
                    print(f"{row.target.title}: {row.result}", file=sys.stderr, flush=True)
                    rows.append(row)
    except DaemonError as error:
        print(f"Cannot run the benchmarks: {error}", file=sys.stderr)
        return None
    print(describe(), "", sep="\n")
    print_table(HEADING, [row.cells() for row in rows])
    if world.obstacle:
        print(f"Cannot measure the reference libraries: {world.obstacle}", file=sys.stderr)
        return None
    return rows


def _status(rows: Sequence[Measurement]) -> int:
    missed = [row.target.title for row in rows if row.verdict is Verdict.MISSED]
    for title in missed:
        print(f"Missed: {title}", file=sys.stderr)
    return 1 if missed else 0
