"""What the outbox does, whatever its engine is."""

import threading
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.storage import epoch_notes
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.storage.queued import MAX_OCTETS, DeliveryStore, OutboxStore, OutgoingMessage, Waiting
from idlib.system.times import EARLIEST_CREDIBLE_TIME

ALICE: Final = "alice.example"
BOB: Final = "bob.example"
Opening = Callable[[], DeliveryStore]
# Each example leaves the outbox empty; each kind of outbox has a class of its own that inherits the tests.
_EXAMPLES: Final = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
)


def message(identifier: str, recipient: str = BOB, text: str = "text", queued_at: int = 1000) -> NewOutgoingMessage:
    return NewOutgoingMessage(recipient, identifier, text, queued_at, None)


def first_to(outbox: OutboxStore, recipient: str) -> OutgoingMessage:
    found = outbox.next_to(recipient, 0)
    assert found is not None
    return found


def texts_to(outbox: OutboxStore, recipient: str) -> list[str]:
    texts, number = [], 0
    while (one := outbox.next_to(recipient, number)) is not None:
        assert isinstance(one.content, str)
        texts.append(one.content)
        number = one.number
    return texts


class OutboxRules:
    """Tests of an engine; the fixture `opening` opens the same outbox each time it is called."""

    def test_messages_are_kept_in_order_after_a_restart(self, opening: Opening) -> None:
        with opening() as outbox:
            for number in range(5):
                outbox.put(message(str(number), BOB if number % 2 else ALICE, f"number {number}"))
        with opening() as outbox:
            assert texts_to(outbox, ALICE) == ["number 0", "number 2", "number 4"]
            assert texts_to(outbox, BOB) == ["number 1", "number 3"]
            assert outbox.recipients() == (ALICE, BOB)

    def test_a_message_is_queued_once_and_keeps_its_identifier(self, opening: Opening) -> None:
        with opening() as outbox:
            outbox.put(message("same"))
            outbox.put(message("same"))
            first = first_to(outbox, BOB)
            assert first.identifier == "same"
            assert outbox.waiting() == Waiting(1, 1000)
            outbox.remove(first.number)
            assert outbox.waiting() == Waiting(0, None)
            assert outbox.recipients() == ()

    def test_the_size_limit_counts_texts_and_200_bytes_for_each_message(self, opening: Opening) -> None:
        with opening() as outbox:
            outbox.put(message("large", text="ü" * ((MAX_OCTETS - 400) // 2 - 1)))
            with pytest.raises(StoreError, match="the outbox is full: 1 messages take 16777014 of its 16777216 bytes"):
                outbox.put(message("one more", text="xxx"))
            outbox.put(message("fits", text="xx"))
            with pytest.raises(StoreError, match="the outbox is full: 2 messages"):
                outbox.put(message("one more", text="x"))
            assert outbox.size() == MAX_OCTETS
            outbox.remove(first_to(outbox, BOB).number)
            outbox.put(message("one more", text="x"))

    def test_the_size_limit_counts_content_with_its_type(self, opening: Opening) -> None:
        with opening() as outbox:
            outbox.put(NewOutgoingMessage(BOB, "one", b"\0\0", 1000, None, content_type="x/y"))
            assert outbox.size() == len("x/y") + 1 + 2 + 200

    def test_several_threads_write_at_once(self, opening: Opening) -> None:
        outboxes = [opening() for _ in range(2)]

        def write(number: int) -> None:
            for identifier in range(50):
                outboxes[number].put(message(f"{number} {identifier}"))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outboxes[0].waiting().number == 100
        for outbox in outboxes:
            outbox.close()

    def test_an_impossible_time_of_queuing_is_replaced_by_the_present_time(self, opening: Opening) -> None:
        with opening() as outbox:
            for identifier, queued_at in (("before", 5), ("ahead", 9000), ("right", 1500)):
                outbox.put(message(identifier, f"{identifier}.example", queued_at=queued_at))
            outbox.correct_times(1000, 2000)
            times = {name: first_to(outbox, name).queued_at for name in outbox.recipients()}
        assert times == {"before.example": 2000, "ahead.example": 2000, "right.example": 1500}

    def test_expired_messages_are_removed_and_returned(self, opening: Opening) -> None:
        with opening() as outbox:
            outbox.put(NewOutgoingMessage(BOB, "short", "text", 1000, 10))
            outbox.put(NewOutgoingMessage(BOB, "long", "text", 1000, 5000))
            outbox.put(NewOutgoingMessage(BOB, "longest", "text", 1001, 9000))
            outbox.put(message("endless"))
            assert outbox.forget_expired(1009, 100, 5001) == []
            assert outbox.forget_expired(1010, 100, 5001) == [("short", BOB)]
            assert outbox.forget_expired(1100, 100, 5001) == [("endless", BOB)]
            assert outbox.forget_expired(6000, 100, 5001) == [("long", BOB)]
            assert outbox.forget_expired(6002, 100, 5001) == [("longest", BOB)]
            assert outbox.waiting().number == 0

    @_EXAMPLES
    @given(text=st.text(st.characters(codec="utf-8"), min_size=1), lifetime=st.none() | st.integers(1, 99999999))
    def test_every_text_is_returned_unchanged(self, text: str, lifetime: int | None, shared: DeliveryStore) -> None:
        shared.put(NewOutgoingMessage(BOB, "identifier", text, 1000, lifetime))
        got = first_to(shared, BOB)
        shared.remove(got.number)
        assert got == OutgoingMessage(BOB, "identifier", text, 1000, lifetime, got.number)

    @_EXAMPLES
    @given(content=st.binary(min_size=1), content_type=st.sampled_from(["image/png", 'text/csv; a="b; c"', "x/y"]))
    def test_content_with_a_type_is_returned_unchanged(
        self, content: bytes, content_type: str, shared: DeliveryStore
    ) -> None:
        shared.put(NewOutgoingMessage(BOB, "identifier", content, 1000, None, content_type=content_type))
        got = first_to(shared, BOB)
        shared.remove(got.number)
        assert (got.content, got.content_type) == (content, content_type)
        assert (shared.waiting(), shared.size()) == (Waiting(0, None), 0)

    def test_a_message_that_is_encrypted_to_an_epoch_key_is_known_after_a_restart(self, opening: Opening) -> None:
        with opening() as outbox:
            outbox.put(message("first"))
            outbox.put(NewOutgoingMessage(ALICE, "second", "text", 1000, None, was_sealed_to_epoch=True))
            assert not first_to(outbox, BOB).was_sealed_to_epoch
            outbox.note_sealed_to_epoch(first_to(outbox, BOB).number)
            outbox.note_sealed_to_epoch(first_to(outbox, BOB).number)
        with opening() as outbox:
            assert first_to(outbox, BOB).was_sealed_to_epoch
            assert first_to(outbox, ALICE).was_sealed_to_epoch

    def test_a_mark_is_known_after_a_restart_until_it_is_forgotten(self, opening: Opening) -> None:
        with opening() as outbox:
            outbox.note_mark(BOB, EARLIEST_CREDIBLE_TIME + 5)
            outbox.note_mark(BOB, EARLIEST_CREDIBLE_TIME + 9)
            outbox.note_mark(ALICE, 5)
        with opening() as outbox:
            assert outbox.marked_at(BOB) == EARLIEST_CREDIBLE_TIME + 9
            assert outbox.marked_at(ALICE) == EARLIEST_CREDIBLE_TIME
            outbox.forget_mark(BOB)
            assert outbox.marked_at(BOB) is None

    def test_beyond_the_limit_the_name_that_was_seen_marked_the_longest_time_ago_is_forgotten(
        self, opening: Opening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(epoch_notes, "MAX_MARKED_NAMES", 3)
        with opening() as outbox:
            for number in range(5):
                outbox.note_mark(f"{number}.example", EARLIEST_CREDIBLE_TIME + number)
            found = [number for number in range(5) if outbox.marked_at(f"{number}.example") is not None]
        assert found == [2, 3, 4]
