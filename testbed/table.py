"""Prints a table in columns, as the benchmarks and `make hostile` report their figures."""

import re
from collections.abc import Sequence

_NUMBER_OR_NOTHING = re.compile(r"[0-9].*|inf|")


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a heading and rows; columns of numbers are right-aligned, all others left-aligned.

    Args:
        heading: The title of each column; may be empty.
        rows: Each has as many cells as the heading. An empty cell can be in a column of either kind.
    """
    columns = []
    for title, *cells in zip(heading, *rows, strict=True):
        width = max(map(len, (title, *cells)))
        align = str.rjust if all(map(_NUMBER_OR_NOTHING.fullmatch, cells)) else str.ljust
        columns.append([align(cell, width) for cell in (title, *cells)])
    for line in zip(*columns, strict=True):
        print("   ".join(line).rstrip())
