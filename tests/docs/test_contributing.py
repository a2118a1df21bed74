"""CONTRIBUTING.md: its commands are there, and its glossary has one row for each term."""

import re
import subprocess
from typing import Final

from tests import documents

DOCUMENT: Final = (documents.ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE: Final = (documents.ROOT / "Makefile").read_text()


def test_the_set_up_command_is_a_make_target() -> None:
    make, activate = documents.block("CONTRIBUTING.md", "setting up").splitlines()
    subprocess.run([*make.split(), "--dry-run"], cwd=documents.ROOT, capture_output=True, check=True)
    assert activate == ". .venv/bin/activate"


def test_every_make_target_is_listed() -> None:
    targets = re.findall(r"^make (\S+)", documents.block("CONTRIBUTING.md", "the commands"), re.MULTILINE)
    assert len(targets) > 10
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_each_term_has_one_row() -> None:
    terms = re.findall(r"^\| ([^|]+?) \| ", DOCUMENT.partition("## Glossary")[2], re.MULTILINE)
    words = [word for term in terms[2:] for word in term.split(", ")]
    assert len(words) == len(set(words))
