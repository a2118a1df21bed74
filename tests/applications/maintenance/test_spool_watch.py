"""When the maintenance service tries to publish what is in the spool."""

import itertools
import os
from pathlib import Path

import pytest

from idlib.epochs.spool import spool_path
from idlib.names import IdentityName
from idlib.settings import load
from messaging_maintenance.spool_watch import SpoolWatch, spool_of

NAME = "alice._device.example.test"


class Clock:
    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.watch = SpoolWatch(str(path), lambda seconds: seconds, lambda: self.now)

    def attempts(self, seconds: float, *, is_published: bool) -> list[float]:
        """Return when attempts are made within a time, all of which end in the same way."""
        start, made = self.now, []
        while self.now < start + seconds:
            if self.watch.is_due():
                self.watch.end(is_published=is_published)
                made.append(self.now - start)
            self.now += 60
        return made


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def clock(spool: Path) -> Clock:
    return Clock(spool)


def replace(spool: Path, text: str) -> None:
    new = spool.with_suffix(".new")
    new.write_text(text)
    new.replace(spool)


def test_without_a_spool_nothing_is_tried(clock: Clock) -> None:
    assert clock.attempts(86_400, is_published=True) == []


def test_a_new_spool_is_published_at_the_next_look_and_once(clock: Clock, spool: Path) -> None:
    clock.attempts(600, is_published=True)
    replace(spool, "one")
    assert clock.attempts(86_400, is_published=True) == [0]
    replace(spool, "two")
    assert clock.attempts(86_400, is_published=True) == [0]


def test_a_failure_is_retried_soon_and_then_ever_more_rarely(clock: Clock, spool: Path) -> None:
    replace(spool, "one")
    made = clock.attempts(20_000, is_published=False)
    assert made[:6] == [0, 120, 360, 840, 1800, 3720]
    assert {later - earlier for earlier, later in itertools.pairwise(made[5:])} == {3600}


def test_a_new_spool_does_not_wait_for_the_retry_of_the_one_before(clock: Clock, spool: Path) -> None:
    replace(spool, "one")
    clock.attempts(20_000, is_published=False)
    replace(spool, "two")
    assert clock.attempts(400, is_published=False) == [0, 120, 360]


def test_a_retry_that_succeeds_is_the_last(clock: Clock, spool: Path) -> None:
    replace(spool, "one")
    assert clock.attempts(100, is_published=False) == [0]
    assert clock.attempts(86_400, is_published=True) == [0]


def test_what_is_written_while_an_attempt_runs_is_published_afterwards(clock: Clock, spool: Path) -> None:
    replace(spool, "one")
    assert clock.watch.is_due()
    replace(spool, "two")
    clock.watch.end(is_published=True)
    assert clock.watch.is_due()


def test_in_doubt_it_is_tried_again_but_not_before_a_retry_is_due(clock: Clock, spool: Path) -> None:
    replace(spool, "one")
    clock.attempts(600, is_published=True)
    clock.watch.doubt()
    assert clock.attempts(60, is_published=False) == [0]
    clock.watch.doubt()
    assert clock.attempts(86_400, is_published=True) == [60]


def test_a_spool_that_cannot_be_reached_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not Clock(tmp_path / "file" / "spool").watch.is_due()


@pytest.mark.parametrize(
    "environment",
    [
        {"IDENTITY_NAME": NAME},
        {"IDENTITY_NAME": f"{NAME.upper()}.", "EPOCH_SPOOL": "/spool"},
        {"IDENTITY_NAME": NAME, "EPOCH_SPOOL": "~/spool"},
    ],
)
def test_the_path_is_where_the_receiver_writes(environment: dict[str, str]) -> None:
    settings = load(environment, {"IDENTITY_NAME", "EPOCH_SPOOL"})
    assert os.path.normpath(spool_of(environment)) == str(spool_path(settings.epoch_spool, IdentityName(NAME)))
