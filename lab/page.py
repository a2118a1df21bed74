"""Formats the output of the demo: headings, sentences and quoted lines, as wide as the terminal, colored if wanted."""

import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self, TextIO

_WIDTHS: Final = range(40, 100 + 1)
_INDENT: Final = "   "
_BOLD: Final = "1"
_DIM: Final = "2"
RED: Final = "31"
GREEN: Final = "32"


@dataclass(frozen=True, slots=True)
class Page:
    """A stream of text for a person.

    Args:
        stream: The output.
        width: The number of columns.
        coloured: Whether to write the escape sequences of ECMA-48 for colors.
    """

    stream: TextIO = field(repr=False)
    width: int
    coloured: bool

    @classmethod
    def on(cls, stream: TextIO, environment: Mapping[str, str]) -> Self:
        """Return a page for a stream: at most 100 columns, colored on a terminal unless NO_COLOR is set.

        Args:
            stream: The output.
            environment: Usually `os.environ`.
        """
        columns = shutil.get_terminal_size((_WIDTHS[-1], 0)).columns
        plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb" or not stream.isatty()
        return cls(stream, max(_WIDTHS[0], min(columns, _WIDTHS[-1])), not plain)

    def title(self, text: str) -> None:
        """Write bold text that is not indented."""
        self._write(text, _BOLD, "")

    def heading(self, number: int, text: str) -> None:
        """Write an empty line and a numbered heading."""
        self._write(f"\n{number}. {text}", _BOLD, "")

    def say(self, text: str) -> None:
        """Write wrapped sentences."""
        self._write(text, "", _INDENT)

    def command(self, text: str) -> None:
        """Write a command after a shell prompt."""
        self._write(f"$ {text}", _DIM, _INDENT)

    def quote(self, text: str, colour: str = "") -> None:
        """Write all of a program's output, wrapped.

        Args:
            text: Without control characters.
            colour: RED, GREEN, or none.
        """
        self._write(text, colour, _INDENT + "| ")

    def cut(self, text: str, unit: str) -> None:
        """Write the beginning of a program's output on one line, and its total length.

        Args:
            text: Without control characters.
            unit: The unit of the length.
        """
        end = f"… ({len(text)} {unit})"
        available = self.width - len(_INDENT) - 2 - len(end)
        self._write(text if len(text) <= available + len(end) else text[:available] + end, "", _INDENT + "| ")

    def _write(self, text: str, colour: str, indent: str) -> None:
        for line in text.split("\n"):
            wrapped = textwrap.wrap(
                line, self.width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            ) or [""]
            for part in wrapped:
                print(f"\033[{colour}m{part}\033[0m" if self.coloured and colour and part else part, file=self.stream)
        self.stream.flush()
