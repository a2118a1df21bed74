"""Faults are injected in pairs of beginning and end, whatever the order."""

import random
from collections import Counter

import pytest

from chaos.striking import Fault, Strikes


@pytest.mark.parametrize("seed", range(5))
def test_every_fault_that_begins_is_ended_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.striking.time.sleep", lambda _seconds: None)
    log: list[tuple[str, str]] = []

    def fault(name: str) -> Fault[list[tuple[str, str]]]:
        return Fault(name, lambda log: log.append((name, "begin")), lambda log: log.append((name, "end")))

    faults = {"one": (fault("a"), fault("b")), "two": (fault("c"),), "rare": (fault("d"),)}
    strikes = Strikes(log, random.Random(seed), faults, rare="rare")
    for _ in range(30):
        strikes.strike()
    begun = Counter(name for name, what in log if what == "begin")
    assert begun == Counter(name for name, what in log if what == "end")
    assert {name: number for name, number in strikes.events.items() if name in begun} == begun
    assert begun.keys() == {"a", "b", "c", "d"}
    open_faults: set[str] = set()
    for name, what in log:
        assert (name in open_faults) == (what == "end")
        open_faults ^= {name}
    assert open_faults == set()
