"""The command `dane-messenger`, as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import idlib
from dane_messenger.command import VERBS

COMMAND = Path(sys.executable).with_name("dane-messenger")
NAME = "alice._device.example.test"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *words],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("words", [(), ("identity",), *(tuple(verb.split()) for verb in VERBS)], ids=" ".join)
def test_help_fits_one_screen_at_every_level_and_has_an_example(words: tuple[str, ...]) -> None:
    ended = run(*words, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80 or "IDENTITY_NAME=" in lines[-1]
    assert lines[-2] == "example:"
    assert f"dane-messenger {' '.join(words)}".rstrip() in lines[-1]


@pytest.mark.parametrize("words", [(), ("send",), ("receive",), ("identity", "tlsa")], ids=" ".join)
def test_each_level_prints_the_version(words: tuple[str, ...]) -> None:
    ended = run(*words, "--version")
    assert ended.stdout == f"{' '.join(('dane-messenger', *words))} {idlib.__version__}\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "dane-messenger: a verb is missing; see dane-messenger --help"),
        (("identity",), "dane-messenger identity: a verb is missing; see dane-messenger identity --help"),
        (("sned",), "dane-messenger: unknown verb 'sned'; see dane-messenger --help"),
        (("--help-me",), "dane-messenger: unrecognized arguments: --help-me; see dane-messenger --help"),
        (
            ("identity", "--force", "-x"),
            "dane-messenger identity: unrecognized arguments: --force -x; see dane-messenger identity --help",
        ),
        (("sen", "--help-me"), "dane-messenger: unknown verb 'sen'; see dane-messenger --help"),
        (("identity", "make"), "dane-messenger identity: unknown verb 'make'; see dane-messenger identity --help"),
        (("receive", "--heal"), "dane-messenger receive: unrecognized arguments: --heal"),
    ],
)
def test_wrong_usage_is_one_line_and_status_64(words: tuple[str, ...], complaint: str) -> None:
    ended = run(*words)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr.startswith(complaint)
    assert len(ended.stderr.splitlines()) == 1


def test_an_identity_is_created_and_its_record_printed(tmp_path: Path) -> None:
    identity = {"IDENTITY_NAME": NAME, "CRYPTO_PATH": str(tmp_path / "identity"), "APP_UID": str(os.getuid())}
    created = run("identity", "create", **identity)
    assert created.returncode == 0
    assert (
        created.stderr.splitlines()[-1]
        == "Next: run dane-messenger identity publish to put its record into DNS, or to print it."
    )
    printed = run("identity", "tlsa", **identity)
    assert printed.stdout.startswith(f"TLSA record for {NAME}: 3 0 0 ")


def test_the_module_is_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dane_messenger", "--version"], capture_output=True, text=True, check=True
    )
    assert ended.stdout == f"dane-messenger {idlib.__version__}\n"


def test_a_receiver_that_does_not_run_is_not_well(tmp_path: Path) -> None:
    ended = run("receive", "--health", IDENTITY_NAME=NAME, DATA_PATH=str(tmp_path))
    assert ended.returncode == 1
    assert len(ended.stdout.splitlines()) == 1
