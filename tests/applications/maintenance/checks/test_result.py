import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_maintenance.checks.catalogue import IDS, OPTIONAL_IDS
from messaging_maintenance.checks.result import Item, Status, exit_status, fail, ok, skip, warn

REQUIRED = sorted(IDS - OPTIONAL_IDS)
items = st.builds(Item, st.sampled_from(sorted(IDS)), st.sampled_from(Status), st.text(min_size=1), st.text())


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([], 0),
        ([ok("chain", "a")], 0),
        ([ok("chain", "a"), warn("record.ttl", "a", "b")], 0),
        ([ok("chain", "a"), fail("record.ttl", "a", "b")], 8),
        ([skip("chain", "a"), fail("record.ttl", "a", "b")], 8),
        ([skip("chain", "a"), ok("record.ttl", "a")], 9),
        ([skip("resolver.bogus", "a"), ok("record.ttl", "a")], 0),
        ([fail("resolver.bogus", "a", "b")], 8),
    ],
)
def test_a_failure_counts_more_than_what_could_not_be_checked(found: list[Item], status: int) -> None:
    for order in itertools.permutations(found):
        assert exit_status(order) == status


@given(st.lists(items))
def test_only_failures_and_required_skips_change_the_status(found: list[Item]) -> None:
    failed = any(item.status is Status.FAIL for item in found)
    skipped = any(item.status is Status.SKIP and item.id in REQUIRED for item in found)
    assert exit_status(found) == (8 if failed else 9 if skipped else 0)


@pytest.mark.parametrize(("identifier", "evidence"), [("chains", "a"), ("chain", "")])
def test_an_item_has_a_known_id_and_evidence(identifier: str, evidence: str) -> None:
    with pytest.raises(ValueError, match="no item"):
        ok(identifier, evidence)


def test_optional_checks_exist() -> None:
    assert OPTIONAL_IDS < IDS
