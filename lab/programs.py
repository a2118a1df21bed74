"""Runs the project's programs as processes, reads their output line by line, and always ends them."""

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

APPLICATIONS: Final = Path(__file__).resolve().parent.parent / "applications"
_LINES_OF_A_FAILURE: Final = 8
_SECONDS_TO_FINISH: Final = 30
_SECONDS_TO_STOP: Final = 6


class ProgramError(Exception):
    """A program failed, ended too early, or did not do what was expected in time.

    Args:
        fact: What happened, in one line.
        tail: The last lines that the program wrote to stderr.
    """

    def __init__(self, fact: str, tail: Sequence[str]) -> None:
        super().__init__(fact)
        self.fact = fact
        self.tail = tuple(tail)


class Stream:
    """The lines that a process has written to stdout or stderr so far.

    Args:
        pipe: The end of the pipe to read from.
        changed: Notified when a line has been read, and when the stream ends.
    """

    def __init__(self, pipe: IO[str], changed: threading.Condition) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._pipe = pipe
        self._changed = changed
        # A daemon thread, so that a process that cannot be ended does not keep this one running.
        self._reader = threading.Thread(target=self._read, name="program-output", daemon=True)
        self._reader.start()

    def join(self) -> None:
        """Wait for the end of the stream, soon after the process has ended."""
        self._reader.join(_SECONDS_TO_STOP)

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()


class DeviceProgram:
    """A program of the project, started when this is created; it is ended when the context is left.

    Args:
        path: Its path below applications/.
        arguments: Its arguments on the command line.
        environment: All of its environment.
        text: What it reads on stdin.
    """

    def __init__(
        self, path: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str], text: str = ""
    ) -> None:
        self._path = path
        self._process = subprocess.Popen(
            [sys.executable, str(APPLICATIONS / path), *arguments],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._changed = threading.Condition()
        self.stdout, self.stderr = (
            Stream(pipe, self._changed) for pipe in (self._process.stdout, self._process.stderr) if pipe
        )
        if self._process.stdin:
            with suppress(BrokenPipeError), self._process.stdin as stdin:
                stdin.write(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.stdout.join()
        self.stderr.join()

    def finish(self) -> list[str]:
        """Wait for the program's end, and return the lines that it wrote to stdout.

        Raises:
            ProgramError: Its exit status is not 0, or it does not end within 30 seconds.
        """
        try:
            status = self._process.wait(_SECONDS_TO_FINISH)
        except subprocess.TimeoutExpired as error:
            raise self._error(f"did not end within {_SECONDS_TO_FINISH} s") from error
        self.stdout.join()
        if status != 0:
            raise self._error(_in_words(status))
        return self.stdout.lines

    def wait_for(
        self, stream: Stream, matches: Callable[[str], bool], what: str, *, after: int = 0, seconds: float
    ) -> str:
        """Wait for a line, and return it.

        Args:
            stream: The program's `stdout` or `stderr`.
            matches: Returns whether a line is the expected one.
            what: A description of the line, for an error that it was not printed.
            after: How many lines at the beginning to skip.
            seconds: How long to wait.

        Raises:
            ProgramError: The program ended without printing the line, or did not print it in time.
        """

        def found() -> str | None:
            return next(filter(matches, stream.lines[after:]), None)

        with self._changed:
            self._changed.wait_for(lambda: stream.ended or found() is not None, seconds)
            line, ended = found(), stream.ended
        if line is not None:
            return line
        if ended:
            raise self._error(_in_words(self._process.wait(_SECONDS_TO_STOP)))
        raise self._error(f"did not print {what} within {seconds:g} s")

    def _error(self, predicate: str) -> ProgramError:
        if self._process.poll() is not None:
            self.stderr.join()
        return ProgramError(f"{self._path} {predicate}", self.stderr.lines[-_LINES_OF_A_FAILURE:])


def _in_words(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
