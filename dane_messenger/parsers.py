"""The parsers of all verbs, from which completion scripts and man pages are generated.

Building them needs no other package than ours, so that the wheel can be built anywhere.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Final

from dane_messenger.command import GROUPS, NAME, VERBS, group_parser, program_arguments, verbs_of

# The modules that define the parser apart from the program, which needs other packages.
_MODULES: Final = {"receive": "messaging_receiver.arguments"}


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, with the name and the example that the verb's --help shows.

    Args:
        verb: A verb of dane-messenger, such as "identity tlsa".
    """
    with _as_if_started(program_arguments(verb, [])):
        parser: argparse.ArgumentParser = import_module(_MODULES.get(verb, VERBS[verb][0])).command_line()
    return parser


def parser_after(verb: str) -> argparse.ArgumentParser:
    """Return the parser of what follows a verb: without the action, if that is the last word of the verb.

    Args:
        verb: A verb of dane-messenger, such as "identity epoch status".
    """
    parser = parser_of(verb)
    if program_arguments(verb, [])[1:]:
        _remove_positional(parser, "action")
        parser.prog = f"{NAME} {verb}"
    return parser


def parser_of_group(group: str) -> argparse.ArgumentParser:
    """Return the parser of the command itself or of a group of verbs, without the verb.

    Args:
        group: Such as "identity"; empty for the command itself.
    """
    with _as_if_started([f"{NAME} {group}".rstrip()]):
        parser = group_parser(group)
    _remove_positional(parser, "verb")
    return parser


def tree() -> argparse.ArgumentParser:
    """Return one parser for the whole command line, with the parser of each verb below it."""
    root = argparse.ArgumentParser(prog=NAME, parents=[parser_of_group("")], add_help=False)
    _add_verbs(root, "")
    return root


def _add_verbs(parser: argparse.ArgumentParser, group: str) -> None:
    verbs = parser.add_subparsers(metavar="VERB")
    for verb, help_ in verbs_of(group).items():
        is_group = verb in GROUPS
        own = parser_of_group(verb) if is_group else parser_after(verb)
        # The description is what fish shows beside the verb.
        added = verbs.add_parser(
            verb.rpartition(" ")[2], parents=[own], add_help=False, help=help_, description=help_, prog=own.prog
        )
        if is_group:
            _add_verbs(added, verb)


def _remove_positional(parser: argparse.ArgumentParser, name: str) -> None:
    (action,) = (one for one in parser._actions if one.dest == name)
    # argparse has no public way to take an argument back; this is how its own conflict handler does it.
    parser._positionals._group_actions.remove(action)
    parser._remove_action(action)


@contextlib.contextmanager
def _as_if_started(arguments: list[str]) -> Iterator[None]:
    """Let sys.argv be what it is while a program runs: parsers take the program's name from it."""
    before = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = before
