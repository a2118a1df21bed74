"""Which messages are displaced if too many are deferred."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.storage import Abandoned
from messaging_receiver import waiting_index
from messaging_receiver.waiting_index import MESSAGE_OVERHEAD_BYTES, Rank, Tally, Waiting, WaitingIndex

QUARTER = 250
RANKS = {"fail": Rank.FAILED, "succeed": Rank.NOT_ASKED, "absent": Rank.ABSENT}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_index, "MAX_OPEN_BYTES", 1000)
    monkeypatch.setattr(waiting_index, "MAX_RESERVED_BYTES", 4 * QUARTER)


def waiting(
    number: int, sender: str, zone: str = "", size: int = 100, *, is_reserved: bool = False, contradicts: bool = False
) -> Waiting:
    digest = number.to_bytes(32)
    return Waiting(number, sender, zone or sender, size, is_reserved, contradicts, 0.0, digest)


def displaced_by(index: WaitingIndex, message: Waiting) -> list[int]:
    index.add(message)
    return [one.number for one, _ in index.displaced()]


def test_strangers_displace_the_newest_message_of_the_largest_zone_of_strangers() -> None:
    index = WaitingIndex()
    for number in range(1, 8):
        assert displaced_by(index, waiting(number, f"name-{number}", "flood.test")) == []
    for number in range(8, 11):
        assert displaced_by(index, waiting(number, "quiet", "quiet.test")) == []
    assert displaced_by(index, waiting(11, "other", "other.test")) == [7]
    assert displaced_by(index, waiting(12, "new", "flood.test")) == [12]


def test_messages_of_a_name_whose_look_up_failed_are_displaced_before_those_not_looked_up_yet() -> None:
    index = WaitingIndex()
    for number in range(1, 9):
        index.add(waiting(number, "new", "crowded.test"))
    index.add(waiting(9, "failed", "quiet.test"))
    index.add(waiting(10, "failed", "quiet.test"))
    index.set_rank("failed", Rank.FAILED)
    assert displaced_by(index, waiting(11, "newer", "crowded.test")) == [10]
    assert displaced_by(index, waiting(12, "newer", "crowded.test")) == [9]
    assert displaced_by(index, waiting(13, "newer", "crowded.test")) == [13]


@pytest.mark.parametrize("crowded", ["a", "b", "c", "d", "e", "f", "g", "h"])
def test_a_name_with_too_many_messages_displaces_no_other_name_of_its_zone(crowded: str) -> None:
    index = WaitingIndex()
    number = 0
    for name in "abcdefgh":
        for _ in range(4 if name == crowded else 1):
            number += 1
            index.add(waiting(number, name, "zone.test", 1))
            index.set_rank(name, Rank.ABSENT)
    assert len(list(index.displaced())) == 3
    assert len(index) == waiting_index.MAX_ABSENT_OF_A_ZONE


def test_no_number_of_strangers_displaces_a_trusted_name() -> None:
    index = WaitingIndex()
    index.add(waiting(1, "alice", is_reserved=True))
    for number in range(2, 1000):
        index.add(waiting(number, f"stranger-{number}", f"zone-{number % 7}"))
        assert 1 not in [one.number for one, _ in index.displaced()]
    assert 1 in index


def test_a_trusted_zone_has_a_quarter_of_the_area_and_its_largest_sender_loses_its_newest() -> None:
    index = WaitingIndex()
    assert displaced_by(index, waiting(1, "busy", "fleet.test", is_reserved=True)) == []
    assert displaced_by(index, waiting(2, "busy", "fleet.test", is_reserved=True)) == []
    assert displaced_by(index, waiting(3, "quiet", "fleet.test", is_reserved=True)) == [2]
    assert displaced_by(index, waiting(4, "alice", "other.test", is_reserved=True)) == []


def test_few_messages_of_names_without_a_record_wait_and_they_are_displaced_first() -> None:
    index = WaitingIndex()
    for number in range(1, 4):
        index.add(waiting(number, "new", "new.test", 10))
    index.set_rank("new", Rank.ABSENT)
    assert [(one.number, rank) for one, rank in index.displaced()] == [(3, Rank.ABSENT)]
    assert not index.admits_absent("new", "new.test")
    for number in range(4, 10):
        index.add(waiting(number, f"new-{number}", "new.test", 10))
        index.set_rank(f"new-{number}", Rank.ABSENT)
        assert list(index.displaced()) == []
    assert not index.admits_absent("new-10", "new.test")
    index.add(waiting(10, "new-10", "new.test", 10))
    index.set_rank("new-10", Rank.ABSENT)
    assert [one.number for one, _ in index.displaced()] == [10]
    assert displaced_by(index, waiting(11, "other", "other.test", 990)) != [11]
    assert 11 in index


def test_messages_of_names_without_a_record_have_a_common_limit() -> None:
    index = WaitingIndex()
    for number in range(1, 200):
        index.add(waiting(number, f"new-{number}", f"zone-{number}.test", 1))
        index.set_rank(f"new-{number}", Rank.ABSENT)
        list(index.displaced())
    assert len(index) == waiting_index.MAX_ABSENT


def test_has_room_considers_the_whole_area() -> None:
    index = WaitingIndex()
    for number, zone in enumerate(("a.test", "b.test", "c.test"), 1):
        index.add(waiting(number, zone, zone, QUARTER, is_reserved=True))
    assert index.has_room(QUARTER)
    assert not index.has_room(QUARTER + 1)


def test_a_message_that_is_found_to_contradict_known_keys_is_no_longer_awaited() -> None:
    index = WaitingIndex()
    index.add(waiting(1, "alice"))
    index.add(waiting(2, "alice"))
    for number in (1, 2, 2, 7):
        index.contradict(number)
    assert not index.is_awaited("alice")
    for number in (1, 2):
        index.remove(number)
    assert index.senders() == ()


def test_messages_that_contradict_known_keys_come_last_and_are_not_awaited() -> None:
    index = WaitingIndex()
    index.add(waiting(1, "alice", contradicts=True))
    assert not index.is_awaited("alice")
    index.add(waiting(2, "alice"))
    assert index.is_awaited("alice")
    assert [one.number for one in index.of("alice")] == [2, 1]
    index.remove(2)
    assert not index.is_awaited("alice")


def test_a_copy_of_a_deferred_message_is_recognized() -> None:
    index = WaitingIndex()
    index.add(waiting(1, "alice"))
    assert index.holds((1).to_bytes(32))
    index.remove(1)
    assert not index.holds((1).to_bytes(32))


messages = st.tuples(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.sampled_from(["x.test", "y.test", "z.test"]),
    st.integers(1, 400),
    st.booleans(),
    st.booleans(),
)


@given(
    st.lists(st.tuples(messages, st.sampled_from(["keep", "remove oldest", "fail", "succeed", "absent"])), max_size=80)
)
def test_limits_are_kept_and_every_displaced_message_is_reported(
    steps: list[tuple[tuple[str, str, int, bool, bool], str]],
) -> None:
    index = WaitingIndex()
    kept: dict[int, Waiting] = {}
    for number, ((sender, zone, size, is_reserved, contradicts), action) in enumerate(steps, 1):
        message = waiting(number, f"{sender}.{zone}", zone, size, is_reserved=is_reserved, contradicts=contradicts)
        index.add(message)
        kept[number] = message
        for gone, _ in index.displaced():
            del kept[gone.number]
        if action == "remove oldest" and kept:
            oldest = min(kept)
            index.remove(oldest)
            del kept[oldest]
        elif action in RANKS:
            index.set_rank(message.sender, RANKS[action])
            for gone, _ in index.displaced():
                del kept[gone.number]
        assert len(index) == len(kept)
        assert sorted(one.number for name in index.senders() for one in index.of(name)) == sorted(kept)
        assert sum(one.size for one in kept.values() if not one.is_reserved) <= 1000
        shares = Counter[str]()
        for one in kept.values():
            shares[one.zone] += one.size if one.is_reserved else 0
        assert all(share <= QUARTER for share in shares.values())
    for number in list(kept):
        index.remove(number)
    assert index.senders() == ()


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 9)), max_size=200))
def test_the_largest_amount_is_found(steps: list[tuple[str, int]]) -> None:
    tally: Tally[str] = Tally()
    model: Counter[str] = Counter()
    for key, amount in steps:
        change = -model[key] if model[key] > 20 else amount
        tally.add(key, change)
        model[key] += change
        largest = tally.largest()
        assert model[largest or ""] == max(model.values(), default=0)
        assert tally.total == model.total()


@given(
    held=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 300), st.booleans()), max_size=12),
    offered=st.lists(
        st.tuples(st.sampled_from("uvwxyz"), st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1)),
        unique_by=lambda one: one[0],
    ),
)
def test_messages_for_which_there_is_room_displace_none(
    held: list[tuple[str, int, bool]], offered: list[tuple[str, list[tuple[int, bool]]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting_index, "MAX_OPEN_BYTES", 4000)
        patch.setattr(waiting_index, "MAX_OPEN", 8)
        patch.setattr(waiting_index, "MAX_RESERVED_BYTES", 8000)
        index = WaitingIndex()
        numbers = iter(range(1, 10_000))
        for sender, size, is_reserved in held:
            index.add(waiting(next(numbers), sender, "zone", size, is_reserved=is_reserved))
            list(index.displaced())
        room = index.room()
        taken = [(sender, sizes) for sender, sizes in offered if room.take(_abandoned(sender, sizes), "zone")]
        for sender, sizes in taken:
            for size, is_reserved in sizes:
                size += MESSAGE_OVERHEAD_BYTES  # noqa: PLW2901
                index.add(waiting(next(numbers), sender, "zone", size, is_reserved=is_reserved))
        displaced = [message for message, _ in index.displaced()]
        assert not any(message.is_reserved for message in displaced)
        if not any(is_reserved for _, sizes in taken for _, is_reserved in sizes):
            assert displaced == []


def test_messages_of_a_trusted_name_fit_although_strangers_fill_their_area_under_the_same_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_index, "MAX_RESERVED_BYTES", 4000)
    index = WaitingIndex()
    index.add(waiting(1, "stranger", "strangers.test", 900))
    room = index.room()
    assert room.take(Abandoned("trusted.a.test", 1, 100, 4, 900), "a.test")
    assert not room.take(Abandoned("another.a.test", 0, 0, 1, 100), "a.test")


def _abandoned(sender: str, sizes: list[tuple[int, bool]]) -> Abandoned:
    reserved = [size for size, is_reserved in sizes if is_reserved]
    others = [size for size, is_reserved in sizes if not is_reserved]
    return Abandoned(sender, len(reserved), sum(reserved), len(others), sum(others))


def test_what_does_not_fit_leaves_the_room_to_others() -> None:
    index = WaitingIndex()
    index.add(waiting(1, "a", "a.test", QUARTER, is_reserved=True))
    room = index.room()
    assert not room.take(Abandoned("b", 1, 1, 0, 0), "a.test")
    assert not room.take(Abandoned("b", 0, 0, 4, 0), "b.test")
    assert room.take(Abandoned("c", 0, 0, 3, 0), "c.test")
    assert not room.take(Abandoned("d", 0, 0, 1, 0), "d.test")
