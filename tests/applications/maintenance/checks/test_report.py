import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_maintenance.checks.catalogue import IDS
from messaging_maintenance.checks.report import as_json, as_text, is_coloured
from messaging_maintenance.checks.result import Item, Status, fail, ok, skip, warn
from tests.applications.maintenance.checks.observations import NAME

ITEMS = [ok("chain", "secure"), warn("record.ttl", "long", "lower it"), skip("data.path", "missing")]
strangers = st.builds(Item, st.sampled_from(sorted(IDS)), st.sampled_from(Status), st.text(min_size=1), st.text())


def test_the_text_is_aligned_and_ends_with_the_numbers() -> None:
    assert as_text(NAME, ITEMS, coloured=False).splitlines() == [
        f"Checks of {NAME}:",
        "ok    chain       secure",
        "warn  record.ttl  long",
        "                  hint: lower it",
        "skip  data.path   missing",
        "healthy: 1 ok, 1 warning, 0 failures, 1 not checked",
    ]


def test_only_the_result_is_coloured() -> None:
    text = as_text(NAME, [fail("chain", "bogus", "sign it")], coloured=True)
    assert "\x1b[31mfail\x1b[0m  chain  bogus" in text
    assert text.count("\x1b") == 2


def test_the_object_has_the_ids_and_the_exit_status() -> None:
    report = json.loads(as_json(NAME, [*ITEMS, fail("settings", "bad", "correct it")]))
    assert (report["name"], report["result"], report["status"]) == (str(NAME), "failed", 8)
    assert report["items"][1] == {"id": "record.ttl", "status": "warn", "evidence": "long", "hint": "lower it"}


@given(st.lists(strangers, min_size=1, max_size=4))
def test_what_strangers_write_cannot_act_on_a_terminal(items: list[Item]) -> None:
    lines = as_text(NAME, items, coloured=False).split("\n")
    assert len(lines) == 2 + len(items) + sum(bool(item.hint) for item in items)
    for text in (*lines, as_json(NAME, items)):
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)
    assert len(json.loads(as_json(NAME, items))["items"]) == len(items)


@pytest.mark.parametrize(
    ("environment", "is_terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour_is_for_terminals(environment: dict[str, str], is_terminal: bool, coloured: bool) -> None:  # noqa: FBT001
    assert is_coloured(environment, is_terminal=is_terminal) is coloured
