"""A benchmark's row: medians of pairs, and how they compare with the limits."""

import pytest

from benchmarks.measurement import Measurement, Sample
from benchmarks.target import Better, Target, Verdict

FASTER = Target("rate", "messages/s", "openssl", Better.HIGHER, 0.5, 0.6)
SMALLER = Target("memory", "MiB", "", Better.LOWER, 70, 60)


@pytest.mark.parametrize(
    ("target", "figure", "verdict"),
    [
        (FASTER, 0.6, Verdict.AIM),
        (FASTER, 0.59, Verdict.FLOOR),
        (FASTER, 0.5, Verdict.FLOOR),
        (FASTER, 0.49, Verdict.MISSED),
        (SMALLER, 60, Verdict.AIM),
        (SMALLER, 61, Verdict.FLOOR),
        (SMALLER, 70, Verdict.FLOOR),
        (SMALLER, 71, Verdict.MISSED),
        (Target("size", "bytes", "", Better.LOWER), 1, Verdict.NONE),
    ],
)
def test_a_figure_is_compared_with_floor_and_aim_in_the_direction_that_is_better(
    target: Target, figure: float, verdict: Verdict
) -> None:
    assert target.verdict(figure) is verdict


def test_the_result_is_the_median_of_the_ratios_of_pairs_not_the_ratio_of_the_medians() -> None:
    row = Measurement(FASTER, Sample((100.0, 400.0, 90.0)), Sample((200.0, 500.0, 100.0)))
    assert row.result.median == 0.8
    assert row.verdict is Verdict.AIM


def test_a_figure_without_a_peer_is_compared_itself() -> None:
    assert Measurement(SMALLER, Sample((65.0, 80.0, 61.0))).verdict is Verdict.FLOOR


def test_a_figure_must_have_its_own_peer() -> None:
    with pytest.raises(ValueError, match="each figure needs its peer"):
        Measurement(FASTER, Sample((1.0, 2.0)), Sample((1.0,)))


def test_a_row_shows_figure_peer_spread_limits_and_verdict() -> None:
    row = Measurement(FASTER, Sample((1000.0, 1200.0, 1300.0)), Sample((2000.0, 2000.0, 2000.0)))
    assert row.cells() == (
        "rate", "1,200 messages/s", "openssl: 2,000", "0.6 (0.5 to 0.65)", "0.5", "0.6", "aim reached"
    )  # fmt: skip
