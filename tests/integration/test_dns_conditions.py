"""The result of discovery for every condition of the table, in each DNSSEC mode, with real servers."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from idlib.discovery import Discovery
from testbed.dns_lab.conditions import CONDITIONS, Condition
from testbed.dns_lab.lab import DnsLab
from testbed.dns_lab.looking import Seen, assert_seen, discovery, look_up

_WORKERS = 8

Look = Mapping[Condition, "Future[Seen]"]


@contextmanager
def _looking_up(discoveries: Mapping[int, Discovery], ports: Mapping[Condition, int]) -> Iterator[Look]:
    """Look up all names in parallel, because some of them take the longest time allowed."""
    with ThreadPoolExecutor(_WORKERS) as workers:
        yield {
            condition: workers.submit(look_up, discoveries[port], condition.name) for condition, port in ports.items()
        }


@pytest.fixture(scope="module", params=["silent", "explaining"])
def trusted(dns_lab: DnsLab, request: pytest.FixtureRequest) -> Iterator[Look]:
    """Look up through a validating resolver that does not explain failures, and through one that does."""
    port = dns_lab.unbound if request.param == "silent" else dns_lab.explaining_unbound
    with _looking_up({port: discovery(dns_lab, port, pinned=False)}, dict.fromkeys(CONDITIONS, port)) as look:
        yield look


@pytest.fixture(scope="module")
def pinned_at_resolver(dns_lab: DnsLab) -> Iterator[Look]:
    port = dns_lab.unbound
    with _looking_up({port: discovery(dns_lab, port, pinned=True)}, dict.fromkeys(CONDITIONS, port)) as look:
        yield look


@pytest.fixture(scope="module")
def pinned_at_authority(dns_lab: DnsLab) -> Iterator[Look]:
    ports = {condition: dns_lab.authority_of(condition) for condition in CONDITIONS}
    discoveries = {port: discovery(dns_lab, port, pinned=True) for port in set(ports.values())}
    with _looking_up(discoveries, ports) as look:
        yield look


conditions = pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.title)


@conditions
def test_with_a_trusted_resolver(condition: Condition, trusted: Look) -> None:
    assert_seen(trusted[condition].result(60), condition.name, condition.trusted)


@conditions
def test_with_pinned_anchors_at_a_resolver(condition: Condition, pinned_at_resolver: Look) -> None:
    assert_seen(pinned_at_resolver[condition].result(60), condition.name, condition.pinned)


@conditions
def test_with_pinned_anchors_at_the_authority(condition: Condition, pinned_at_authority: Look) -> None:
    expected = condition.pinned_at_authority or condition.pinned
    assert_seen(pinned_at_authority[condition].result(60), condition.name, expected)


def test_each_condition_has_a_unique_name() -> None:
    assert len({condition.name for condition in CONDITIONS}) == len(CONDITIONS) >= 70
