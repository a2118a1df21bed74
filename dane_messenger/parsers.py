"""The parsers of all verbs, from which shell completion and man pages are generated; only the standard library."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Final

from dane_messenger.command import VERBS, program_arguments

# The modules that define the parser apart from the program, which needs other packages.
_MODULES: Final = {"receive": "messaging_receiver.arguments"}


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, with the name and the example that the verb's --help shows.

    Args:
        verb: A verb of dane-messenger, such as "identity tlsa".
    """
    with _as_if_started(verb):
        parser: argparse.ArgumentParser = import_module(_MODULES.get(verb, VERBS[verb][0])).command_line()
    return parser


@contextlib.contextmanager
def _as_if_started(verb: str) -> Iterator[None]:
    """Let sys.argv be what it is while a verb runs: parsers take the program's name from it."""
    before = sys.argv
    sys.argv = program_arguments(verb, [])
    try:
        yield
    finally:
        sys.argv = before
