import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dane_messenger.command import VERBS
from idlib import commands
from idlib.commands import command

ROOT = Path(commands.__file__).parents[1]
SERVICES = ROOT / "applications"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return what changes how this program seems to have been started; it is in the directory of the maintenance."""
    monkeypatch.chdir(SERVICES / "maintenance" / "src")
    return monkeypatch


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("./create_id_csr.py", "./generate_tlsa.py"),
        ("create_id_csr.py", "./generate_tlsa.py"),
        (f"{SERVICES}/maintenance/src/application.py", f"{SERVICES}/maintenance/src/generate_tlsa.py"),
        ("../../messaging_sender/src/send_message.py", "../../maintenance/src/generate_tlsa.py"),
        ("../../messaging_receiver/src/application.py", "../../maintenance/src/generate_tlsa.py"),
        ("dane-messenger identity csr", "dane-messenger identity tlsa"),
        ("/usr/local/bin/pytest", "dane-messenger identity tlsa"),
        ("", "dane-messenger identity tlsa"),
    ],
)
def test_a_program_is_named_in_the_form_in_which_this_one_was_started(
    start: pytest.MonkeyPatch, called: str, expected: str
) -> None:
    start.setattr(sys, "argv", [called])
    assert command("identity tlsa") == expected


def test_the_path_of_a_program_is_quoted_for_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "my checkout" / "maintenance" / "src" / "create_id_csr.py"
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert command("identity tlsa") == f"'{program.parent}/generate_tlsa.py'"


def test_a_program_that_is_linked_to_is_named_beside_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = tmp_path / "create_id_csr.py"
    link.symlink_to(SERVICES / "maintenance" / "src" / "create_id_csr.py")
    monkeypatch.setattr(sys, "argv", [str(link)])
    assert command("identity tlsa") == f"{SERVICES}/maintenance/src/generate_tlsa.py"


def test_in_a_container_a_program_of_another_service_is_named_with_its_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = tmp_path / "messaging_receiver" / "src"
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "argv", ["application.py"])
    assert command("identity tlsa") == "./generate_tlsa.py in maintenance"


def test_a_verb_without_a_file_is_named_as_a_verb(start: pytest.MonkeyPatch) -> None:
    start.setattr(sys, "argv", ["./generate_tlsa.py"])
    assert command("completion") == "dane-messenger completion"


@pytest.mark.parametrize("verb", [verb for verb, (module, _) in VERBS.items() if module.startswith("messaging_")])
def test_the_file_of_a_verb_runs_the_same_program(start: pytest.MonkeyPatch, verb: str) -> None:
    start.setattr(sys, "argv", ["./generate_tlsa.py"])
    # What follows a blank is an argument.
    file = Path(command(verb).split(" ")[0])
    assert f"from {VERBS[verb][0]} import" in file.read_text() or f"import {VERBS[verb][0]}" in file.read_text()


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text of the programs' code that is not a docstring, with its file."""
    for package in ("idlib", "messaging_maintenance", "messaging_receiver", "messaging_sender"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            docstrings = {
                id(node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                    yield str(path.relative_to(ROOT)), node.value


def test_only_one_module_names_the_files_of_programs() -> None:
    names = {path.name for path in SERVICES.glob("*/src/*.py")}
    found = {file for file, text in texts() if any(name in text for name in names)}
    assert found <= {
        "idlib/commands.py",
        # Printed at the terminal of its container, which starts in the directory of these files.
        "messaging_maintenance/application.py",
    }
