"""The settings that a program reads from its environment, and the log that they configure."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import logging
from idlib.program.environment import read_environment
from idlib.program.command_line import run
from idlib.settings import MAINTENANCE_READS
def main():
    read_environment(MAINTENANCE_READS)
"""


def run_main(rest: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}    {rest}\nrun(main)"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "IDENTITY_NAME": "alice._device.example.test", **environment}
        | {name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
    )


def test_only_missing_or_wrong_variables_that_are_read_are_reported() -> None:
    ended = run_main(APP_UID="root", MQTT_PORT="many")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Bad value of env var APP_UID: 'root'; ")
    assert ended.stderr.count("\n") == 1


def test_a_log_line_has_a_time_a_level_and_no_second_line() -> None:
    ended = run_main("logging.getLogger('x').warning('one\\ntwo %s', '\\u202e')")
    time, level, text = ended.stderr.rstrip("\n").split(" ", 2)
    assert time.endswith("Z")
    assert level == "WARNING"
    assert text == "one\\u000atwo \\u202e"
    assert ended.stdout == ""


@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("info", True), ("warning", False), ("error", False)])
def test_log_level_selects_the_lines_that_are_logged(level: str, *, shown: bool) -> None:
    ended = run_main("logging.getLogger('x').info('logged line')", LOG_LEVEL=level)
    assert ("logged line" in ended.stderr) is shown


def test_a_librarys_warning_is_one_log_line() -> None:
    ended = run_main("import warnings; warnings.warn('one\\ntwo')")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.split(" ")[1] == "WARNING"
    assert "UserWarning: one\\u000atwo" in ended.stderr
