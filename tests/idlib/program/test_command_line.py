import os
import subprocess
import sys

import pytest

import idlib
from idlib.errors import ConfigurationError, IdlibError, KeyFileError, NoRecordError, TransportError
from idlib.program.command_line import lines_of, run

PROGRAM = (
    "from idlib.program.command_line import *; from idlib.program.environment import *\n"
    "from idlib.errors import *; import logging\n"
)


def run_program(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "IDENTITY_NAME": "alice.example", **environment},
    )


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ConfigurationError("Missing essential configuration env var: A", "B"), 2),
        (NoRecordError("no TLSA record", "publish it"), 1),
        (KeyFileError("no key"), 1),
        (TransportError("no broker"), 1),
    ],
)
def test_an_error_is_printed_and_sets_the_exit_status(
    error: IdlibError, lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        run(fail)
    assert ended.value.code == error.exit_status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == list(lines_of(error))
    assert len(lines_of(error)) == lines


def test_a_dns_error_is_printed_in_the_published_words() -> None:
    assert lines_of(NoRecordError("bob.example has no TLSA record")) == (
        "Trouble retrieving certificate from DNS: bob.example has no TLSA record",
    )


@pytest.mark.parametrize("columns", ["50", "100"])
def test_the_help_is_as_wide_as_the_terminal(columns: str) -> None:
    shown = run_program(
        "import sys; sys.argv[1:] = ['--help']; command_line = parser('', '');"
        " command_line.add_argument('--option', help='word ' * 30); command_line.parse_args()",
        COLUMNS=columns,
    )
    widest = max(map(len, shown.stdout.splitlines()))
    assert int(columns) - 10 < widest <= int(columns)


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    ended = run_program("def main(): raise KeyboardInterrupt\nrun(main)")
    assert (ended.returncode, ended.stderr) == (130, "Interrupted.\n")


def test_an_interrupted_program_cleans_up() -> None:
    ended = run_program(
        "import signal; from idlib.system.interruption import end_when_interrupted\n"
        "def main():\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    finally: print('undone')\n"
        "end_when_interrupted(); run(main)"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "undone\n", "Interrupted.\n")


def test_a_program_in_the_background_of_a_script_ignores_ctrl_c() -> None:
    ended = run_program(
        "import signal; from idlib.system.interruption import end_when_interrupted\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "end_when_interrupted(); signal.raise_signal(signal.SIGINT)\n"
        "run(lambda: signal.raise_signal(signal.SIGINT))"
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_error_cannot_act_on_the_terminal() -> None:
    ended = run_program("def main(): raise KeyFileError('a\\x1b[2J\\nb')\nrun(main)")
    assert ended.stderr == "Error: a\\u001b[2J\\u000ab\n"


def test_wrong_usage_is_one_line_and_status_64() -> None:
    ended = run_program("parser('What it does.', 'it --now').parse_args(['--nonsense'])")
    assert ended.returncode == 64
    assert ended.stderr.count("\n") == 1
    assert "--help" in ended.stderr


def test_help_shows_an_example() -> None:
    ended = run_program("parser('What it does.', 'it --now').parse_args(['--help'])")
    assert ended.returncode == 0
    assert "it --now" in ended.stdout


def test_a_closed_pipe_causes_no_traceback() -> None:
    ended = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "{PROGRAM.strip()}\nrun(lambda: print(1 * chr(10) * 99999))" | true'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""


def test_a_text_that_cannot_be_printed_is_a_one_line_error() -> None:
    command = [sys.executable, "-c", PROGRAM + "run(lambda: print('x' * 99999))"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "Error: stdout cannot be written: No space left on device\n"


def test_logging_is_not_configured_before_the_settings_are_read() -> None:
    # In a process of its own: other tests may have used the library, which has a handler that writes nothing.
    ended = run_program("import logging; print(logging.getLogger('idlib').handlers, logging.getLogger().handlers)")
    assert ended.stdout == "[] []\n"


def test_an_option_is_not_abbreviated() -> None:
    ended = run_program(
        "p = parser('a', 'b'); p.add_argument('--receipt', action='store_true'); p.parse_args(['--rec'])"
    )
    assert ended.returncode == 64
    assert "--rec" in ended.stderr


def test_it_prints_its_version() -> None:
    ended = run_program("parser('a', 'b').parse_args(['--version'])")
    assert (ended.returncode, ended.stdout) == (0, f"-c {idlib.__version__}\n")


def test_a_closed_stdout_is_reported_if_it_is_needed() -> None:
    ended = run_program("import sys; sys.stdout = None\nrun(require_stdout)")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: stdout is closed")


FAILS = (
    "import errno, os\ndef fail(*_): raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), '/a file')\n"
)


def test_an_unexpected_system_error_is_printed() -> None:
    ended = run_program(f"{FAILS}run(fail)")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Error: '/a file': File name too long\n"


def test_a_system_error_without_a_file_or_text_is_printed() -> None:
    ended = run_program("def fail(): raise BrokenPipeError(32, 'Broken pipe')\nrun(fail)")
    assert (ended.returncode, ended.stderr) == (1, "Error: Broken pipe\n")
    ended = run_program("def fail(): raise TimeoutError('timed out')\nrun(fail)")
    assert (ended.returncode, ended.stderr) == (1, "Error: timed out\n")


def test_the_traceback_of_a_system_error_is_logged_at_level_debug() -> None:
    ended = run_program(f"{FAILS}def main(): read_environment({{'LOG_LEVEL'}}); fail()\nrun(main)", LOG_LEVEL="debug")
    assert "Traceback (most recent call last)" in ended.stderr
    assert ended.stderr.count("\n") == 2
    assert ended.stderr.endswith("Error: '/a file': File name too long\n")


def test_output_before_such_an_error_is_not_lost() -> None:
    ended = run_program(f"{FAILS}def main(): print('before'); fail()\nrun(main)")
    assert ended.stdout == "before\n"
    assert ended.stderr == "Error: '/a file': File name too long\n"


@pytest.mark.parametrize("flush", [False, True])
def test_a_failure_of_stdout_is_reported_during_or_after_the_output(*, flush: bool) -> None:
    command = [sys.executable, "-c", f"{PROGRAM}run(lambda: print('x', flush={flush}))"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "Error: stdout cannot be written: No space left on device\n"


def test_a_program_that_outlives_its_reader_keeps_its_status() -> None:
    program = f"{PROGRAM}def main():\n print('x' * 99999)\n return 5\nrun(main)"
    ended = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | true; echo ${PIPESTATUS[0]}', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_a_failure_of_stdout_after_another_error_is_a_second_line() -> None:
    program = f"{PROGRAM}def main():\n print('x')\n raise KeyFileError('no key')\nrun(main)"
    # With PYTHONUNBUFFERED, print itself would fail.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=buffered,
        )
    assert ended.returncode == 4
    assert ended.stderr == "Error: no key\nError: stdout cannot be written: No space left on device\n"
