"""Batches and outcomes arrive as they were sent; bytes of any other form are an error."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.envelope import Binding, parse, sign
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from messaging_receiver.opening import OpenedMessage, Outcome, open_message
from messaging_receiver.workers.protocol import (
    Batch,
    SenderKeys,
    read_batch,
    read_outcomes,
    write_batch,
    write_outcomes,
)
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS, sealed

SENDERS = st.builds(
    SenderKeys, st.sampled_from(["alice.example", "bob.example"]), st.lists(st.binary(), max_size=4).map(tuple)
)
BATCHES = st.builds(
    Batch,
    st.lists(st.binary()).map(tuple),
    st.lists(SENDERS).map(tuple),
    st.lists(st.binary()).map(tuple),
)
BINDINGS = st.none() | st.builds(
    lambda audience, issued, identifier, lifetime: Binding(
        audience, issued, identifier, None if lifetime is None else issued + lifetime
    ),
    st.sampled_from([ALICE, BOB]),
    st.integers(0, 2**52),
    st.text(st.characters(), min_size=1, max_size=32),
    st.none() | st.integers(1, 2**51),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def facts(outcome: Outcome) -> object:
    return (outcome.reason, outcome.fact) if isinstance(outcome, Refusal) else outcome


@given(BATCHES)
def test_a_batch_arrives_as_it_was_sent(batch: Batch) -> None:
    assert read_batch(write_batch(batch)) == batch


@given(TEXTS, st.none() | st.just(60), st.none() | st.binary(min_size=1))
def test_an_opened_message_arrives_as_it_was_sent(text: str, lifetime: int | None, key: bytes | None) -> None:
    binding = Binding.new(BOB, int(time.time()), lifetime)
    signed = sign(text, sender=ALICE, signing_key=KEYS[ALICE], binding=binding, ask_for_receipt=lifetime is None)
    (arrived,) = read_outcomes(write_outcomes([OpenedMessage(signed, bytes(32), parse(signed), key)]))
    assert isinstance(arrived, OpenedMessage)
    assert (arrived.unverified, arrived.digest, arrived.verified_with) == (parse(signed), bytes(32), key)
    # What a deferred message is stored as.
    assert parse(arrived.signed) == parse(signed)


@given(st.binary(min_size=1), st.sampled_from(["image/png", 'text/csv; a="b"']))
def test_content_with_a_type_arrives_as_it_was_sent(content: bytes, content_type: str) -> None:
    binding = Binding.new(BOB, int(time.time()))
    signed = sign(content, sender=ALICE, signing_key=KEYS[ALICE], binding=binding, content_type=content_type)
    (arrived,) = read_outcomes(write_outcomes([OpenedMessage(signed, bytes(32), parse(signed))]))
    assert isinstance(arrived, OpenedMessage)
    assert arrived.unverified == parse(signed)
    assert parse(arrived.signed) == parse(signed)


@pytest.mark.parametrize(("cty", "content"), [(b"", b"\xff"), (b"image", b"a"), (b"\xff", b"a")])
def test_content_of_a_worker_without_a_right_type_is_a_value_error(cty: bytes, content: bytes) -> None:
    opened = open_message(sealed("text"), BOB, [KEYS[BOB]])
    fields = write_outcomes([opened])
    fields[-3:-1] = content, cty
    with pytest.raises(ValueError):  # noqa: PT011  # no text: it is for a log of an internal error only
        read_outcomes(fields)


@given(st.sampled_from(Reason), st.text(st.characters()))
def test_a_refusal_arrives_as_it_was_sent(reason: Reason, fact: str) -> None:
    outcomes: list[Outcome] = [None, Refusal(reason, fact), None]
    assert [facts(one) for one in read_outcomes(write_outcomes(outcomes))] == [None, (reason, fact), None]


@given(BINDINGS)
def test_any_binding_arrives_as_it_was_sent(binding: Binding | None) -> None:
    opened = open_message(sealed("text"), BOB, [KEYS[BOB]])
    message = opened.unverified
    changed = type(message)(
        message.sender,
        message.algorithm,
        binding,
        message.signing_input,
        message.signature,
        message.unverified_content,
        message.asks_for_receipt,
    )
    (arrived,) = read_outcomes(write_outcomes([OpenedMessage(opened.signed, opened.digest, changed)]))
    assert isinstance(arrived, OpenedMessage)
    assert arrived.unverified == changed
    assert arrived.verified_with is None


@given(st.lists(st.binary(max_size=40), max_size=14))
def test_other_fields_are_a_value_error_at_most(fields: list[bytes]) -> None:
    with contextlib.suppress(ValueError):
        read_outcomes(fields)


@pytest.mark.parametrize("fields", [[], [b"x"], [b"l", b"excess"], [b"r", b"no-reason", b"fact"], [b"o"]])
def test_wrong_fields_are_a_value_error(fields: list[bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # no text: it is for a log of an internal error only
        read_outcomes(fields)


def test_a_name_that_is_not_valid_is_a_value_error() -> None:
    fields = write_outcomes([open_message(sealed("text"), BOB, [KEYS[BOB]])])
    fields[fields.index(ALICE.text.encode())] = b"-"
    with pytest.raises(ValueError, match="wrong value"):
        read_outcomes(fields)
    assert IdentityName("alice.example") == ALICE
