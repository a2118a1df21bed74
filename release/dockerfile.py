"""Parses a Dockerfile as a build does, as far as necessary to find the images that are fetched.

Source: https://docs.docker.com/reference/dockerfile/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from release import ReleaseError

_DIRECTIVE: Final = re.compile(r"#\s*(\w+)\s*=")
# They change how the rest is parsed: one names an image, the other sets the character that continues a line.
_REFUSED_DIRECTIVES: Final = frozenset({"syntax", "escape"})
_CONTINUES: Final = re.compile(r"\\[ \t]*$")
_FLAG: Final = re.compile(r"""--(?P<name>[\w-]+)(?:=(?P<value>(?:"[^"]*"|'[^']*'|[^\s"'])*))?(?:\s+|$)""")
_HERE_DOCUMENT: Final = re.compile(r"""(?:^|\s)\d*<<(?P<dash>-?)(?P<quote>["']?)(?P<end>[^\s"'<]+)(?P=quote)(?=\s|$)""")
_WITH_HERE_DOCUMENTS: Final = frozenset({"ADD", "COPY", "RUN"})


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Args:
        keyword: Its first word, in upper case.
        flags: The names, in lower case, and values of the flags before its arguments.
        arguments: The rest, without the characters that continue a line.
        source: The line exactly as in the file; several lines if it is continued.
    """

    keyword: str
    flags: tuple[tuple[str, str], ...]
    arguments: str
    source: str

    @property
    def sources(self) -> Iterator[str]:
        """The stages and images from which it copies or mounts files."""
        for name, value in self.flags:
            if name == "from":
                yield value
            elif name == "mount":
                for option in value.split(","):
                    key, _, what = option.partition("=")
                    if key.strip().lower() == "from":
                        yield what


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile.

    Args:
        text: The whole file.

    Raises:
        ReleaseError: The file cannot be parsed; the message does not contain the name of the file.
    """
    lines = text.splitlines()
    _check_directives(lines)
    position = 0
    while position < len(lines):
        begin = position
        joined, position = _join(lines, begin)
        if joined:
            instruction = _parse(joined, "\n".join(lines[begin:position]))
            position = _after_here_documents(instruction, lines, position)
            yield instruction


def _check_directives(lines: list[str]) -> None:
    for line in lines:
        found = _DIRECTIVE.match(line)
        if found is None:
            return
        if found[1].lower() in _REFUSED_DIRECTIVES:
            raise ReleaseError(f"the directive {found[1]!a} changes how the file is read; remove it")


def _join(lines: list[str], position: int) -> tuple[str, int]:
    """Return the instruction at a line as one line, empty if there is none, and the number of the line after it."""
    joined = ""
    while position < len(lines):
        line, position = lines[position], position + 1
        stripped = line.lstrip()
        if stripped.startswith("#") or (joined and not stripped):
            # Such lines are ignored within an instruction as well.
            if joined:
                continue
            break
        joined += _CONTINUES.sub("", line)
        if not _CONTINUES.search(line):
            break
    return joined.strip(), position


def _parse(line: str, source: str) -> Instruction:
    keyword, rest = _split(line)
    if keyword == "ONBUILD":
        keyword, rest = _split(rest)
    flags = []
    while rest.startswith("--"):
        found = _FLAG.match(rest)
        if found is None:
            raise ReleaseError(f"the flags of {line!a} cannot be understood")
        flags.append((found["name"].lower(), re.sub(r"[\"']", "", found["value"] or "")))
        rest = rest[found.end() :]
    return Instruction(keyword, tuple(flags), rest, source)


def _split(line: str) -> tuple[str, str]:
    keyword, _, rest = line.replace("\t", " ").partition(" ")
    return keyword.upper(), rest.strip()


def _after_here_documents(instruction: Instruction, lines: list[str], position: int) -> int:
    """Return the number of the line after the here-documents of an instruction."""
    if instruction.keyword not in _WITH_HERE_DOCUMENTS:
        return position
    for found in _HERE_DOCUMENT.finditer(instruction.arguments):
        while (
            position < len(lines)
            and (lines[position].lstrip("\t") if found["dash"] else lines[position]) != found["end"]
        ):
            position += 1
        if position == len(lines):
            raise ReleaseError(f"the text that begins with {found[0].strip()!a} has no line {found['end']!a}")
        position += 1
    return position
