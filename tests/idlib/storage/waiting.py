"""What every engine's `WaitingStore` does; the tests of each engine run all cases."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.storage import Admission, WaitingMessage, WaitingStore

ALICE: Final = "alice.example"
BOB: Final = "bob.example"
Case = Callable[[WaitingStore], None]


def message(number: int, signed: str = "signed", issued_at: int | None = 1000, sender: str = ALICE) -> WaitingMessage:
    identifier = number.to_bytes(16)
    return WaitingMessage(
        number=number,
        sender=sender,
        signed=signed,
        digest=identifier * 2,
        identifier=identifier,
        issued_at=issued_at,
        received_at=number + 0.5,
        deferred_at=0.5,
        is_asked_again=False,
        is_reserved=False,
    )


def numbers(store: WaitingStore) -> list[int]:
    return [one.number for one in store.index()]


def messages_are_read_in_the_order_of_the_numbers_given(store: WaitingStore) -> None:
    first, second = message(3, "first"), replace(message(7, "sécond", None), is_asked_again=True, is_reserved=True)
    assert store.change([first, second], ()) == (Admission.OURS, Admission.OURS)
    assert store.read([7, 5, 3]) == (second, first)
    store.change((), [3, 5])
    assert store.read([7, 5, 3]) == (second,)
    assert numbers(store) == [7]


def the_index_has_everything_but_the_text(store: WaitingStore) -> None:
    added = [message(3, "first"), replace(message(7, "sécond", None, BOB), is_asked_again=True, is_reserved=True)]
    store.change(added, ())
    for one, entry, size in zip(added, store.index(), (5, 7), strict=True):
        assert entry.size == size
        assert {**asdict(one), **asdict(entry)} == {**asdict(one), "size": size}


def the_kind_of_key_of_a_message_is_kept(store: WaitingStore) -> None:
    first, second = replace(message(1), is_sealed_to_epoch=True), message(2)
    store.change([first, second], ())
    assert store.read([1, 2]) == (first, second)


def repeating_a_change_changes_nothing_more(store: WaitingStore) -> None:
    for _ in range(2):
        assert store.change([message(1), message(2)], [3]) == (Admission.OURS, Admission.OURS)
    assert numbers(store) == [1, 2]


def a_change_of_nothing_does_nothing(store: WaitingStore) -> None:
    assert store.change([], []) == ()
    assert numbers(store) == []


def the_index_is_complete_and_in_order_while_messages_are_removed(store: WaitingStore) -> None:
    store.change([message(number) for number in range(1, 1502)], ())
    index = store.index()
    assert next(index).number == 1
    store.change((), [2, 1400])
    rest = [one.number for one in index]
    assert rest[-1] == 1501
    assert rest == sorted(rest)
    assert 1400 not in rest


def new_numbers_ascend_and_are_never_used_again(store: WaitingStore) -> None:
    first = list(store.new_numbers(3))
    store.change([message(first[2])], ())
    store.change((), [first[2]])
    second = list(store.new_numbers(40))
    assert [*first, *second] == sorted({*first, *second})
    assert len(second) == 40


def deferral_begins_no_later_than_now(store: WaitingStore) -> None:
    store.change([replace(message(1), deferred_at=9.5), replace(message(2), deferred_at=3.25)], ())
    store.limit_deferral(5.0)
    assert [one.deferred_at for one in store.index()] == [5.0, 3.25]


def every_text_is_returned_unchanged(store: WaitingStore) -> None:
    @settings(suppress_health_check=list(HealthCheck))
    @given(signed=st.text(st.characters(codec="utf-8")))
    def run(signed: str) -> None:
        store.change((), [1])
        store.change([message(1, signed)], ())
        assert store.read([1]) == (message(1, signed),)
        assert [one.size for one in store.index()] == [len(signed.encode())]

    run()


def upkeep_removes_no_message(store: WaitingStore) -> None:
    store.change([message(1)], ())
    store.wipe()
    assert numbers(store) == [1]


def nothing_is_dropped_that_a_receiver_handles(store: WaitingStore) -> None:
    store.change([message(1)], ())
    assert store.drop_abandoned(1e9) == ()
    assert numbers(store) == [1]


CASES: Final[tuple[Case, ...]] = (
    messages_are_read_in_the_order_of_the_numbers_given,
    the_index_has_everything_but_the_text,
    the_kind_of_key_of_a_message_is_kept,
    repeating_a_change_changes_nothing_more,
    a_change_of_nothing_does_nothing,
    the_index_is_complete_and_in_order_while_messages_are_removed,
    new_numbers_ascend_and_are_never_used_again,
    deferral_begins_no_later_than_now,
    every_text_is_returned_unchanged,
    upkeep_removes_no_message,
    nothing_is_dropped_that_a_receiver_handles,
)
