"""Print the script that completes commands in a shell; it is generated when the package is built."""

import argparse
from pathlib import Path
from typing import Final

from idlib.errors import ConfigurationError, quoted
from idlib.program.command_line import plain_parser, require_stdout

_DISTRIBUTION: Final = "dane-mqtt-messenger"
# For each shell, the path of its script below the prefix of an installation, where the shell looks for it.
SCRIPTS: Final = {
    "bash": "share/bash-completion/completions/dane-messenger",
    "zsh": "share/zsh/site-functions/_dane-messenger",
    "fish": "share/fish/vendor_completions.d/dane-messenger.fish",
}


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = plain_parser(
        "Print the script that completes the verbs and options of dane-messenger in SHELL: bash, zsh or fish.",
        "source <({program} bash)",
    )
    line.add_argument("shell", choices=tuple(SCRIPTS), metavar="SHELL", help=", ".join(SCRIPTS))
    return line


def main() -> None:
    """Print the script.

    Raises:
        ConfigurationError: It is not installed.
    """
    shell: str = command_line().parse_args().shell
    require_stdout()
    print(_read(shell), end="")


def _read(shell: str) -> str:
    # Imported late, because --help needs none of it.
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = [file for file in files(_DISTRIBUTION) or () if str(file).endswith(f"/{SCRIPTS[shell]}")]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ConfigurationError(
            f"Error: this installation has no completion script for {shell}; install {_DISTRIBUTION} from its wheel"
        )
    path = Path(found[0].locate())
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"Error: {quoted(path)} cannot be read: {error.strerror}") from error
