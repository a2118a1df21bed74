"""How long the shipped resolver goes on denying a record that has just been published."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.knot import Knot, Zone
from testbed.daemons.process import find
from testbed.daemons.unbound import Unbound
from testbed.lab import authorities, wait_until

_RECORD: Final = "3 0 0 ABCD"
_NSEC: Final = Zone("nsec.test")
_NSEC3: Final = Zone("nsec3.test", policy=("algorithm: ecdsap256sha256", "nsec3: on", "nsec3-iterations: 0"))
_UNSIGNED: Final = Zone("unsigned.test", signed=False)
_ZONES: Final = (_NSEC, _NSEC3, _UNSIGNED)
_PROMISED_SECONDS: Final = 5
# Unbound counts whole seconds, and the answer is as far away as any.
_TOLERANCE_SECONDS: Final = 5


class _Resolver:
    """A resolver, and the name server that it queries."""

    def __init__(self, knot: Knot, unbound: Unbound) -> None:
        self.knot = knot
        self.unbound = unbound

    def ask(self, name: str, kind: str = "TLSA") -> str:
        server = [f"@{self.unbound.host}", "-p", str(self.unbound.port)]
        command = [find("kdig"), *server, name, kind, "+dnssec", "+timeout=5"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def finds(self, name: str) -> bool:
        return _RECORD in self.ask(name)


def _time_to_live(answer: str, kind: str) -> int:
    lines = (line.split() for line in answer.splitlines() if not line.startswith(";"))
    return next(int(words[1]) for words in lines if words[3:4] == [kind])


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Resolver]:
    directory = tmp_path_factory.mktemp("negative-answers")
    places: list[Path] = [directory / name for name in ("knot", "unbound")]
    for place in places:
        place.mkdir()
    with (
        Knot(places[0], _ZONES) as knot,
        Unbound(places[1], authorities(knot), [knot.ds(zone.name) for zone in _ZONES if zone.signed]) as unbound,
    ):
        yield _Resolver(knot, unbound)


def test_a_new_record_is_found_within_five_seconds_despite_earlier_look_ups(
    resolver: _Resolver,
) -> None:
    denied = {zone.name: [f"{label}._device.{zone.name}" for label in ("m", "q")] for zone in _ZONES}
    without_record = [f"ns.{zone.name}" for zone in _ZONES]
    for zone in _ZONES:
        # One name exists from the start, so that only the missing names are denied, not everything below _device.
        resolver.knot.add_tlsa(f"a._device.{zone.name}", _RECORD)
    for origin, names in denied.items():
        for name in names:
            answer = resolver.ask(name)
            assert "status: NXDOMAIN" in answer
            assert ("NSEC" in answer) == (origin != _UNSIGNED.name)
            assert _time_to_live(answer, "SOA") <= _PROMISED_SECONDS
    for name in without_record:
        answer = resolver.ask(name)
        assert "status: NOERROR" in answer
        assert _RECORD not in answer
    asked = [*(name for names in denied.values() for name in names), *without_record]
    never_asked = [f"n._device.{zone.name}" for zone in _ZONES]
    for name in [*asked, *never_asked]:
        resolver.knot.add_tlsa(name, _RECORD)
    published = time.monotonic()
    # Records that deny a whole range of names are not used for a name that was not looked up before.
    assert [name for name in never_asked if not resolver.finds(name)] == []
    for name in asked:
        left = published + _PROMISED_SECONDS + _TOLERANCE_SECONDS - time.monotonic()
        wait_until(lambda name=name: resolver.finds(name), f"record of {name} in the resolver", left)  # type: ignore[misc]


def test_the_zones_server_lets_resolvers_cache_an_absence_for_an_hour(resolver: _Resolver) -> None:
    """Absences in the zones of the tests are cached for as long as in those of providers."""
    for zone in _ZONES:
        command = [find("kdig"), f"@{resolver.knot.host}", "-p", str(resolver.knot.port), f"x.{zone.name}", "+dnssec"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert _time_to_live(answer, "SOA") == 3600


def test_an_answer_that_is_not_cached_takes_as_long_as_from_a_distant_server(resolver: _Resolver) -> None:
    resolver.knot.add_tlsa(f"far._device.{_NSEC.name}", _RECORD)
    started = time.monotonic()
    assert resolver.finds(f"far._device.{_NSEC.name}")
    assert time.monotonic() - started >= 0.05


def test_a_large_answer_over_tcp_takes_as_long(resolver: _Resolver) -> None:
    for number in range(8):
        resolver.knot.add_tlsa(f"large._device.{_NSEC.name}", f"3 0 0 {number:02}{'AB' * 400}")
    started = time.monotonic()
    assert resolver.ask(f"large._device.{_NSEC.name}").count("3 0 0 0") == 8
    # UDP, the handshake, and the answer.
    assert time.monotonic() - started >= 0.15
