"""README.md matches the repository."""

import re
import shutil
import subprocess
from pathlib import Path

from tests import documents

README = (documents.ROOT / "README.md").read_text()


def test_the_readme_fits_four_screens() -> None:
    assert len(README.splitlines()) <= 150


def test_every_document_is_linked() -> None:
    paths = {path.relative_to(documents.ROOT).as_posix() for path in documents.ROOT.glob("*.md")}
    paths |= {path.relative_to(documents.ROOT).as_posix() for path in documents.ROOT.glob("docs/*.md")}
    assert {path for path in paths - {"README.md"} if f"]({path})" not in README} == set()


def test_the_first_commands_clone_the_repository(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(documents.ROOT / "requirements", repository / "requirements")
    for name in ("Makefile", "README.md", "LICENSE", "pyproject.toml"):
        shutil.copy(documents.ROOT / name, repository)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.test")
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "test"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    commands = documents.block("README.md", "the demo").replace("make demo", "make --dry-run demo")
    here, number = re.subn(r"https://github\.com/\S+", str(repository), commands)
    assert number == 1
    (tmp_path / "empty").mkdir()
    done = subprocess.run(["sh", "-euc", here], cwd=tmp_path / "empty", capture_output=True, text=True, check=True)
    assert "lab.demo" in done.stdout


def test_the_repository_s_address_is_set_by_the_commands_of_the_document(tmp_path: Path) -> None:
    for name in ("README.md", "balena.yml", "docker-compose.override.yml", "Makefile"):
        shutil.copy(documents.ROOT / name, tmp_path)
    command = documents.block("docs/balena.md", "the repository's address")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    for name in ("README.md", "balena.yml"):
        assert "https://github.com/your-name/your-repository" in (tmp_path / name).read_text()
        assert "OWNER" not in (tmp_path / name).read_text()
    for name in ("docker-compose.override.yml", "Makefile"):
        assert "ghcr.io/your-name/your-repository" in (tmp_path / name).read_text()
        assert "registry.invalid" not in (tmp_path / name).read_text()


def test_each_program_that_is_run_with_compose_is_a_file_of_its_service() -> None:
    services = re.findall(r"docker compose run --rm (\w+) \./(\w+\.py)", README)
    assert ("maintenance", "publish_tlsa.py") in services
    for service, program in services:
        assert (documents.ROOT / "applications" / service / "src" / program).exists(), program
