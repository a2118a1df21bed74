"""What all programs do alike: read settings, log to stderr, and turn an error into one line and an exit status."""

import argparse
import contextlib
import io
import logging
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Final, NoReturn

import idlib
from idlib import settings
from idlib.errors import ConfigurationError, DiscoveryError, ExitStatus, IdlibError
from idlib.interruption import Terminated, end_by_sigterm, raise_when_interrupted
from idlib.output import harmless

_HELP_WIDTH: Final = 78


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors end with the status of wrong usage, as sysexits.h has it."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {harmless(message)}; see {self.prog} --help", file=sys.stderr)
        sys.exit(ExitStatus.USAGE)


class _Formatter(logging.Formatter):
    """A time in UTC, the level and the text, on one line whatever the text holds."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return an argument parser that shows an example in its help and ends with status 64 on wrong usage.

    Args:
        description: What the program does, in a sentence or two.
        example: A command line that works; empty for a program that is only started by a container.
    """
    command_line = _Parser(
        description=textwrap.fill(description, _HELP_WIDTH),
        epilog=f"example:\n  {example}" if example else None,
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


def beside(program: str) -> str:
    """Return how another program of the same directory is called, in the way in which this one was.

    Args:
        program: The name of its file.
    """
    return f"{_own_directory()}/{program}"


def of_service(service: str, program: str) -> str:
    """Return how a program of another service is called: by its path in a checkout, else inside its container.

    Args:
        service: The other service.
        program: The name of the program's file.
    """
    path = os.path.normpath(f"{_own_directory()}/../../{service}/src/{program}")
    return shlex.quote(path) if os.path.exists(path) else f"./{program} in {service}"


def _own_directory() -> str:
    """Return the directory of this program, in the way in which it was called."""
    called = sys.argv[0]
    return os.path.dirname(os.path.realpath(called) if os.path.islink(called) else called) or "."


def read_settings() -> settings.Settings:
    """Return the settings of the environment, and log to stderr from now on what their LOG_LEVEL lets through.

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    read = settings.load(os.environ)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=read.log_level.upper(), handlers=[handler], force=True)
    # A stranger's certificate can make a library warn.
    logging.captureWarnings(capture=True)
    return read


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
    status = ExitStatus.CONFIGURATION
    try:
        raise_when_interrupted()
        status = ExitStatus(main() or ExitStatus.OK)
        if sys.stdout is not None:
            sys.stdout.flush()
    except IdlibError as error:
        tell(error)
        status = error.exit_status
    except KeyboardInterrupt as interruption:
        is_terminated = isinstance(interruption, Terminated)
        print("Terminated." if is_terminated else "Interrupted.", file=sys.stderr)
        status = ExitStatus.TERMINATED if is_terminated else ExitStatus.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        print(f"Error: stdout cannot be written: {error.strerror}", file=sys.stderr)
        status = status or ExitStatus.CONFIGURATION
        _forget_stdout()
    if status is ExitStatus.TERMINATED:
        _end_by_sigterm()
    sys.exit(status)


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
