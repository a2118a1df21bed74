"""The man pages, one for the command and one for each verb, which argparse-manpage generates from the parsers."""

import argparse
import os
import re
import time
from datetime import UTC, datetime
from typing import Final

from argparse_manpage.manpage import Manpage

import idlib
from dane_messenger.command import GROUPS, NAME, VERBS, verbs_of
from dane_messenger.parsers import parser_after, parser_of_group
from idlib.settings import VARIABLES

_DIRECTORY: Final = "share/man/man1"
_TITLE: Final = "DANE MQTT Messenger"
_SUMMARY: Final = "signed and encrypted messages between devices known by their DNS names"


def man_pages() -> dict[str, str]:
    """Return the text of each page, by its path below the prefix of an installation."""
    texts = {"": _page_of_group("", _SUMMARY)}
    texts |= {group: _page_of_group(group, help_) for group, help_ in GROUPS.items()}
    texts |= {verb: _page(verb, parser_after(verb), help_, {}) for verb, (_, help_) in VERBS.items()}
    return {f"{_DIRECTORY}/{_name(verb)}.1": text for verb, text in texts.items()}


def _name(verb: str) -> str:
    return "-".join([NAME, *verb.split()])


def _page(verb: str, parser: argparse.ArgumentParser, summary: str, sections: dict[str, str]) -> str:
    """Return the page of a verb or group, or of the command itself, with more sections after its options."""
    example = (parser.epilog or "").partition("\n")[2].strip()
    # argparse-manpage would call it a comment and fill its lines.
    parser.epilog = None
    data = {"project_name": NAME, "version": idlib.__version__, "manual_title": _TITLE, "date": _date()}
    page = Manpage(parser, data)
    # A title is one word.
    page.prog = _name(verb)
    page.description = summary
    sections = {"EXAMPLE": f".nf\n{_escaped(example)}\n.fi", **sections}
    if verb:
        sections["SEE ALSO"] = f"{_reference('')} lists the settings, which are environment variables."
    for heading, text in sections.items():
        page.add_section(heading, ">", text)
    return str(page)


def _date() -> str:
    # Not 2026-11-29, because argparse-manpage escapes each hyphen, and mandoc then cannot read the date.
    built = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC)
    return f"{built:%B} {built.day}, {built.year}"


def _page_of_group(group: str, summary: str) -> str:
    listed = (f".TP\n{_reference(verb)}\n{_escaped(text)}" for verb, text in verbs_of(group).items())
    sections = {"VERBS": "\n".join(listed)}
    if not group:
        sections["ENVIRONMENT"] = _settings()
    return _page(group, parser_of_group(group), summary, sections)


def _settings() -> str:
    lines = []
    for variable in VARIABLES:
        default = "" if variable.default is None else f" (default: {variable.default})"
        lines.append(f".TP\n.B {variable.name}\n{_escaped(f'{variable.help}{default}: {variable.form}')}")
    return "\n".join(lines)


def _reference(verb: str) -> str:
    return f"\\fB{_escaped(_name(verb))}\\fR(1)"


def _escaped(text: str) -> str:
    """Return a text so that groff prints it as it is: no escape sequence, no request, and each - as in ASCII."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)
