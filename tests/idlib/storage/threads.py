"""Calls of a function at the same time."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def at_once(work: Callable[[T], None], inputs: Collection[T]) -> None:
    """Call a function for all inputs at the same time, and raise what the first one that failed has raised."""
    with ThreadPoolExecutor(len(inputs)) as pool:
        list(pool.map(work, inputs))
