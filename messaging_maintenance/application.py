"""Keeps the container running for commands and, if a publishing method is configured, looks after the identity.

It imports very little, because it stays in memory as long as the device runs: each check runs in a process of its own.
"""

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from idlib.program.keep_open import IDLE, announce, keep_open, service_manager
from idlib.program.log_format import use_log_format
from idlib.system import update_lock
from messaging_maintenance.spool_watch import SpoolWatch, spool_of

if TYPE_CHECKING:
    import argparse

    from idlib.system.service_manager import ServiceManager

SERVICE: Final = "maintenance"
ADVICE: Final = (
    "Run ./new_identity.py, or ./create_selfsigned_id.py and then ./generate_tlsa.py; with a CA, run"
    " ./create_id_csr.py and then ./install_certificate.py. Each has --help."
)
_LOOKING_AFTER: Final = "The identity is checked twice a day; ./application.py --health shows the last result."
_CHECKING: Final = "The identity is checked twice a day."
# What the service manager is told of the checks; `--health` prints more, and would take memory here.
_NOT_CHECKED: Final = "ok: the identity has not been checked yet"
_CHECKED: Final = "ok: the last identity check succeeded"
_FAILED: Final = "the last identity check failed: look at the log"
_ENDS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
# Any of them makes the service check the identity.
_TRIGGERS: Final = ("DNS_PUBLISH", "ROTATE_EVERY")
_CHECK_SECONDS: Final = 12 * 3600.0
_FIRST_CHECK_SECONDS: Final = 60.0
_SHORTEST_PAUSE_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 8.0
# A check waits for name servers and for the user's commands, each for some minutes at most.
_LONGEST_CHECK_SECONDS: Final = 3600.0
_CHECK: Final = ["-m", "messaging_maintenance.watch"]
_NOTE: Final = ["-m", "messaging_maintenance.note_running_time"]
_NOTE_SECONDS: Final = 600.0
_PUBLISH: Final = ["-m", "messaging_maintenance.watch_epochs"]
# Only the file's status is read.
_LOOK_SECONDS: Final = 60.0
# As in idlib.settings and idlib.keys, which would need too much memory here.
_DEFAULT_DIRECTORY: Final = "/identity"
_STATE_SUFFIX: Final = ".rotation.json"
# Of a value that idlib.settings accepts.
_MAX_SPEED_DIGITS: Final = 8


def main(advice: str = ADVICE) -> None:
    """Wait for SIGTERM or SIGINT, and check the identity twice a day; with `--health`, print the health.

    Args:
        advice: What the operator can do, in a sentence.
    """
    use_log_format()
    if sys.argv[1:] == ["--health"] and not any(map(os.environ.get, _TRIGGERS)):
        # Without an import: the health of a container is checked every 30 s.
        print(IDLE)
        return
    if len(sys.argv) > 1:
        _read_arguments()
    checks = any(map(os.environ.get, _TRIGGERS))
    if "METRICS_ADDRESS" in os.environ:
        _serve_metrics(checks=checks)
    if not checks:
        keep_open(SERVICE, advice)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDS, signal.SIGCHLD})
    manager = service_manager()
    # The container has just started, so no program is writing keys.
    update_lock.remove_leftover(update_lock.PATH)
    announce(SERVICE, f"{_LOOKING_AFTER if advice is ADVICE else _CHECKING}\n{advice}")
    epochs = SpoolWatch(spool_of(os.environ), _pause) if os.environ.get("DNS_PUBLISH") else None
    if manager is not None:
        manager.ready()
        manager.status(_NOT_CHECKED)
    with contextlib.suppress(_EndError):
        _wait(manager, _pause(_FIRST_CHECK_SECONDS), epochs)
        while True:
            _tell(manager, _run("identity check", _CHECK, manager))
            if epochs is not None:
                epochs.doubt()
            _wait(manager, _pause(_CHECK_SECONDS), epochs)
    if manager is not None:
        manager.stopping()


def _tell(manager: "ServiceManager | None", status: int | None) -> None:
    """Tell the service manager how a check has ended."""
    if manager is not None:
        manager.status(_CHECKED if status == 0 else _FAILED)


class _EndError(Exception):
    """The service is to end."""


def command_line() -> "argparse.ArgumentParser":
    """Return the parser of the command line."""
    # Imported late, because the service itself is started without arguments.
    from idlib.program.command_line import parser

    line = parser(f"Keep the {SERVICE} container open, and look after the identity. {ADVICE}", "")
    line.add_argument("--health", action="store_true", help="print the health of the service, and exit")
    return line


def _read_arguments() -> None:
    """Read the command line, and print the health if that is wanted."""
    from idlib.errors import IdlibError
    from idlib.program.command_line import tell

    try:
        wants_health = command_line().parse_args().health
    except IdlibError as error:
        tell(error)
        sys.exit(error.exit_status)
    if not wants_health:
        return
    if not any(map(os.environ.get, _TRIGGERS)):
        print(IDLE)
        sys.exit()
    from messaging_maintenance.health import print_health

    sys.exit(print_health())


def _serve_metrics(*, checks: bool) -> None:
    # Imported late, because the process is kept small.
    from idlib.errors import ConfigurationError
    from idlib.program.command_line import tell
    from messaging_maintenance.metrics import serve

    # A thread is started, which must not get the signals that this service waits for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
    try:
        serve(checks=checks)
    except ConfigurationError as error:
        tell(error)
        sys.exit(error.exit_status)


def _pause(seconds: float) -> float:
    """Return a random pause of about this length, so that a fleet does not ask all at once."""
    speed = os.environ.get("ROTATE_TEST_SPEED", "1")
    # The check reports a bad value.
    seconds /= max(1, int(speed)) if speed.isdecimal() and len(speed) <= _MAX_SPEED_DIGITS else 1
    return max(_SHORTEST_PAUSE_SECONDS, seconds * random.uniform(0.5, 1.5))  # noqa: S311  # no secret


def _wait(manager: "ServiceManager | None", seconds: float, epochs: SpoolWatch | None) -> None:
    """Wait; meanwhile publish new epoch records, and note the running time of a rotation."""
    deadline = time.monotonic() + seconds
    note_at = time.monotonic() + _NOTE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if _signal(manager, _ENDS, min(left, _pause(_LOOK_SECONDS), max(0.0, note_at - time.monotonic()))):
            raise _EndError
        if epochs is not None and epochs.is_due():
            epochs.end(is_published=_run("attempt to publish epoch records", _PUBLISH, manager) == 0)
        if time.monotonic() >= note_at:
            note_at = time.monotonic() + _NOTE_SECONDS
            if _is_rotating():
                _run("note of the running time", _NOTE, manager)


def _is_rotating() -> bool:
    """Return whether a rotation is under way."""
    directory = os.path.expanduser(os.environ.get("CRYPTO_PATH") or _DEFAULT_DIRECTORY)
    try:
        return any(name.endswith(_STATE_SUFFIX) for name in os.listdir(directory))
    except OSError:
        # The check reports it.
        return False


def _signal(
    manager: "ServiceManager | None", signals: Collection[signal.Signals], seconds: float
) -> signal.struct_siginfo | None:
    """Wait for blocked signals, and return the one that has come, or None."""
    return signal.sigtimedwait(signals, seconds) if manager is None else manager.wait(signals, seconds)


def _run(what: str, program: list[str], manager: "ServiceManager | None") -> int | None:
    """Run a program in a process of its own, and return its exit status; None if it was not started or was ended."""
    try:
        check = os.posix_spawn(
            sys.executable,
            # Not from the present directory, where anyone may have put a package of the same name.
            [sys.executable, "-P", *program, sys.argv[0]],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            # A group, so that the commands that it runs end with it; the signals blocked here would not end it.
            setpgroup=0,
            setsigmask=(),
        )
    except OSError as error:
        # For lack of memory or processes, which may be there at the next check.
        _report(f"The {what} cannot be started: {error.strerror}")
        return None
    deadline = time.monotonic() + _LONGEST_CHECK_SECONDS
    while (status := _status_of(check)) is None:
        arrived = _signal(manager, {*_ENDS, signal.SIGCHLD}, max(0.0, deadline - time.monotonic()))
        if arrived is None:
            _report(f"The {what} did not end within {_LONGEST_CHECK_SECONDS:.0f} s, and is ended")
            _end(check)
            return None
        if arrived.si_signo in _ENDS:
            _end(check)
            raise _EndError
    return status


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _status_of(check: int) -> int | None:
    """Return the exit status of a check that has ended, None while it runs."""
    ended, status = os.waitpid(check, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _end(check: int) -> None:
    """End a check; every step that it takes can be interrupted at any moment."""
    os.killpg(check, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while _status_of(check) is None:
        # Another process may have ended instead.
        left = deadline - time.monotonic()
        if left <= 0 or signal.sigtimedwait({signal.SIGCHLD}, left) is None:
            os.killpg(check, signal.SIGKILL)
            os.waitpid(check, 0)
            return
