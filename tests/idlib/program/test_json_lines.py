"""LOG_FORMAT=json: every line on stderr is one JSON object, whatever a stranger or a library puts into it."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ExitStatus
from idlib.program import json_lines, log_format
from idlib.program.json_lines import MAX_CHARACTERS, JsonFormatter, JsonStderr

PROGRAM = (
    "from idlib.program.command_line import *; from idlib.program.environment import *\n"
    "from idlib.errors import *; import logging, threading, warnings\n"
)
FIRST = ["time", "level", "message"]
TEXTS = st.text(st.characters(), max_size=60)


def objects(text: str) -> list[dict[str, object]]:
    assert text.isascii()
    assert not text or text.endswith("\n")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    for one in found:
        assert list(one)[:3] == FIRST
        assert datetime.fromisoformat(str(one["time"])).tzinfo is not None
        assert one["level"] in {"debug", "info", "warning", "error"}
    return found


def run_program(code: str, **environment: str) -> tuple[int, list[dict[str, object]]]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + code],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "IDENTITY_NAME": "alice.example", "LOG_FORMAT": "json", **environment},
    )
    return ended.returncode, objects(ended.stderr)


@given(TEXTS, TEXTS)
def test_any_text_in_a_record_stays_in_its_object(message: str, member: str) -> None:
    record = logging.LogRecord("a", logging.WARNING, "", 0, "%s", (message,), None)
    record.members = {"reason": member}
    line = JsonFormatter().format(record)
    (read,) = objects(f"{line}\n")
    assert (read["message"], read["reason"], read["level"]) == (message, member, "warning")
    assert line.isprintable()


@given(st.lists(TEXTS))
def test_any_text_that_is_printed_becomes_objects(texts: list[str]) -> None:
    stream = io.StringIO()
    stderr = JsonStderr(stream)
    for text in texts:
        print(text, file=stderr)
    read = objects(stream.getvalue())
    assert [one["message"] for one in read] == "".join(f"{text}\n" for text in texts).split("\n")[:-1]


@given(st.lists(TEXTS))
def test_relayed_text_cannot_be_anything_but_objects(texts: list[str]) -> None:
    stream = io.StringIO()
    JsonStderr(stream).relay("".join(f"{text}\n" for text in texts))
    objects(stream.getvalue())


def test_an_object_of_another_program_is_relayed_as_it_is() -> None:
    stream = io.StringIO()
    line = json_lines.line(0.5, "error", "a", {"exit_status": 1}) + "\n"
    JsonStderr(stream).relay(line + "no object\n" + '{"time": "x"\n')
    assert stream.getvalue().startswith(line)
    assert [one["message"] for one in objects(stream.getvalue())] == ["a", "no object", '{"time": "x"']


def test_a_member_cannot_replace_another() -> None:
    read = json.loads(json_lines.line(0, "info", "true", {"message": "false", "level": "error"}))
    assert (read["message"], read["level"]) == ("true", "info")


def test_a_line_without_an_end_is_written_in_parts() -> None:
    stream = io.StringIO()
    print("x" * (2 * MAX_CHARACTERS + 1), file=JsonStderr(stream))
    assert [len(str(one["message"])) for one in objects(stream.getvalue())] == [MAX_CHARACTERS, MAX_CHARACTERS, 1]


def test_threads_do_not_mix_their_lines() -> None:
    stream = io.StringIO()
    stderr = JsonStderr(stream)
    barrier = threading.Barrier(4)

    def write(letter: str) -> None:
        barrier.wait()
        for _ in range(200):
            print(letter, letter, letter, file=stderr)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(one["message"]) for one in objects(stream.getvalue())) == sorted(
        [f"{letter} {letter} {letter}" for letter in "abcd"] * 200
    )


@pytest.mark.parametrize(
    ("raised", "status", "messages"),
    [
        (
            "KeyFileError('no \\x1b[2J key\\n', 'make one')",
            ExitStatus.KEY,
            ["Error: no \\u001b[2J key\\u000a; make one"],
        ),
        ("ConfigurationError('one', 'two')", ExitStatus.CONFIGURATION, ["one", "two"]),
        ("NoRecordError('none')", ExitStatus.DISCOVERY, ["Trouble retrieving certificate from DNS: none"]),
        ("FileNotFoundError(2, 'No such file', '/a')", ExitStatus.CONFIGURATION, ["Error: '/a': No such file"]),
    ],
)
def test_an_error_names_its_exit_status(raised: str, status: ExitStatus, messages: list[str]) -> None:
    ended, read = run_program(f"def main(): raise {raised}\nrun(main)")
    assert ended == status
    assert [one["message"] for one in read] == messages
    for one in read:
        assert (one["level"], one["exit_status"], one["exit_status_name"]) == ("error", status, status.name.lower())


def test_wrong_usage_is_an_object() -> None:
    ended, (read,) = run_program("run(lambda: parser('a', 'b').parse_args(['--nonsense']))")
    assert (ended, read["exit_status"], read["exit_status_name"]) == (64, 64, "usage")


def test_an_interrupted_program_ends_with_an_object() -> None:
    ended, (read,) = run_program("def main(): raise KeyboardInterrupt\nrun(main)")
    assert (ended, read["message"], read["exit_status_name"]) == (130, "Interrupted.", "interrupted")


def test_a_failure_of_stdout_is_an_object() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", f"{PROGRAM}run(lambda: print('x' * 99999))"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "LOG_FORMAT": "json"},
        )
    (read,) = objects(ended.stderr)
    assert (ended.returncode, read["exit_status_name"]) == (1, "configuration")


@pytest.mark.parametrize("where", ["fail()", "t = threading.Thread(target=fail); t.start(); t.join()"])
def test_the_traceback_of_an_internal_error_is_one_string(where: str) -> None:
    _, read = run_program(f"def fail(): raise RuntimeError('a\\nb')\ndef main():\n    {where}\nrun(main)")
    (one,) = read
    assert one["level"] == "error"
    assert str(one["traceback"]).startswith("Traceback (most recent call last):\n")
    assert str(one["traceback"]).endswith("RuntimeError: a\nb\n")


def test_the_log_warnings_and_what_is_printed_are_objects() -> None:
    _, read = run_program(
        "def main():\n"
        "    read_environment({'LOG_LEVEL', 'LOG_FORMAT'})\n"
        "    logging.getLogger('a').info('x\\ny', extra={'members': {'reason': 'replay'}})\n"
        "    warnings.warn('old')\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError: logging.getLogger('b').exception('broken')\n"
        "    print('two\\nlines', file=sys.stderr)\n"
        "run(main)"
    )
    assert [one["message"] for one in read if "old" not in str(one["message"])] == ["x\ny", "broken", "two", "lines"]
    assert (read[0]["logger"], read[0]["thread"], read[0]["reason"]) == ("a", "MainThread", "replay")
    assert "ZeroDivisionError" in str(read[-3]["traceback"])
    assert read[1]["logger"] == "py.warnings"


def test_an_encoding_of_stderr_that_has_few_characters_does_no_harm() -> None:
    _, (read,) = run_program(
        "def main(): raise KeyFileError('\\u00e4\\u20ac\\ud800\\x7f')\nrun(main)", PYTHONIOENCODING="ascii"
    )
    assert read["message"] == "Error: \u00e4\u20ac\\ud800\\u007f"


def test_a_wrong_format_is_an_error_as_text() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}run(lambda: read_environment({{'LOG_FORMAT'}}) and None)"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "IDENTITY_NAME": "alice.example", "LOG_FORMAT": "xml"},
    )
    assert ended.returncode == 1
    assert ended.stderr == "Bad value of env var LOG_FORMAT: 'xml'; set it to text or json\n"


def test_a_command_of_the_user_writes_objects() -> None:
    _, read = run_program(
        "import os; from idlib.system.user_command import run_user_command\n"
        "def main(): run_user_command('echo a; echo \"{}\" >&2; printf \"\\\\377\\\\033\"', '', os.environ, 9)\n"
        "run(main)"
    )
    assert [one["message"] for one in read] == ["a", "{}", "\ufffd\x1b"]


def test_what_a_command_leaves_running_does_not_keep_the_program() -> None:
    ended, read = run_program(
        "import os; from idlib.system.user_command import run_user_command\n"
        "def main(): run_user_command('sleep 60 & echo $!', '', os.environ, 9)\n"
        "run(main)"
    )
    (one,) = read
    # The process still runs.
    os.kill(int(str(one["message"])), signal.SIGKILL)
    assert ended == 0


def test_a_command_that_takes_too_long_is_killed_and_what_it_printed_is_kept() -> None:
    ended, read = run_program(
        "import os; from idlib.system.user_command import run_user_command\n"
        "def main():\n"
        "    try: run_user_command('echo a; sleep 60', '', os.environ, 1)\n"
        "    except TimeoutError: print('too long', file=sys.stderr)\n"
        "run(main)"
    )
    assert (ended, [one["message"] for one in read]) == (0, ["a", "too long"])


def test_text_needs_none_of_it(tmp_path: Path) -> None:
    code = (
        "import sys; from idlib.program.command_line import *; from idlib.program.environment import *\n"
        "def main():\n"
        "    read_environment({'LOG_LEVEL', 'LOG_FORMAT'})\n"
        "    print('idlib.program.json_lines' in sys.modules)\n"
        "run(main)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "IDENTITY_NAME": "alice.example"},
    )
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_a_line_is_text_without_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    log_format.write_line("a", "error", {"exit_status": 1})
    log_format.relay("b\n")
    assert capsys.readouterr().err == "a\nb\n"
