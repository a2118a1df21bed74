import logging
import threading
import time

import pytest

from idlib.errors import TemporaryDiscoveryError
from messaging_maintenance.checks.result import Item, Status, ok
from messaging_maintenance.checks.running import Once, Part, in_parallel, run_parts


def test_parts_run_side_by_side_and_their_items_stay_in_order() -> None:
    together = threading.Barrier(2, timeout=10)

    def find(identifier: str) -> list[Item]:
        together.wait()
        return [ok(identifier, "seen")]

    parts = [Part(["chain"], lambda: find("chain")), Part(["settings"], lambda: find("settings"))]
    assert [item.id for item in run_parts(parts, 10)] == ["chain", "settings"]


def test_a_part_that_hangs_is_reported_and_hides_no_other() -> None:
    release = threading.Event()

    def hang() -> list[Item]:
        release.wait(30)
        return []

    parts = [
        Part(["chain", "chain.signed"], hang),
        Part(["settings"], lambda: [ok("settings", "a")]),
    ]
    started = time.monotonic()
    found = run_parts(parts, 0.2)
    release.set()
    assert time.monotonic() - started < 5
    assert [(item.id, item.status) for item in found] == [
        ("chain", Status.SKIP),
        ("chain.signed", Status.SKIP),
        ("settings", Status.OK),
    ]
    assert found[0].evidence == "no result within 0.2 s"


def test_a_part_that_cannot_be_checked_gives_the_reason() -> None:
    def find() -> list[Item]:
        raise TemporaryDiscoveryError("DNS does not answer", "check the network")

    (item,) = run_parts([Part(["chain"], find)], 5)
    assert (item.status, item.evidence, item.hint) == (Status.SKIP, "DNS does not answer", "check the network")


def test_an_internal_error_hides_no_other_check(caplog: pytest.LogCaptureFixture) -> None:
    def find() -> list[Item]:
        raise ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR):
        first, second = run_parts([Part(["chain"], find), Part(["settings"], lambda: [ok("settings", "a")])], 5)
    assert (first.status, first.evidence) == (Status.SKIP, "internal error: ZeroDivisionError")
    assert second.status is Status.OK
    assert "Internal error in the checks chain" in caplog.text


def test_a_shared_value_is_computed_once() -> None:
    computed: list[int] = []

    def compute() -> int:
        time.sleep(0.05)
        computed.append(1)
        return 42

    once = Once(compute)
    assert in_parallel([once.get] * 8) == [42] * 8
    assert computed == [1]


def test_an_error_is_shared_too() -> None:
    computed: list[int] = []

    def compute() -> int:
        computed.append(1)
        raise TemporaryDiscoveryError("no answer")

    once = Once(compute)
    for _ in range(2):
        with pytest.raises(TemporaryDiscoveryError):
            once.get()
    assert computed == [1]


def test_many_calls_share_a_few_threads_and_keep_their_order() -> None:
    most = 0

    def call(number: int) -> int:
        nonlocal most
        most = max(most, threading.active_count())
        time.sleep(0.002)
        return number

    before = threading.active_count()
    assert in_parallel([lambda number=number: call(number) for number in range(200)]) == list(range(200))  # type: ignore[misc]
    assert most - before <= 24
    assert in_parallel([]) == []
