"""Which messages `make chaos` counts as sent by send_message.py."""

import pytest

from chaos.receiver import refusals_in
from chaos.reports import Promise, promised_lines


def results(*words: str) -> list[str]:
    return [f'{{"id": "x", "recipient": "b.example", "size": 1, "result": "{word}", "reason": null}}' for word in words]


def test_refusals_are_counted_by_reason_with_those_that_were_not_logged() -> None:
    log = [
        "a.example refused reason=replay it was printed before",
        "a.example refused reason=replay it was printed before (and 3 more in the last 60 s)",
        "b.example refused reason=too-old it is old",
        "Message number 1 was printed",
    ]
    assert refusals_in(log) == {"replay": 5, "too-old": 1}


def test_results_are_in_the_order_of_the_lines() -> None:
    promised = promised_lines("--lines", ["a", "b", "c"], results("acknowledged", "queued", "printed"))
    assert promised == (
        Promise("a", "--lines", "acknowledged"),
        Promise("b", "--lines", "queued"),
        Promise("c", "--lines", "printed"),
    )


def test_only_a_message_that_was_certainly_sent_is_a_promise() -> None:
    promised = promised_lines(
        "--lines", ["a", "b", "c", "d"], results("failed", "acknowledged", "unacknowledged", "no-subscriber")
    )
    assert promised == (Promise("b", "--lines", "acknowledged"),)


def test_a_line_without_a_result_is_not_a_promise() -> None:
    assert promised_lines("--lines", ["a", "b"], results("acknowledged")) == (Promise("a", "--lines", "acknowledged"),)
    assert promised_lines("--lines", ["a", "b"], []) == ()


def test_a_result_without_a_line_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 results of 1 lines"):
        promised_lines("--lines", ["a"], results("acknowledged", "acknowledged"))
