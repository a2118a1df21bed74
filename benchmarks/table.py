"""Runs benchmarks in one world and prints their results as one table."""

import sys
from collections.abc import Callable

from benchmarks.comparison import RUNS, Comparison
from benchmarks.environment import BenchmarkEnvironment, open_world
from benchmarks.machine import describe, rsa_speed
from testbed.daemons.process import DaemonError
from testbed.table import print_table

_HEADING = (f"medians of {RUNS} (lowest to highest)", "ours", "reference libraries", "better by")


def show(*benchmarks: Callable[[BenchmarkEnvironment], Comparison]) -> int:
    """Run the benchmarks and print the machine, their table and the speed of RSA; return the exit status.

    Args:
        benchmarks: Each makes one line of the table.
    """
    try:
        with open_world() as world:
            comparisons = [benchmark(world) for benchmark in benchmarks]
        rsa = rsa_speed()
    except DaemonError as error:
        print(f"Cannot run the benchmarks: {error}", file=sys.stderr)
        return 1
    print(describe(), "", sep="\n")
    print_table(_HEADING, [comparison.cells() for comparison in comparisons])
    print("", "openssl speed rsa2048, one processor:", rsa, sep="\n")
    if world.obstacle:
        print(f"Cannot measure the reference libraries: {world.obstacle}", file=sys.stderr)
        return 1
    return 0
