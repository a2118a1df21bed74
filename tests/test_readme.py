"""What README.md says, held against what is there."""

import re
from pathlib import Path

from idlib.errors import ExitStatus
from idlib.settings import VARIABLES

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_of_variables_is_the_one_of_the_settings() -> None:
    rows = ["| variable | default | meaning | a good value |", "|---|---|---|---|"]
    for variable in VARIABLES:
        without = "none; it must be set" if variable.required else "none"
        default = without if variable.default is None else f"`{variable.default}`"
        rows.append(f"| {variable.name} | {default} | {variable.help} | {variable.form} |")
    assert "<!-- the table of variables -->\n" + "\n".join(rows) + "\n" in README


def test_the_table_of_exit_statuses_holds_each_status() -> None:
    section = README.partition("## Exit statuses")[2].partition("##")[0]
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == set(ExitStatus)
