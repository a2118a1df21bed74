from collections.abc import Callable
from pathlib import Path

import pytest

from lab.programs import DeviceProgram, ProgramError

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(source: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(source, encoding="utf-8")
        return str(path)

    return write


def test_the_output_of_a_finished_program_is_returned(write: Write) -> None:
    source = "import os, sys; print(sys.argv[1], os.environ['PLACE'], sys.stdin.read()); print('ünd')"
    environment = {"PLACE": "here", "PYTHONUTF8": "1"}
    with DeviceProgram(write(source), ["hello"], environment=environment, text="and there") as program:
        assert program.finish() == ["hello here and there", "ünd"]


def test_a_failed_program_is_reported_with_the_end_of_its_stderr(write: Write) -> None:
    path = write("import sys\nfor i in range(20): print('line', i, file=sys.stderr)\nsys.exit(3)")
    with pytest.raises(ProgramError) as caught, DeviceProgram(path, environment={}) as program:
        program.finish()
    assert caught.value.fact == f"{path} ended with exit status 3"
    assert caught.value.tail == tuple(f"line {number}" for number in range(12, 20))


def test_an_awaited_line_is_found_even_if_it_came_before(write: Write) -> None:
    path = write("import time; print('one', flush=True); print('two', flush=True); time.sleep(60)")
    with DeviceProgram(path, environment={}) as program:
        assert program.wait_for(program.stdout, lambda line: line == "two", "two", seconds=30) == "two"
        assert program.wait_for(program.stdout, lambda _: True, "one", seconds=30) == "one"
        assert program.wait_for(program.stdout, lambda _: True, "two", after=1, seconds=30) == "two"


def test_a_line_that_does_not_come_in_time_is_reported(write: Write) -> None:
    path = write("import sys, time; print('waiting', file=sys.stderr, flush=True); time.sleep(60)")
    with DeviceProgram(path, environment={}) as program:
        program.wait_for(program.stderr, lambda _: True, "anything", seconds=30)
        with pytest.raises(ProgramError, match=r"did not print a word within 0.01 s") as caught:
            program.wait_for(program.stdout, lambda _: True, "a word", seconds=0.01)
    assert caught.value.tail == ("waiting",)


def test_a_program_that_ends_without_the_line_is_reported_at_once(write: Write) -> None:
    path = write("import os; os.kill(os.getpid(), 9)")
    with DeviceProgram(path, environment={}) as program, pytest.raises(ProgramError, match="was ended by signal 9"):
        program.wait_for(program.stdout, lambda _: True, "a word", seconds=60)


def test_a_program_ends_with_the_context(write: Write) -> None:
    path = write("import time; print('up', flush=True); time.sleep(60)")
    with DeviceProgram(path, environment={}) as program:
        program.wait_for(program.stdout, lambda _: True, "up", seconds=30)
    assert program.stdout.ended
    assert program.stderr.ended
