"""The man pages have what --help has."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from build_hooks.manual import man_pages
from dane_messenger.command import GROUPS, VERBS
from dane_messenger.parsers import parser_of
from idlib.settings import VARIABLES

PAGES = man_pages()


def page(verb: str) -> str:
    """Return the page of a verb as text without markup."""
    text = PAGES["share/man/man1/" + "-".join(["dane-messenger", *verb.split()]) + ".1"]
    return text.replace("\\-", "-").replace("\\e", "\\").replace("\\(ti", "~").replace("\\(ha", "^").replace("\\&", "")


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings and action.dest != "help"]


def test_there_is_a_page_for_the_command_each_group_and_each_verb() -> None:
    verbs = ("", *GROUPS, *VERBS)
    assert sorted(PAGES) == sorted(f"share/man/man1/{'-'.join(['dane-messenger', *verb.split()])}.1" for verb in verbs)


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_has_each_option_with_its_help(verb: str) -> None:
    text = page(verb)
    parser = parser_of(verb)
    for action in options_of(parser):
        for option in action.option_strings:
            assert f"\\fB{option}\\fR" in text
        if action.dest != "version":
            assert str(action.help) in text
    assert VERBS[verb][1] in text
    assert (parser.epilog or "").splitlines()[-1].strip() in text


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_the_page_of_a_group_refers_to_the_page_of_each_of_its_verbs(group: str) -> None:
    text = page(group)
    for verb, (_, help_) in VERBS.items():
        if verb.rpartition(" ")[0] == group:
            assert f"\\fB{'-'.join(['dane-messenger', *verb.split()])}\\fR(1)\n{help_}\n" in text


def test_the_page_of_the_command_has_each_setting() -> None:
    text = page("")
    for variable in VARIABLES:
        assert f".B {variable.name}\n{variable.help}" in text


def test_the_date_of_a_page_can_be_fixed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build_hooks", str(tmp_path)]
    subprocess.run(command, env={"SOURCE_DATE_EPOCH": "86400", "PATH": "/usr/bin:/bin"}, check=True, timeout=60)
    assert '"January 2, 1970"' in (tmp_path / "share/man/man1/dane-messenger.1").read_text().splitlines()[0]
