"""What all programs do alike: read the command line, and turn an error into one line and an exit status."""

import argparse
import contextlib
import errno
import io
import logging
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Final, NoReturn, TextIO, cast

import idlib
from idlib import settings
from idlib.errors import ConfigurationError, DiscoveryError, ExitStatus, IdlibError, quoted
from idlib.output import harmless
from idlib.system.interruption import Terminated, end_by_sigterm, raise_when_interrupted

_LOG = logging.getLogger(__name__)

_HELP_WIDTH: Final = 78
_COMMAND: Final = "dane-messenger"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors end with the status of wrong usage, as sysexits.h has it."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {harmless(message)}; see {self.prog} --help", file=sys.stderr)
        sys.exit(ExitStatus.USAGE)


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return an argument parser that shows an example in its help and ends with status 64 on wrong usage.

    Args:
        description: What the program does, in a sentence or two.
        example: A command line that works, with `{program}` for this one; empty for a program that only a container
            starts.
    """
    program = sys.argv[0] if _is_verb() else f"./{os.path.basename(sys.argv[0])}"
    command_line = _Parser(
        description=textwrap.fill(description, _HELP_WIDTH),
        epilog=f"example:\n  {example.format(program=program)}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An abbreviation that is clear today may stand for another option tomorrow.
        allow_abbrev=False,
    )
    command_line.add_argument("--version", action="version", version=f"%(prog)s {idlib.__version__}")
    return command_line


def require_stdout() -> None:
    """Accept a stdout that is open.

    Raises:
        ConfigurationError: It is closed, and all that is printed would be lost.
    """
    if sys.stdout is None:
        raise ConfigurationError("Error: stdout is closed, and what this program prints is lost")


def beside(program: str, verb: str) -> str:
    """Return how another program of the same service is started, in the way in which this one was.

    Args:
        program: The name of its file, which is in the same directory.
        verb: Its verb of dane-messenger.
    """
    return f"{_COMMAND} {verb}" if _is_verb() else f"{_own_directory()}/{program}"


def of_service(service: str, program: str, verb: str) -> str:
    """Return how a program of another service is started: as this one was, or inside its container.

    Args:
        service: The other service.
        program: The name of the program's file.
        verb: Its verb of dane-messenger.
    """
    if _is_verb():
        return f"{_COMMAND} {verb}"
    path = os.path.normpath(f"{_own_directory()}/../../{service}/src/{program}")
    return shlex.quote(path) if os.path.exists(path) else f"./{program} in {service}"


def _is_verb() -> bool:
    return sys.argv[0].startswith(f"{_COMMAND} ")


def _own_directory() -> str:
    """Return the directory of this program, in the way in which it was called."""
    called = sys.argv[0]
    return os.path.dirname(os.path.realpath(called) if os.path.islink(called) else called) or "."


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program's main function and end the process with the status it returns, or with that of its error.

    Args:
        main: Returns an exit status, None for success.
    """
    if sys.stderr is None:
        # Whoever has closed it does not want to read what would go to stdout otherwise.
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What we print is UTF-8 by contract, whatever the locale says.
        sys.stdout.reconfigure(encoding="utf-8")
    status = _status_of(main)
    if status is ExitStatus.TERMINATED:
        _end_by_sigterm()
    sys.exit(status)


def _status_of(main: Callable[[], int | None]) -> ExitStatus:
    """Run a main function, write what it has printed, tell its error, and return the exit status."""
    status = ExitStatus.CONFIGURATION
    with _stdout_told_apart():
        try:
            status = _told(main)
            if sys.stdout is not None:
                sys.stdout.flush()
        except _StdoutError as error:
            if error.errno != errno.EPIPE:
                print(f"Error: stdout cannot be written: {error.strerror}", file=sys.stderr)
                status = status or ExitStatus.CONFIGURATION
            _forget_stdout()
    return status


def _told(main: Callable[[], int | None]) -> ExitStatus:
    """Run a main function, tell each of its errors except those of stdout, and return the exit status."""
    try:
        raise_when_interrupted()
        return ExitStatus(main() or ExitStatus.OK)
    except IdlibError as error:
        tell(error)
        return error.exit_status
    except KeyboardInterrupt as interruption:
        is_terminated = isinstance(interruption, Terminated)
        print("Terminated." if is_terminated else "Interrupted.", file=sys.stderr)
        return ExitStatus.TERMINATED if is_terminated else ExitStatus.INTERRUPTED
    except _StdoutError:
        raise
    except OSError as error:
        # A fault of ours, for each place that meets one should say what it means; this at least is no traceback.
        _LOG.debug("The error of the system came from here:", exc_info=True)
        print(harmless(f"Error: {_described(error)}"), file=sys.stderr)
        return ExitStatus.CONFIGURATION


def _described(error: OSError) -> str:
    words = error.strerror or str(error) or type(error).__name__
    return f"{quoted(error.filename)}: {words}" if isinstance(error.filename, str) else words


class _StdoutError(OSError):
    """Stdout cannot be written: an OSError still, because that is what whoever prints expects."""


class _Stdout:
    """Stdout, with errors that can be told from those of other files.

    Args:
        stream: Stdout itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or keep it to be written with the next.

        Args:
            text: The text.

        Raises:
            _StdoutError: Stdout cannot be written.
        """
        with _named_as_stdout():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is kept.

        Raises:
            _StdoutError: Stdout cannot be written.
        """
        with _named_as_stdout():
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _named_as_stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _StdoutError(error.errno, error.strerror) from error


@contextlib.contextmanager
def _stdout_told_apart() -> Iterator[None]:
    if sys.stdout is None:
        yield
        return
    with contextlib.redirect_stdout(cast("TextIO", _Stdout(sys.stdout))):
        yield


def _end_by_sigterm() -> None:
    """Let the parent see what ended the process, after what is still buffered is written."""
    with contextlib.suppress(OSError):
        if sys.stdout is not None:
            sys.stdout.flush()
    end_by_sigterm()


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere, lest it raise once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(error: IdlibError) -> None:
    """Say on stderr what is wrong; who starts a program for the first time at a terminal is told what to set.

    Args:
        error: Any of ours.
    """
    lines = lines_of(error)
    for line in lines:
        print(harmless(line), file=sys.stderr)
    if sys.stderr.isatty():
        # Here alone, for scripts may compare the published line with all that they read.
        for variable in settings.VARIABLES:
            if f"Missing essential configuration env var: {variable.name}" in lines:
                print(f"Set {variable.name} to {variable.form}.", file=sys.stderr)
    sys.stderr.flush()


def lines_of(error: IdlibError) -> tuple[str, ...]:
    """Return what a person is told of an error, ready for stderr.

    Args:
        error: Any of ours.
    """
    if isinstance(error, ConfigurationError):
        return error.problems
    if isinstance(error, DiscoveryError):
        return (f"Trouble retrieving certificate from DNS: {error}",)
    return (f"Error: {error}",)
