import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dane_messenger.command import VERBS
from dane_messenger.parsers import parser_of
from testbed.programs import ROOT

PROGRAMS = sorted(path for path in ROOT.glob("applications/*/src/*.py") if path.read_text().startswith("#!"))


@pytest.mark.parametrize("verb", VERBS)
def test_the_parser_of_a_verb_is_the_one_of_its_help(verb: str) -> None:
    arguments = list(sys.argv)
    parser = parser_of(verb)
    assert sys.argv == arguments
    command = [sys.executable, "-m", "dane_messenger", *verb.split(), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert parser.format_help() == shown


def test_the_parsers_need_no_other_package() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from dane_messenger.command import VERBS; from dane_messenger.parsers import parser_of\n"
        "print(*map(parser_of, VERBS), sep='\\n')\n"
        "foreign = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(foreign))"
    )
    command = [sys.executable, "-S", "-E", "-s", "-c", program, str(ROOT)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    *_, foreign = ended.stdout.splitlines()
    assert set(ast.literal_eval(foreign)) == {
        "__main__",
        "dane_messenger",
        "idlib",
        "messaging_maintenance",
        "messaging_receiver",
        "messaging_sender",
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_every_program_offers_its_parser(program: Path) -> None:
    (module,) = (
        node.module
        for node in ast.parse(program.read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module and any(name.name == "main" for name in node.names)
    )
    assert import_module(module).command_line().format_help().startswith("usage: ")
