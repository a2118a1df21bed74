"""The completion scripts for bash, zsh and fish, which shtab generates from the parsers of all verbs."""

import argparse
import re
import shlex
from typing import Final

import shtab

from dane_messenger.command import GROUPS, NAME, verbs_of
from dane_messenger.completion import SCRIPTS
from dane_messenger.parsers import tree

# What the name of a value in the help says about it.
_COMPLETED: Final = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY, "DIRECTORY": shtab.DIRECTORY}
# Nothing can be completed. Without it, zsh shows the help of the argument instead of completing an option in its place.
_NOTHING: Final = {"zsh": "()"}


def completion_scripts() -> dict[str, str]:
    """Return the text of each script, by its path below the prefix of an installation.

    Raises:
        RuntimeError: What shtab generates has another form.
    """
    parser = tree()
    _complete_values(parser)
    scripts = {shell: shtab.complete(parser, shell) for shell in SCRIPTS}
    scripts["zsh"] = _with_verbs_of_groups(scripts["zsh"])
    return {path: scripts[shell] for shell, path in SCRIPTS.items()}


def _complete_values(parser: argparse.ArgumentParser) -> None:
    """Say what completes the values of all verbs, in the attribute of arguments that shtab defines for it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _complete_values(verb)
        elif isinstance(action, argparse._HelpAction):
            # The help does not show it.
            action.help = "show the help and exit"
        elif action.metavar in _COMPLETED:
            action.complete = _COMPLETED[action.metavar]  # type: ignore[attr-defined]
        elif not action.option_strings and action.choices is None:
            action.complete = _NOTHING  # type: ignore[attr-defined]


def _with_verbs_of_groups(script: str) -> str:
    """Return the script for zsh with the verbs of each group; shtab 1.13 adds those of the groups below it.

    Raises:
        RuntimeError: A group is not in the script exactly once.
    """
    for group in GROUPS:
        listed = "\n".join(
            f"    {shlex.quote(verb.rpartition(' ')[2])}:{shlex.quote(help_)}"
            for verb, help_ in verbs_of(group).items()
        )
        function = re.sub(r"\W", "_", f"_shtab_{NAME}_{group}_commands")
        script, number = re.subn(
            rf"^({function}\(\) \{{\n  local _commands=\(\n).*?(\n  \)\n)",
            lambda found, listed=listed: f"{found[1]}{listed}{found[2]}",  # type: ignore[misc]
            script,
            flags=re.MULTILINE | re.DOTALL,
        )
        if number != 1:
            raise RuntimeError(f"{function} is {number} times in the script that shtab generates for zsh")
    return script
