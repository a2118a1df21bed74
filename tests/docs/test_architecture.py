"""docs/architecture.md: the files and packages that it names are there, and it leaves none out."""

import re
from typing import Final

import pytest

from tests.documents import ROOT
from tests.test_house import ORDER, PACKAGES

DOCUMENT: Final = (ROOT / "docs" / "architecture.md").read_text()
FILES: Final = sorted(set(re.findall(r"`([\w./-]+(?:/|\.(?:py|md|txt|yml)))`", DOCUMENT)))
LIBRARY: Final = DOCUMENT.partition("Inside `idlib`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("file", FILES)
def test_each_named_file_exists(file: str) -> None:
    assert (ROOT / file).exists()


def test_the_files_of_both_paths_are_named() -> None:
    assert len(FILES) > 40


def test_the_table_of_packages_matches_the_rules_for_imports() -> None:
    shown = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", DOCUMENT, re.MULTILINE)
    allowed: dict[str, set[str]] = {}
    for package, imports in shown:
        included, _, excluded = imports.partition(" except ")
        names = set(re.findall(r"`(\w+)`", included))
        if "all of the above" in included:
            names |= set(allowed)
        allowed[package] = names - set(re.findall(r"`(\w+)`", excluded))
    assert allowed == {package: imports for package, imports in PACKAGES.items() if package != "release"}


def test_the_parts_of_the_library_are_in_their_order() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", LIBRARY, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(cells)) == ORDER


def test_the_document_fits_two_screens() -> None:
    assert len(DOCUMENT.splitlines()) <= 120


@pytest.mark.parametrize(
    "name", ["ENCRYPTED_MESSAGES", "DECRYPTED_MESSAGES", "AUTHENTICATED_MESSAGES", "def _receive("]
)
def test_the_receiver_has_the_named_queues(name: str) -> None:
    assert name.removeprefix("def ").removesuffix("(") in DOCUMENT
    assert name in (ROOT / "messaging_receiver" / "application.py").read_text()
