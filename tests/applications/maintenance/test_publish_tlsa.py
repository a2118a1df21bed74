"""What publish_tlsa.py says before it asks DNS; publishing itself is in tests/integration/test_publish.py."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.publishing.publication import WAIT_SECONDS

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "alice._device.example.test"
# Nothing answers there.
NOWHERE = {"DNS_RESOLVER": "127.0.0.1:1"}


def test_without_a_method_it_prints_what_to_enter(run: Run) -> None:
    run("create_selfsigned_id.py")
    printed = run("generate_tlsa.py", TLSA_TTL="600", TLSA_SELECTOR="1")
    ended = run("publish_tlsa.py", TLSA_TTL="600", TLSA_SELECTOR="1")
    assert ended.returncode == 0
    assert (ended.stdout, ended.stderr) == (printed.stdout, printed.stderr)
    assert f"\n{NAME}. 600 IN TLSA 3 1 0 " in ended.stdout


def test_without_a_method_nothing_can_be_removed(run: Run) -> None:
    ended = run("publish_tlsa.py", "--remove")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == ("Error: DNS_PUBLISH is not set; set it, or remove the record at your DNS provider\n")


def test_a_missing_key_is_the_first_thing_that_is_said(run: Run) -> None:
    ended = run("publish_tlsa.py", DNS_PUBLISH="rfc2136", **NOWHERE)
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "create_selfsigned_id.py" in ended.stderr


def test_a_resolver_that_is_not_there_is_named_in_one_line(run: Run) -> None:
    run("create_selfsigned_id.py")
    ended = run("publish_tlsa.py", DNS_PUBLISH="command", DNS_PUBLISH_COMMAND="true", **NOWHERE)
    assert (ended.returncode, ended.stdout) == (10, "")
    assert ended.stderr.startswith("Error: cannot find the zone of example.test: ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("--remove", "--remove-foreign"), ("--timeout", "0"), ("--timeout", "86401"), ("--timeout", "soon")]
)
def test_options_that_make_no_sense_are_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run("publish_tlsa.py", *arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert len(ended.stderr.splitlines()) == 1


def test_the_help_says_how_long_it_waits_and_what_to_do_first_if_a_device_was_stolen(run: Run) -> None:
    shown = " ".join(run("publish_tlsa.py", "--help").stdout.split())
    assert f"(default: {WAIT_SECONDS:g})" in shown
    assert "If the device was stolen, first revoke the credential" in shown


def test_no_file_is_written(run: Run, files: Callable[[], dict[str, bytes]], tmp_path: Path) -> None:
    run("create_selfsigned_id.py")
    before, there = files(), sorted(tmp_path.iterdir())
    run("publish_tlsa.py")
    assert files() == before
    assert sorted(tmp_path.iterdir()) == there
