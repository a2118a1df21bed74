"""The commands and outputs that the documents show: each stands below a mark in a comment."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]


def block(document: str, mark: str) -> str:
    """Return the block of code below a mark.

    Args:
        document: The path of a Markdown file, from the root of the checkout.
        mark: What the comment before the block says.
    """
    text = (ROOT / document).read_text()
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```(?:sh)?\n(.*?)```", text, re.DOTALL)
    assert found, f"{document} has no block marked {mark!r}"
    return found[1]


def marks(document: str) -> list[str]:
    """Return the marks of a document's blocks of commands; a block without one is an error."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"(?:<!-- ([^\n]+) -->\n)?```sh\n", text)
    assert all(blocks), f"{document} shows commands that no test runs"
    return blocks
