"""The daemons of the benchmarks: real ones in a network namespace, as in the integration tests."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.daemons.namespace import Namespace
from testbed.lab import Lab, open_lab


@dataclass(frozen=True, slots=True)
class BenchmarkEnvironment:
    """The daemons, and whether the reference libraries find them.

    Args:
        lab: The daemons, and where devices are made.
        obstacle: Why programs on the reference libraries cannot run here; empty if they can.
    """

    lab: Lab
    obstacle: str


@contextlib.contextmanager
def open_world() -> Iterator[BenchmarkEnvironment]:
    """Start the daemons, in a network namespace if one can be created: the reference libraries only query port 53.

    Raises:
        DaemonError: A daemon is not installed or does not start.
    """
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        namespace, obstacle = _open_namespace(stack, top)
        yield BenchmarkEnvironment(stack.enter_context(open_lab(top, namespace)), obstacle)


def _open_namespace(stack: contextlib.ExitStack, directory: Path) -> tuple[Namespace | None, str]:
    try:
        return stack.enter_context(Namespace(directory)), ""
    except (RuntimeError, OSError) as error:
        return None, " ".join(str(error).split())
