"""Which results of an attack count as faults: each check can fail."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from chaos.delivery_report import DeliveryReport, ReceiverRun
from chaos.reports import Promise
from hostile import __main__ as program
from hostile import bounds
from hostile.evidence import Balance, Evidence, Measurement, balance_of
from hostile.tricks import TRICKS


def delivery(*printed: str, promised: tuple[str, ...] = ("known 0 0", "known 1 1")) -> DeliveryReport:
    promises = frozenset(Promise(text, "a known sender", "acknowledged") for text in promised)
    return DeliveryReport(promises, (ReceiverRun(printed, was_killed=False),))


def good() -> Evidence:
    return Evidence(
        delivery("known 1 1", "known 0 0", "from a stranger 3"),
        measurements=[Measurement("junk", 1000.0, 500.0, (0.01, 0.02, 0.03))],
        new_names=(500, 500),
        receipts=(10, 9),
        balances=[Balance(Counter(received=7, printed=3, refused=4), 1, 1)],
        peak_memory=bounds.MEMORY_BYTES,
        peak_disk=bounds.DISK_BYTES,
        peak_log_rate=bounds.LOG_BYTES_A_SECOND,
        idle_share=bounds.IDLE_SHARE,
    )


def test_an_attack_without_effect_has_no_faults() -> None:
    assert good().faults() == ()


def lose(evidence: Evidence) -> None:
    evidence.delivery = delivery("known 0 0")


def promise_nothing(evidence: Evidence) -> None:
    evidence.delivery = delivery(promised=())


def print_twice(evidence: Evidence) -> None:
    evidence.delivery = delivery("known 0 0", "known 1 1", "known 0 0")


def print_a_forgery(evidence: Evidence) -> None:
    evidence.delivery = delivery("known 0 0", "known 1 1", "forged")


def lose_a_new_name(evidence: Evidence) -> None:
    evidence.new_names = (500, 499)


def be_late(evidence: Evidence) -> None:
    evidence.measurements = [Measurement("junk", 1000.0, 500.0, (0.01, 1.0))]


def never_print(evidence: Evidence) -> None:
    evidence.measurements = [Measurement("junk", 1000.0, 500.0, (0.01, math.inf))]


def measure_nothing(evidence: Evidence) -> None:
    evidence.measurements = [Measurement("junk", 1000.0, 500.0, ())]


def stop_printing(evidence: Evidence) -> None:
    evidence.stuck = ["20 MB"]


def owe_receipts(evidence: Evidence) -> None:
    evidence.receipts = (10, 8)


def end(evidence: Evidence) -> None:
    evidence.unexpected_ends = ["ended with status 70"]


def be_killed(evidence: Evidence) -> None:
    evidence.memory_kills = 1


def take_memory(evidence: Evidence) -> None:
    evidence.peak_memory += 1


def take_disk(evidence: Evidence) -> None:
    evidence.peak_disk += 1


def log(evidence: Evidence) -> None:
    evidence.peak_log_rate += 1


def use_processor(evidence: Evidence) -> None:
    evidence.idle_share = 1.0


def miscount(evidence: Evidence) -> None:
    evidence.balances = [replace(evidence.balances[0], counted=Counter(received=7, printed=3, refused=5))]


def omit_waiting(evidence: Evidence) -> None:
    evidence.balances = [replace(evidence.balances[0], waiting=None)]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose, "1 of 2 acknowledged known messages were lost: known 1 1"),
        (promise_nothing, "nothing was tested"),
        (print_twice, "1 lines were printed twice"),
        (print_a_forgery, "1 forged messages were printed"),
        (lose_a_new_name, "1 of 500 genuine messages"),
        (be_late, "junk: the 99th percentile delay of 2 known messages is 1.000 s"),
        (never_print, "is inf s"),
        (measure_nothing, "of 0 known messages is inf s"),
        (stop_printing, "not printed any more after 20 MB"),
        (owe_receipts, "8 of the 10 receipts"),
        (end, "the receiver ended with status 70"),
        (be_killed, "killed the receiver 1 times because of its memory use"),
        (take_memory, "MB of memory"),
        (take_disk, "MB of disk"),
        (log, "it logged"),
        (use_processor, "100% of a processor"),
        (miscount, "its counters disagree: received 7 + waiting at start 1, and printed 3 + refused 5 + waiting 1"),
        (omit_waiting, "does not report how many messages wait"),
    ],
)
def test_each_broken_promise_is_one_fault(spoil: Callable[[Evidence], None], said: str) -> None:
    evidence = good()
    spoil(evidence)
    (fault,) = evidence.faults()
    assert said in fault


def test_the_balance_of_a_run_has_its_last_counters() -> None:
    assert balance_of(Counter(received=7, printed=3, refused=4, waiting=1), 1) == Balance(
        Counter(received=7, printed=3, refused=4, waiting=1), 1, 1
    )
    assert balance_of(Counter(received=7, printed=3, refused=4), 0).waiting is None


def test_a_line_repeated_because_of_a_kill_is_not_a_fault() -> None:
    evidence = good()
    runs = (ReceiverRun(("known 0 0", "known 1 1"), was_killed=True), ReceiverRun(("known 1 1",), was_killed=False))
    evidence.delivery = DeliveryReport(evidence.delivery.promises, runs)
    assert evidence.faults() == ()


def test_the_percentile_is_the_next_higher_delay() -> None:
    delays = tuple(number / 1000 for number in range(1, 201))
    assert Measurement("junk", 1.0, 1.0, delays).high == 0.198
    assert Measurement("junk", 1.0, 1.0, delays[:40]).high == 0.04


@pytest.mark.parametrize(("spoil", "status"), [(None, 0), (lose, 1)])
def test_the_program_fails_if_a_message_is_lost(
    spoil: Callable[[Evidence], None] | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evidence = good()
    if spoil is not None:
        spoil(evidence)

    @contextmanager
    def no_world(seed: int) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(obstacle="read-only file system")

    monkeypatch.setattr(program, "open_world", no_world)
    monkeypatch.setattr(program, "Attack", lambda *_: SimpleNamespace(run=lambda: evidence))
    monkeypatch.setattr(program, "raise_when_signalled", lambda: None)
    monkeypatch.setattr("sys.argv", ["hostile", "--seconds", "60", "--seed", "7"])
    assert program.main() == status
    said = capsys.readouterr().out
    assert said.startswith("seed 7, 60 s\nNOT under the container's limits")
    assert ("FAULT: 1 of 2 acknowledged" in said) == bool(status)
    assert said.rstrip().endswith("seed 7")


def test_each_kind_of_junk_has_a_unique_name() -> None:
    names = [trick.name for trick in TRICKS]
    assert len(set(names)) == len(names)
