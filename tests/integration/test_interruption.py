"""Ctrl-C while a program has only begun to import its modules: 130 and a line, no traceback."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO, Final

import pytest

from testbed.programs import (
    CREATE_ID_CSR,
    CREATE_SELFSIGNED_ID,
    GENERATE_TLSA,
    INSTALL_CERTIFICATE,
    RECEIVER,
    ROOT,
    SEND_MESSAGE,
    SENDER,
)

DEMO: Final = ("-m", "lab.demo")
PATHS: Final = (
    CREATE_ID_CSR,
    CREATE_SELFSIGNED_ID,
    GENERATE_TLSA,
    INSTALL_CERTIFICATE,
    RECEIVER,
    SEND_MESSAGE,
    SENDER,
)
PROGRAMS: Final = [DEMO, *((str(path),) for path in PATHS)]
# What Python prints about each module with -v.
_IMPORTED: Final = b"import '"
# Everything imported before this belongs to the start of Python and of this test.
_FIRST: Final = b"import 'idlib.system.interruption'"
_PIPE_OCTETS: Final = 4096
# At least; usually four times as many.
_OCTETS_OF_A_MODULE: Final = 100


@contextmanager
def importing(program: Sequence[str]) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """Yield a program that prints its imports on stderr, and stops until the test has read them."""
    command = [sys.executable, "-v", *program, "--help"]
    reader, writer = os.pipe()
    # Before the program has written more than that.
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_OCTETS)
    with (
        open(reader, "rb", buffering=0) as stderr,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=writer) as process,
    ):
        os.close(writer)
        try:
            for line in stderr:
                if line.startswith(_FIRST):
                    break
            yield process, stderr
        finally:
            process.kill()


def number_of_imports(program: Sequence[str]) -> int:
    with importing(program) as (_, stderr):
        return sum(line.startswith(_IMPORTED) for line in stderr)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program[-1].removeprefix(f"{ROOT}/"))
def test_an_early_ctrl_c_prints_one_line_and_no_traceback(program: Sequence[str]) -> None:
    # Modules whose lines are still unread in the pipe have been imported, too.
    last = number_of_imports(program) - _PIPE_OCTETS // _OCTETS_OF_A_MODULE
    for moment in (1, last // 3, last):
        with importing(program) as (process, stderr):
            imported = (line for line in stderr if line.startswith(_IMPORTED))
            assert len(list(islice(imported, moment))) == moment
            process.send_signal(signal.SIGINT)
            said = stderr.read()
            assert process.wait(20) == 130
            assert said.endswith(b"Interrupted.\n")
            assert b"Traceback" not in said


def test_143_as_the_init_process_of_a_container() -> None:
    program = """
import os, signal, time
from idlib.system.interruption import raise_when_terminated
from idlib.program.command_line import run
def main():
    raise_when_terminated()
    assert os.getpid() == 1
    os.kill(1, signal.SIGTERM)
    time.sleep(20)
run(main)
"""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 143, ended
    assert ended.stderr == "Terminated.\n"
