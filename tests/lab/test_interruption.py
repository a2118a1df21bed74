import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.interruption import ignore_signals, raise_when_signalled, signals_deferred

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_ctrl_c_raises_once() -> None:
    raise_when_signalled()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    for number in SIGNALS:
        signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_program_with_their_status(number: signal.Signals) -> None:
    raise_when_signalled()
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == 128 + number


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_when_signalled()
    signal.raise_signal(signal.SIGHUP)


def test_a_deferred_signal_is_raised_at_the_end_of_the_context() -> None:
    raise_when_signalled()
    undisturbed = False

    def make() -> None:
        nonlocal undisturbed
        with signals_deferred():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            undisturbed = True

    with pytest.raises(KeyboardInterrupt):
        make()
    assert undisturbed


def test_a_process_started_meanwhile_can_be_interrupted() -> None:
    raise_when_signalled()
    source = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    with signals_deferred():
        output = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert output == "True\n"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_signals_can_be_ignored_for_good() -> None:
    raise_when_signalled()
    ignore_signals()
    for number in SIGNALS:
        signal.raise_signal(number)
