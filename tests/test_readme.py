"""What README.md says, held against what is there."""

import re
import shutil
import subprocess
from pathlib import Path

from idlib.errors import ExitStatus
from idlib.settings import VARIABLES
from tests import documents

# Here, in tests/integration/test_readme.py and in tests/containers/test_documents.py.
RUN = {
    "on each device",
    "on each device, once the record is published",
    "on bob's device, until stopped",
    "on alice's device",
    "laptop: start",
    "laptop: watch",
    "laptop: send",
    "lab: start",
    "lab: send",
    "lab: attack",
    "lab: stop",
    "the repository's address",
    "the demo",
    "the tests",
}
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


def test_every_command_is_run_by_a_test() -> None:
    assert set(documents.marks("README.md")) == RUN


def test_every_make_target_is_there() -> None:
    makefile = (documents.ROOT / "Makefile").read_text()
    shown = documents.block("README.md", "the demo") + documents.block("README.md", "the tests")
    for target in re.findall(r"^make (\S+)", shown, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_repository_s_address_is_set_by_one_command(tmp_path: Path) -> None:
    for name in ("README.md", "balena.yml"):
        shutil.copy(documents.ROOT / name, tmp_path)
    subprocess.run(["sh", "-c", documents.block("README.md", "the repository's address")], cwd=tmp_path, check=True)
    for name in ("README.md", "balena.yml"):
        assert "https://github.com/your-name/your-repository" in (tmp_path / name).read_text()
        assert "OWNER" not in (tmp_path / name).read_text()
