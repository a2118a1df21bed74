"""A release has the repository's own address, and a tag, a version and a changelog that agree."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import idlib
from release.__main__ import main
from release.readiness import FILES, PLACEHOLDERS
from release.references import DOCKERFILES
from tests import documents

VERSION = idlib.__version__
CHANGES = f"""# Changelog

## 9.9.9, 2027-01-01

Later.

## {VERSION}, 2026-11-30

- A change.

## 0.0.9, 2026-01-01
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout that can be released."""
    for name in (*FILES, *DOCKERFILES, "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(documents.ROOT / name, tmp_path / name)
    for name in DOCKERFILES:
        text = (tmp_path / name).read_text()
        pinned = re.sub(r"^(ARG \w+_IMAGE=[^@\s]+)$", rf"\1@sha256:{'0' * 64}", text, flags=re.MULTILINE)
        (tmp_path / name).write_text(pinned)
    (tmp_path / "CHANGELOG.md").write_text(CHANGES)
    # As docs/balena.md says.
    command = documents.block("docs/balena.md", "the repository's address")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    return tmp_path


def check(checkout: Path, *options: str) -> int:
    return main(["--directory", str(checkout), "check", *options])


def test_a_checkout_with_its_own_address_can_be_released(checkout: Path) -> None:
    assert check(checkout) == 0
    assert check(checkout, "--tag", f"v{VERSION}") == 0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_a_placeholder_is_reported_with_its_line(
    checkout: Path, name: str, placeholder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = len((checkout / name).read_text().splitlines())
    with (checkout / name).open("a") as file:
        file.write(f"# https://example.com/{placeholder}\n")
    assert check(checkout) == 1
    (problem,) = capsys.readouterr().err.splitlines()
    assert problem.endswith(f"docs/balena.md has the commands: {name}:{lines + 1}")


@pytest.mark.parametrize(
    ("tag", "fault"),
    [
        ("v9.9.9", f"The tag is v9.9.9, but pyproject.toml has the version {VERSION}; tag the right commit"),
        (VERSION, f"'{VERSION}' is not the tag of a release; name it as v1.2.3"),
        ("v1.2", "'v1.2' is not the tag of a release; name it as v1.2.3"),
        (f"v{VERSION}\n", f"'v{VERSION}\\n' is not the tag of a release; name it as v1.2.3"),
        ("v1.2.3-rc1", "'v1.2.3-rc1' is not the tag of a release; name it as v1.2.3"),
        ("", "'' is not the tag of a release; name it as v1.2.3"),
    ],
)
def test_another_tag_is_reported(checkout: Path, tag: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(checkout, "--tag", tag) == 1
    assert capsys.readouterr().err == f"{fault}\n"


@pytest.mark.parametrize(
    ("heading", "fault"),
    [
        (f"## {VERSION}, not released yet", f"gives no date for {VERSION}, but 'not released yet'; write the date"),
        ("## 0.0.1, 2026-11-30", f"has no section about {VERSION}; add one"),
    ],
)
def test_a_changelog_without_the_release_is_reported(
    checkout: Path, heading: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "CHANGELOG.md").write_text(CHANGES.replace(f"## {VERSION}, 2026-11-30", heading))
    assert check(checkout, "--tag", f"v{VERSION}") == 1
    assert fault in capsys.readouterr().err


def test_every_problem_is_reported_at_once(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "README.md").write_text(f"https://github.com/{PLACEHOLDERS[0]}\n")
    (checkout / "Dockerfile").write_text("ARG PYTHON_IMAGE=python:3.13\nFROM ${PYTHON_IMAGE}\n")
    assert check(checkout, "--tag", "v9.9.9") == 1
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize("text", ["[project]\n", "project = 1\n", "[project\n"])
def test_a_project_without_a_version_is_reported(checkout: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "pyproject.toml").write_text(text)
    assert check(checkout, "--tag", f"v{VERSION}") == 1
    assert capsys.readouterr().err.endswith("pyproject.toml has no version; correct it\n")


def test_a_missing_file_is_reported(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "balena.yml").unlink()
    assert check(checkout) == 1
    assert capsys.readouterr().err.endswith("balena.yml cannot be read: No such file or directory\n")


def test_the_notes_of_a_release_are_its_section_of_the_changelog(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--directory", str(checkout), "notes", "--tag", f"v{VERSION}"]) == 0
    assert capsys.readouterr().out == "- A change.\n"
    assert main(["--directory", str(checkout), "notes", "--tag", "v0.0.1"]) == 1
    assert capsys.readouterr().err.endswith("CHANGELOG.md has no section about 0.0.1; add one\n")
