"""Keys in DNS whose private halves are elsewhere: a restored DATA_PATH, or a second device."""

from typing import Final

import pytest

from messaging_receiver.epoch_copies import WATCHED_SECONDS, ForeignKeys, Sighting

SETTLED_SECONDS: Final = 75 * 60
NOW: Final = 1_800_000_000.0
FIRST: Final = {"first": 1_800_800_000}
LATER: Final = {"later": 1_800_900_000}
OLDER: Final = {"older": 1_800_700_000}
NONE: Final[dict[str, int]] = {}


@pytest.mark.parametrize(
    ("looks", "last"),
    [
        ([(0, FIRST)], Sighting.FIRST),
        # It is not replaced yet, or replaced, or an answer from before the replacement is still remembered.
        ([(0, FIRST), (60, FIRST)], Sighting.NONE),
        ([(0, FIRST), (60, NONE)], Sighting.NONE),
        ([(0, FIRST), (60, NONE), (120, FIRST)], Sighting.NONE),
        ([(0, FIRST), (60, NONE), (60 + SETTLED_SECONDS - 1, FIRST)], Sighting.NONE),
        # A name server that is behind returns what the first one had replaced.
        ([(0, FIRST), (60, OLDER)], Sighting.NONE),
        # It was published again.
        ([(0, FIRST), (60, NONE), (60 + SETTLED_SECONDS, FIRST)], Sighting.SECOND_DEVICE),
        ([(0, FIRST), (60, NONE), (WATCHED_SECONDS - 1, FIRST)], Sighting.SECOND_DEVICE),
        # Another one.
        ([(0, FIRST), (60, LATER)], Sighting.SECOND_DEVICE),
        ([(0, FIRST), (60, NONE), (120, LATER)], Sighting.SECOND_DEVICE),
        ([(0, FIRST), (60, FIRST | LATER)], Sighting.SECOND_DEVICE),
        ([(0, FIRST), (WATCHED_SECONDS - 1, LATER)], Sighting.SECOND_DEVICE),
        # After a day, it is a first one again.
        ([(0, FIRST), (WATCHED_SECONDS, LATER)], Sighting.FIRST),
        ([(0, FIRST), (60, NONE), (WATCHED_SECONDS, FIRST)], Sighting.FIRST),
        ([(0, FIRST), (WATCHED_SECONDS, NONE)], Sighting.NONE),
    ],
)
def test_what_foreign_keys_mean(looks: list[tuple[int, dict[str, int]]], last: Sighting) -> None:
    keys = ForeignKeys(SETTLED_SECONDS)
    *_, found = [keys.note(foreign, NOW + at) for at, foreign in looks]
    assert found is last
