"""Shared by all programs: reads the command line, and reports an error as one line and an exit status."""

import argparse
import contextlib
import errno
import functools
import gc
import io
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn, TextIO, cast

import idlib
from idlib import settings
from idlib.commands import is_verb
from idlib.errors import ConfigurationError, DiscoveryError, ExitStatus, IdlibError, quoted
from idlib.output import harmless
from idlib.program.log_format import use_log_format, write_line
from idlib.system.interruption import Terminated, end_by_sigterm, raise_when_interrupted

_LOG = logging.getLogger(__name__)

_HELP_WIDTH: Final = 78
_COMMAND: Final = "dane-messenger"


class _Parser(argparse.ArgumentParser):
    """An argument parser that exits with EX_USAGE of sysexits.h on wrong usage."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{self.prog}: {harmless(message)}; see {self.prog} --help", ExitStatus.USAGE)
        sys.exit(ExitStatus.USAGE)

    def format_help(self) -> str:
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        return super().format_help()


class _EnvFile(argparse.Action):
    """Sets the variables of a file, when the option is read: before the program reads its settings."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        path = Path(str(values))
        if getattr(namespace, self.dest) is not None:
            parser.error(f"give {option_string} once")
        setattr(namespace, self.dest, path)
        # Imported late, because few use it.
        from idlib.settings.env_file import load_env_file

        load_env_file(path)
        # The file may have set LOG_FORMAT, for what is wrong with the rest of the command line.
        use_log_format()


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return the argument parser of a program: `plain_parser`, and an option for a file of settings.

    Args:
        description: As for `plain_parser`.
        example: As for `plain_parser`.
    """
    command_line = plain_parser(description, example)
    command_line.add_argument("--env-file", metavar="FILE", action=_EnvFile, help="read settings from a file, too")
    return command_line


def plain_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return an argument parser that shows an example in its help and ends with status 64 on wrong usage.

    Args:
        description: What the program does, in a sentence or two.
        example: A command line that works, with `{program}` in place of this program's name; empty if only a
            container starts the program.
    """
    program = sys.argv[0] if is_verb() else f"./{os.path.basename(sys.argv[0])}"
    command_line = _Parser(
        description=textwrap.fill(description, _HELP_WIDTH),
        epilog=f"example:\n  {example.format(program=program)}" if example else None,
        # Without a width, the check of each argument would import what finds the width of the terminal.
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, width=_HELP_WIDTH),
        # An abbreviation may become ambiguous when an option is added.
        allow_abbrev=False,
        add_help=False,
    )
    # Those who read the help know how to get it.
    command_line.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    command_line.add_argument("--version", action="version", version=f"%(prog)s {idlib.__version__}")
    return command_line


def require_stdout() -> None:
    """Check that stdout is open.

    Raises:
        ConfigurationError: It is closed, so all output would be lost.
    """
    if sys.stdout is None:
        raise ConfigurationError("Error: stdout is closed, so the output would be lost")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program's main function and end the process with the status it returns, or with that of its error.

    Args:
        main: Returns an exit status, None for success.
    """
    if sys.stderr is None:
        # Otherwise print() with file=None would write error lines to stdout.
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    # It may be off for the time of the imports.
    gc.enable()
    use_log_format()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The output is UTF-8 by contract, whatever the locale.
        sys.stdout.reconfigure(encoding="utf-8")
    status = _exit_status_of(main)
    if status is ExitStatus.TERMINATED:
        _end_by_sigterm()
    _end(status)


def _end(status: ExitStatus) -> NoReturn:
    """End the process at once; `sys.exit` would first take all modules apart, which takes milliseconds."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)


def _exit_status_of(main: Callable[[], int | None]) -> ExitStatus:
    """Run a main function, flush stdout, print its error, and return the exit status."""
    status = ExitStatus.CONFIGURATION
    with _distinguishable_stdout():
        try:
            status = _report_error(main)
            if sys.stdout is not None:
                sys.stdout.flush()
        except _StdoutError as error:
            if error.errno != errno.EPIPE:
                status = status or ExitStatus.CONFIGURATION
                _complain(f"Error: stdout cannot be written: {error.strerror}", status)
            _discard_stdout()
    return status


def _report_error(main: Callable[[], int | None]) -> ExitStatus:
    """Run a main function, print its error unless stdout caused it, and return the exit status."""
    try:
        raise_when_interrupted()
        return ExitStatus(main() or ExitStatus.OK)
    except IdlibError as error:
        tell(error)
        return error.exit_status
    except KeyboardInterrupt as interruption:
        is_terminated = isinstance(interruption, Terminated)
        status = ExitStatus.TERMINATED if is_terminated else ExitStatus.INTERRUPTED
        _complain("Terminated." if is_terminated else "Interrupted.", status, "info")
        return status
    except _StdoutError:
        raise
    except OSError as error:
        # A bug: the code that got this error should have given a fact and a hint. One line is better than a traceback.
        _LOG.debug("Traceback of the system error:", exc_info=True)
        _complain(harmless(f"Error: {_described(error)}"), ExitStatus.CONFIGURATION)
        return ExitStatus.CONFIGURATION


def _complain(line: str, status: ExitStatus, level: str = "error") -> None:
    """Write why a program ends, or what is wrong with it.

    Args:
        line: The text.
        status: The exit status that stands for it.
        level: As in the log.
    """
    write_line(line, level, {"exit_status": int(status), "exit_status_name": status.name.lower()})


def _described(error: OSError) -> str:
    fact = error.strerror or str(error) or type(error).__name__
    return f"{quoted(error.filename)}: {fact}" if isinstance(error.filename, str) else fact


class _StdoutError(OSError):
    """Stdout cannot be written; still an OSError, because callers of print expect that."""


class _Stdout:
    """Stdout, with errors that can be distinguished from those of other files.

    Args:
        stream: Stdout itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write or buffer a text.

        Args:
            text: The text.

        Raises:
            _StdoutError: Stdout cannot be written.
        """
        with _as_stdout_error():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write the buffered text.

        Raises:
            _StdoutError: Stdout cannot be written.
        """
        with _as_stdout_error():
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _as_stdout_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _StdoutError(error.errno, error.strerror) from error


@contextlib.contextmanager
def _distinguishable_stdout() -> Iterator[None]:
    if sys.stdout is None:
        yield
        return
    with contextlib.redirect_stdout(cast("TextIO", _Stdout(sys.stdout))):
        yield


def _end_by_sigterm() -> None:
    """Flush stdout, then end by SIGTERM so that the parent sees what ended the process."""
    with contextlib.suppress(OSError):
        if sys.stdout is not None:
            sys.stdout.flush()
    end_by_sigterm()


def _discard_stdout() -> None:
    """Discard buffered output, so that it does not raise again when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(error: IdlibError) -> None:
    """Print an error on stderr; on a terminal, also print how to set a missing variable.

    Args:
        error: Any error of this library.
    """
    lines = lines_of(error)
    for line in lines:
        _complain(harmless(line), error.exit_status)
    if sys.stderr.isatty():
        # Only on a terminal, because scripts may expect nothing but the published line on stderr.
        for variable in settings.VARIABLES:
            if f"Missing essential configuration env var: {variable.name}" in lines:
                print(f"Set {variable.name} to {variable.form}.", file=sys.stderr)
    sys.stderr.flush()


def lines_of(error: IdlibError) -> tuple[str, ...]:
    """Return the lines of an error for stderr.

    Args:
        error: Any error of this library.
    """
    if isinstance(error, ConfigurationError):
        return error.problems
    if isinstance(error, DiscoveryError):
        return (f"Trouble retrieving certificate from DNS: {error}",)
    return (f"Error: {error}",)
