"""docs/settings.md: its variables, options and exit statuses are those of the code."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from idlib.errors import ExitStatus
from idlib.settings import CREDENTIALS
from messaging_sender.reporting import SendResult
from tests import documents

DOCUMENT: Final = (documents.ROOT / documents.SETTINGS).read_text()


def options_of(verb: str) -> dict[str, str]:
    """Return the table of a verb's options."""
    section = DOCUMENT.partition(f"## Options of `dane-messenger {verb}`\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(--?[A-Za-z-]+)[^`]*` \| (.*) \|$", section, re.MULTILINE))


def test_the_table_of_settings_matches_the_code() -> None:
    hint = "run `.venv/bin/python -m tests.documents`"
    assert documents.shown_table_of_settings() == documents.table_of_settings(), hint


def test_the_table_of_exit_statuses_is_complete() -> None:
    section = DOCUMENT.partition("## Exit statuses")[2]
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == set(ExitStatus)


@pytest.mark.parametrize("verb", ["send", "receive"])
def test_the_table_of_options_matches_the_help(verb: str) -> None:
    command = [str(Path(sys.executable).with_name("dane-messenger")), verb, "--help"]
    shown = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True).stdout
    offered = set(re.findall(r"^  (--?[A-Za-z-]+)", shown, re.MULTILINE)) - {"-h", "--version"}
    assert set(options_of(verb)) == offered


def test_each_result_of_json_is_named() -> None:
    for fate in SendResult:
        assert f"`{fate}`" in options_of("send")["--json"]


@pytest.mark.parametrize("document", ["docs/settings.md", "docs/service.md"])
def test_each_setting_that_can_be_a_credential_is_named(document: str) -> None:
    text = (documents.ROOT / document).read_text()
    beginning, end = (
        ("## Credentials of systemd", "\n## ") if "settings" in document else ("| setting | directory |", "\n\n")
    )
    section = text.partition(beginning)[2].partition(end)[0]
    assert set(re.findall(r"`([A-Z_]+_FILE)`", section)) == frozenset().union(*CREDENTIALS.values())


def test_the_largest_text_is_the_same_as_in_the_limits() -> None:
    said = re.search(r"A text of (\d+) bytes fits into a message of `MAX_MESSAGE_SIZE`, (\d+) bytes", DOCUMENT)
    assert said
    assert f"A text of {said[1]} bytes still fits" in (documents.ROOT / "docs/limits.md").read_text()
    assert f"| MAX_MESSAGE_SIZE | `{said[2]}` |" in DOCUMENT
