"""The completion scripts in real shells, and the man pages in real formatters."""

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from build_hooks.completion import completion_scripts
from build_hooks.manual import man_pages
from dane_messenger.completion import SCRIPTS

_SECONDS: Final = 30.0
# How each shell is started with nothing but the script, and shows when it is ready.
_START: Final = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}
_PREPARE: Final = {
    "bash": "PS1='REA''DY>'; source {script}\r",
    "zsh": "fpath=({directory} $fpath); autoload -U compinit; compinit -D -u; PROMPT='REA''DY>'\r",
    "fish": "function fish_prompt; echo 'REA''DY>'; end; source {script}\r",
}


class Shell:
    """An interactive shell in which dane-messenger only writes down its arguments.

    Args:
        name: Such as "zsh".
        directory: For its files.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._calls = directory / "calls"
        self._calls.touch()
        programs = directory / "bin"
        programs.mkdir()
        program = programs / "dane-messenger"
        program.write_text(f"#!/bin/sh\necho \"$*\" >> '{self._calls}'\n")
        program.chmod(0o755)
        script = directory / Path(SCRIPTS[name]).name
        script.write_text(completion_scripts()[SCRIPTS[name]])
        (directory / "letter-to-bob.txt").touch()
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(directory),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "XDG_DATA_HOME": str(directory),
        }
        process, self._terminal = pty.fork()
        if process == 0:
            os.chdir(directory)
            os.execvpe(_START[name][0], _START[name], environment)
        self._process = process
        self._type(_PREPARE[name].format(script=script, directory=directory))
        self._shown = b""
        self._wait_until(lambda: b"READY>" in self._shown)

    def complete(self, text: str) -> str:
        """Return the arguments of dane-messenger after the user has typed a text, Tab and Enter."""
        before = len(self._calls.read_text().splitlines())
        self._type(f"{text}\t\r")
        self._wait_until(lambda: len(self._calls.read_text().splitlines()) > before)
        return self._calls.read_text().splitlines()[-1].strip()

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._process, 0)

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, self._shown.decode(errors="replace")
            if select.select([self._terminal], [], [], 0.05)[0]:
                self._shown += os.read(self._terminal, 65536)


@pytest.fixture(scope="module", params=list(SCRIPTS))
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with contextlib.closing(Shell(request.param, tmp_path_factory.mktemp(request.param))) as shell:
        yield shell


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("se", "send"),
        ("rec", "receive"),
        ("iden", "identity"),
        ("identity ro", "identity rotate"),
        ("identity rotate fin", "identity rotate finish"),
        ("identity epoch st", "identity epoch status"),
        ("send --que", "send --queue"),
        ("send bob --que", "send bob --queue"),
        ("send --file lett", "send --file letter-to-bob.txt"),
        ("identity tlsa --format ns", "identity tlsa --format nsupdate"),
        ("identity epoch records --wee", "identity epoch records --weeks"),
        ("completion fi", "completion fish"),
    ],
)
def test_a_shell_completes(shell: Shell, typed: str, completed: str) -> None:
    assert shell.complete(f"dane-messenger {typed}") == completed


# The last two are verbs of identity epoch.
@pytest.mark.parametrize("typed", ["identity xy", "identity reco", "identity stat"])
def test_what_is_unknown_stays_as_it_is(shell: Shell, typed: str) -> None:
    assert shell.complete(f"dane-messenger {typed}") == typed


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("man")
    for name, text in man_pages().items():
        (directory / Path(name).name).write_text(text)
    return sorted(directory.iterdir())


def test_groff_formats_each_page_without_a_warning(pages: list[Path]) -> None:
    for page in pages:
        command = [
            "man",
            "--warnings",
            "--encoding=UTF-8",
            "--local-file",
            "--troff-device=utf8",
            "--ditroff",
            str(page),
        ]
        ended = subprocess.run(
            command, env={**os.environ, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=True, timeout=60
        )
        assert (page.name, ended.stderr) == (page.name, "")
        assert ended.stdout


def test_mandoc_has_no_warning_about_a_page(pages: list[Path]) -> None:
    ended = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *map(str, pages)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
