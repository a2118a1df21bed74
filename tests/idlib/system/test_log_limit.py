"""A flood of similar lines causes a limited number of log lines, hides no other line, and is counted completely."""

import logging
import random
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import Reason
from idlib.system.log_limit import (
    BURST,
    MAX_CHARACTERS,
    MAX_KEYS,
    SECONDS_PER_LINE,
    TOTAL_BURST,
    TOTAL_SECONDS_PER_LINE,
    LimitedLog,
)

SUMMARY = re.compile(r" \(and (\d+) more in the last (\d+) s\)$")


@dataclass
class Clock:
    now: float = 1000.0
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("limited"))
    limited: LimitedLog = field(init=False)

    def __post_init__(self) -> None:
        self.limited = LimitedLog(self.log, lambda: self.now)

    def refuse(self, reason: str, number: int = 1) -> None:
        for count in range(number):
            self.limited.write(logging.WARNING, reason, "refused reason=%s message %d", reason, count)

    def wait(self, seconds: int) -> None:
        """Let time pass, and write held back lines each second, like the receiver's supervisor."""
        for _ in range(seconds):
            self.now += 1
            self.limited.flush()


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    return Clock()


def stood_for(lines: Iterable[str]) -> int:
    """Return how many calls the lines report."""
    return sum(1 + int(found[1]) if (found := SUMMARY.search(line)) else 1 for line in lines)


def test_a_few_lines_are_written_at_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.refuse("replay", BURST)
    assert caplog.messages == [f"refused reason=replay message {number}" for number in range(BURST)]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_one_line_counts_the_rest_of_a_flood(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.refuse("replay", BURST + 1234)
    clock.wait(10)
    assert caplog.messages[BURST:] == ["refused reason=replay message 1253 (and 1233 more in the last 10 s)"]


def test_a_single_line_that_was_held_back_is_written_unchanged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.refuse("replay", BURST + 1)
    clock.wait(10)
    assert caplog.messages[BURST:] == [f"refused reason=replay message {BURST}"]


def test_a_lasting_flood_causes_a_line_every_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(600):
        clock.refuse("replay", 50)
        clock.wait(1)
    assert len(caplog.messages) == BURST + 600 / SECONDS_PER_LINE
    assert stood_for(caplog.messages) == 600 * 50


def test_a_flood_of_one_reason_hides_no_other(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.refuse("replay", 5000)
    clock.wait(60)
    clock.refuse("replay", 5000)
    caplog.clear()
    clock.refuse("oversized")
    assert caplog.messages == ["refused reason=oversized message 0"]


def test_after_a_pause_lines_are_written_again(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.refuse("replay", 5000)
    clock.wait(round(SECONDS_PER_LINE * (BURST + 1)))
    caplog.clear()
    clock.refuse("replay", BURST)
    assert len(caplog.messages) == BURST


def test_held_back_lines_are_written_at_the_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.refuse("replay", BURST + 7)
    clock.limited.flush()
    assert stood_for(caplog.messages) == BURST
    clock.limited.finish()
    assert stood_for(caplog.messages) == BURST + 7
    clock.limited.finish()
    assert stood_for(caplog.messages) == BURST + 7


def test_the_summary_has_the_level_of_its_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(BURST + 2):
        clock.limited.write(logging.INFO, "receipt", "refused reason=receipt")
    clock.wait(10)
    assert caplog.messages[-1] == "refused reason=receipt (and 1 more in the last 10 s)"
    assert caplog.records[-1].levelno == logging.INFO


def test_lines_below_the_log_level_are_neither_written_nor_counted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    clock.refuse("replay", 5000)
    clock.limited.finish()
    assert caplog.messages == []


def test_debug_holds_nothing_back(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock.refuse("replay", 500)
    assert caplog.messages == [f"refused reason=replay message {number}" for number in range(500)]


def test_a_long_line_is_shortened(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.limited.write(logging.WARNING, "replay", "refused reason=%s", "x" * 10_000)
    assert len(caplog.messages[0]) == MAX_CHARACTERS
    assert caplog.messages[0].endswith("x...")


def test_keys_above_the_limit_share_a_rate(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100 * MAX_KEYS):
        clock.refuse(f"invented-{number}")
    assert len(clock.limited._kinds) == MAX_KEYS
    clock.wait(60)
    assert stood_for(caplog.messages) == 100 * MAX_KEYS


def test_there_is_room_for_every_reason() -> None:
    assert len(Reason) < MAX_KEYS


def test_the_number_of_lines_is_limited_for_floods_of_all_reasons(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = [*map(str, Reason), "waiting"]
    seconds = 3600
    for _ in range(seconds):
        for reason in reasons:
            clock.refuse(reason, 5)
        clock.wait(1)
    assert len(caplog.messages) <= TOTAL_BURST + seconds / TOTAL_SECONDS_PER_LINE
    # And each reason gets as many lines as the others.
    turns = Counter(line.split()[1] for line in caplog.messages[TOTAL_BURST:])
    assert set(turns) == {f"reason={reason}" for reason in reasons}
    assert max(turns.values()) - min(turns.values()) <= 2
    clock.limited.finish()
    assert stood_for(caplog.messages) == seconds * len(reasons) * 5


def test_a_day_of_floods_takes_as_much_space_as_documented(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    document = (Path(__file__).parents[3] / "docs/limits.md").read_text()
    said = re.search(
        r"one kind adds at most (\d+) MB a day to the log, and\s+floods of all kinds .* (\d+) MB", document
    )
    assert said
    beginning = "2026-11-25T20:00:00.000Z WARNING "
    for limit, reasons in ((said[1], [Reason.REPLAY]), (said[2], [*Reason, "waiting"])):

        def flood(seconds: int, reasons: Sequence[str] = reasons) -> None:
            for _ in range(seconds):
                for reason in reasons:
                    for _ in range(2):
                        clock.limited.write(logging.WARNING, reason, "refused reason=%s %s", reason, "x" * 1000)
                clock.wait(1)

        # Use up the initial bursts.
        flood(600)
        caplog.clear()
        flood(3600)
        octets = sum(len(f"{beginning}{line}\n") for line in caplog.messages)
        assert 0.8 * float(limit) < 24 * octets / 1e6 <= float(limit)


def test_no_line_of_several_threads_is_lost(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    is_over = threading.Event()

    def flush() -> None:
        while not is_over.is_set():
            clock.now += 1
            clock.limited.flush()

    flusher = threading.Thread(target=flush)
    writers = [threading.Thread(target=clock.refuse, args=(f"reason-{number % 3}", 2000)) for number in range(6)]
    for thread in (flusher, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    is_over.set()
    flusher.join()
    clock.limited.finish()
    assert stood_for(caplog.messages) == 6 * 2000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(), st.integers(1, 100), st.integers(1, 200))
def test_each_call_is_written_or_counted(caplog: pytest.LogCaptureFixture, seed: int, keys: int, rounds: int) -> None:
    caplog.clear()
    caplog.set_level(logging.INFO)
    clock, chance, calls, began = Clock(), random.Random(seed), 0, 1000.0
    for _ in range(rounds):
        number = chance.randrange(40)
        clock.refuse(f"reason-{chance.randrange(keys)}", number)
        calls += number
        clock.now += chance.choice((0, 0.01, 1, 30))
        if chance.random() < 0.5:
            clock.limited.flush()
    assert len(caplog.messages) <= TOTAL_BURST + (clock.now - began) / TOTAL_SECONDS_PER_LINE
    clock.limited.finish()
    assert stood_for(caplog.messages) == calls
