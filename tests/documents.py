"""The commands and outputs in the documents: each is below a mark in a comment.

`python -m tests.documents` writes the table of settings into docs/settings.md.
"""

import re
from pathlib import Path
from typing import Final

from idlib.settings import VARIABLES

ROOT: Final = Path(__file__).resolve().parents[1]
SETTINGS: Final = "docs/settings.md"
MONITORING: Final = "docs/monitoring.md"
_BLOCK: Final = re.compile(r"(?:<!-- ([^\n]+) -->\n)?```(\w*)\n(.*?)```", re.DOTALL)
_TABLE: Final = re.compile(r"(<!-- the table of settings -->\n)(.*?)\n\n", re.DOTALL)


def block(document: str, mark: str) -> str:
    """Return the block of code below a mark.

    Args:
        document: The path of a Markdown file, from the root of the checkout.
        mark: What the comment before the block says.
    """
    found = [text for one, _, text in _BLOCK.findall((ROOT / document).read_text()) if one == mark]
    assert len(found) == 1, f"{document} has {len(found)} blocks marked {mark!r}"
    return str(found[0])


def marks(document: str) -> list[str]:
    """Return the marks of a document's blocks; a block without one is an error, but for the first, a picture.

    Args:
        document: The path of a Markdown file, from the root of the checkout.
    """
    found = [(mark, text) for mark, _, text in _BLOCK.findall((ROOT / document).read_text())]
    unmarked = [text for mark, text in found if not mark and "──" not in text]
    assert not unmarked, f"{document} shows what no test checks: {unmarked}"
    return [mark for mark, _ in found if mark]


def table_of_settings() -> str:
    """Return the table of settings as docs/settings.md has it."""
    rows = ["| variable | default | meaning | values |", "|---|---|---|---|"]
    for variable in VARIABLES:
        without = "none; it must be set" if variable.required else "none"
        default = without if variable.default is None else f"`{variable.default}`"
        rows.append(f"| {variable.name} | {default} | {variable.help} | {variable.form} |")
    return "\n".join(rows)


def shown_table_of_settings() -> str:
    """Return the table of settings in docs/settings.md."""
    found = _TABLE.search((ROOT / SETTINGS).read_text())
    assert found, f"{SETTINGS} has no table of settings"
    return found[2]


def rows_of_metrics() -> list[list[str]]:
    """Return the cells of each row of the table of metrics in docs/monitoring.md."""
    table = (ROOT / MONITORING).read_text().partition("<!-- the table of metrics -->\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"(?<=\| ).*?(?= \|)", line) for line in table.splitlines()[2:]]
    return [[name.strip("`"), *rest] for name, *rest in rows]


def main() -> None:
    """Write the table of settings."""
    path = ROOT / SETTINGS
    path.write_text(_TABLE.sub(lambda found: f"{found[1]}{table_of_settings()}\n\n", path.read_text()))


if __name__ == "__main__":
    main()
