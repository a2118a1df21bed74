"""The resident sender: keeps the container open for commands, and delivers queued messages.

It imports little until there is something to deliver, because it stays in memory as long as the device runs.
"""

import argparse
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from idlib.commands import command
from idlib.errors import ConfigurationError, DatabaseError, ExitStatus, IdlibError, StoreError
from idlib.output import counted
from idlib.program.command_line import parser, run, tell
from idlib.program.environment import read_environment
from idlib.program.imports import leave_out_dns_resolver
from idlib.program.keep_open import IDLE, announce, service_manager
from idlib.program.log_format import relay
from idlib.settings import RESIDENT_SENDER_READS, SENDER_READS, Settings
from idlib.storage.database_outage import DatabaseOutage
from idlib.storage.outboxes import is_to_be_opened, open_outbox
from idlib.storage.queued import Waiting
from idlib.storage.watching import is_watched, watching
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import leave_command
from messaging_sender.bounds import PATIENCE_SECONDS
from messaging_sender.delivery_counters import DeliveryCounters
from messaging_sender.outbox_places import LOOK_SECONDS, OutboxPlace, outbox_place
from messaging_sender.sealed import KeyLog
from messaging_sender.sender_clock import COMMAND_FILE_NAME, DeliveryClock, SenderClock

if TYPE_CHECKING:
    from idlib.system.service_manager import ServiceManager

_LOG = logging.getLogger("messaging_sender")

_SERVICE: Final = "messaging_sender"
_TROUBLE_SECONDS: Final = 10.0
SETTINGS_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
# How often the service manager is told how many messages wait.
_FIRST_STATUS_SECONDS: Final = 2.0
_STATUS_SECONDS: Final = 10.0
# The time at the beginning of a log line, as text and as JSON.
_TIME: Final = re.compile(r'^(?:\{"time": "[^"]*", |\S+Z )', re.MULTILINE)
# Less than the five seconds within which the service promises to end.
_GRACE_SECONDS: Final = 2.0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        f"Deliver queued messages until stopped, and keep the {_SERVICE} container open for commands. {_advice()}",
        "IDENTITY_NAME=alice._device.example.com {program}",
    )
    line.add_argument("--health", action="store_true", help="print how many messages are queued, and exit")
    line.add_argument("--check", action="store_true", help="check the settings, and exit")
    line.add_argument(
        "--trust-clock",
        action="store_true",
        help="make the resident sender trust the clock, even if it has shown a later time before",
    )
    return line


def main() -> int:
    """Run until SIGTERM or SIGINT, or do what an option asks for; return the exit status.

    Raises:
        ConfigurationError: With `--check`, the settings cannot be used.
    """
    arguments = command_line().parse_args()
    if arguments.health:
        return _tell_health()
    if arguments.check:
        _judge(read_environment(RESIDENT_SENDER_READS))
        return ExitStatus.OK
    if arguments.trust_clock:
        shown = leave_command(read_environment(SENDER_READS).data_path, COMMAND_FILE_NAME)
        print(f"The resident sender will trust the clock within 10 s; the clock shows {shown}.")
        return ExitStatus.OK
    leave_out_dns_resolver()
    ends = {signal.SIGTERM, signal.SIGINT}
    # Before a thread is started, so that it inherits the blocked signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    manager = service_manager()
    announce(_SERVICE, _advice())
    stopping = threading.Event()
    worker = None
    try:
        settings = read_environment(RESIDENT_SENDER_READS)
    except ConfigurationError as error:
        if manager is not None:
            raise
        # Keep running: the operator needs this terminal to correct the settings.
        tell(error)
    else:
        counters = DeliveryCounters()
        if settings.metrics_address is not None:
            _open_metrics(settings, counters)
        delivery = (settings, stopping, counters)
        worker = threading.Thread(target=deliver, args=delivery, name="Outbox-Sender", daemon=True)
        worker.start()
    has_died = False
    if manager is None or worker is None:
        signal.sigwait(ends)
    else:
        has_died = _tell_until_ended(manager, ends, worker, settings)
    stopping.set()
    if worker is not None:
        worker.join(_GRACE_SECONDS)
    return ExitStatus.THREAD_DIED if has_died else ExitStatus.OK


def _tell_until_ended(
    manager: "ServiceManager", ends: set[signal.Signals], worker: threading.Thread, settings: Settings
) -> bool:
    """Tell the service manager how the sender is until a signal comes; return whether its thread ended by itself."""
    manager.ready()
    seconds = _FIRST_STATUS_SECONDS
    while worker.is_alive():
        if manager.wait(ends, seconds) is not None:
            manager.stopping()
            return False
        manager.status(_status(settings))
        seconds = _STATUS_SECONDS
    return True


def _status(settings: Settings) -> str:
    if not is_watched(settings.data_path):
        return "the settings or DATA_PATH cannot be used yet: look at the log"
    try:
        return _health_of(_waiting(settings))[1]
    except (ConfigurationError, StoreError) as error:
        return str(error).splitlines()[0]


def _open_metrics(settings: Settings, counters: DeliveryCounters) -> None:
    # Imported late, because the process is kept small.
    from idlib.metrics import Metrics, open_metrics
    from messaging_sender.metrics import readings

    open_metrics(settings.metrics_address, Metrics("sender", lambda: readings(counters)))


def _advice() -> str:
    return f"To send a message, run {command('send')} RECIPIENT MESSAGE; see --help."


def deliver(settings: Settings, stopping: threading.Event, counters: DeliveryCounters) -> None:
    """Deliver messages from the outbox, once the settings can be used.

    Args:
        settings: From the environment.
        stopping: Set to make this return.
        counters: Count what is done.
    """
    if not _await_usable_settings(stopping):
        return
    place = outbox_place(settings)
    _LOG.info("Watching the outbox %s", place.description)
    with ExitStack() as stack:
        stack.callback(place.close)
        _watch(settings, place, stopping, stack, counters)


def _await_usable_settings(stopping: threading.Event) -> bool:
    """Print once what is wrong with the settings and wait until it is corrected; return False if `stopping` is set.

    A separate process checks the settings, because the imports for that triple the memory of a process.
    """
    reported = ""
    while not stopping.is_set():
        status, output = _check(stopping)
        problems = _TIME.sub("", output)
        if problems != reported:
            relay(output)
        if status != ExitStatus.CONFIGURATION:
            if reported:
                _LOG.info("The settings can be used now")
            return not stopping.is_set()
        reported = problems
        stopping.wait(SETTINGS_SECONDS)
    return False


def _check(stopping: threading.Event) -> tuple[int, str]:
    """Check the settings in a process, killed if `stopping` is set; return its exit status and what it printed."""
    try:
        process = subprocess.Popen(
            # Not from the present directory, where anyone may have put a package of the same name.
            [sys.executable, "-P", "-m", "messaging_sender.application", "--check"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError:
        # No process can be started at present: errors in the settings show up with the first message.
        return ExitStatus.OK, ""
    with process:
        while True:
            try:
                _, output = process.communicate(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    process.kill()
            else:
                return process.returncode, output


def _judge(settings: Settings) -> None:
    # Imported late, because it triples the memory of the process.
    from messaging_sender.judging import judge

    judge(settings)


def _watch(
    settings: Settings, place: OutboxPlace, stopping: threading.Event, stack: ExitStack, counters: DeliveryCounters
) -> None:
    is_seen = False
    local_clock = SenderClock(settings.data_path)
    stack.callback(local_clock.finish)
    clock = place.clock(local_clock)
    unseen, outage, own_record = FailureLog(_LOG), FailureLog(_LOG), FailureLog(_LOG)
    database = DatabaseOutage(_LOG)
    key_log = KeyLog()
    while not stopping.is_set():
        if not is_seen:
            try:
                stack.enter_context(watching(settings.data_path))
                is_seen = True
            except StoreError as error:
                unseen.begin(f"Messages cannot be queued: {error}")
        clock.keep()
        if place.is_known_to_be_empty():
            counters.note_empty()
            stopping.wait(LOOK_SECONDS)
            continue
        try:
            _empty_outbox(settings, place, stopping, own_record, clock, key_log, counters, database.end)
            place.note_emptied()
            outage.end()
            database.end()
        except DatabaseError as error:
            counters.note_unknown()
            database.begin(error)
            stopping.wait(LOOK_SECONDS)
        except IdlibError as error:
            counters.note_unknown()
            outage.begin(f"Messages wait: {error}")
            stopping.wait(_TROUBLE_SECONDS)
        except Exception:  # noqa: BLE001  # an error of ours must not end what later messages need
            _LOG.exception("Internal error while processing the outbox")
            stopping.wait(_TROUBLE_SECONDS)


def _empty_outbox(
    settings: Settings,
    place: OutboxPlace,
    stopping: threading.Event,
    own_record: FailureLog,
    clock: DeliveryClock,
    key_log: KeyLog,
    counters: DeliveryCounters,
    note_use: Callable[[], None],
) -> None:
    with place.opened() as outbox:
        waiting = outbox.waiting()
        if not waiting.number:
            return
        _LOG.info("%s in the outbox", counted(waiting.number, "message"))
        outbox.hold_for_delivery()
        # Imported late, because it triples the memory of the process.
        from messaging_sender.outbox_sender import OutboxSender

        with counters.reading(outbox):
            OutboxSender(settings, outbox, stopping, own_record, clock, key_log, counters, note_use).empty()


def _tell_health() -> int:
    try:
        settings = read_environment(RESIDENT_SENDER_READS)
        # The promise is to print one line.
        logging.disable()
        if not is_watched(settings.data_path):
            # A running resident sender has checked them already, and the check takes seconds on a small device.
            _judge(settings)
        waiting = _waiting(settings)
    except (ConfigurationError, StoreError) as error:
        print(str(error).splitlines()[0][:100])
        return 1
    is_healthy, line = _health_of(waiting)
    print(line)
    return 0 if is_healthy else 1


def _health_of(waiting: Waiting) -> tuple[bool, str]:
    """Return whether messages are delivered in time, and the health in one line."""
    if waiting.since is None:
        return True, IDLE
    is_stuck = time.time() - waiting.since > PATIENCE_SECONDS
    since = datetime.fromtimestamp(waiting.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"{'' if is_stuck else 'ok: '}messages waiting to be delivered: {waiting.number}, since {since}"
    return not is_stuck, line


def _waiting(settings: Settings) -> Waiting:
    if not is_to_be_opened(settings):
        return Waiting(0, None)
    with open_outbox(settings) as outbox:
        return outbox.waiting()


if __name__ == "__main__":
    run(main)
