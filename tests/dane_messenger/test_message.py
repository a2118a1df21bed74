"""A received message, as read from the receiver's line."""

import json
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dane_messenger import Message, ReceiverError
from dane_messenger.message import message_of
from idlib.names import IdentityName
from idlib.output import json_line

ALICE = IdentityName("alice._device.example.com")
SENT_AT = 1_800_000_000
RECEIVED_AT = 1_800_000_001.25


def ignore(_number: int) -> None:
    """Confirm nothing."""


def line_of(content: str | bytes, content_type: str | None = None, number: int = 1) -> bytes:
    """Return the line that a receiver prints."""
    line = json_line(
        ALICE,
        content,
        identifier="id",
        sent_at=SENT_AT,
        received_at=RECEIVED_AT,
        sealed="epoch",
        content_type=content_type,
    )
    return json.dumps({**json.loads(line), "number": number}).encode()


def test_each_member_is_read() -> None:
    message = message_of(line_of("text"), ignore)
    assert (message.sender, message.content, message.content_type, message.id) == (str(ALICE), b"text", None, "id")
    assert (message.bound, message.sealed) == (True, "epoch")
    assert message.sent_at == datetime.fromtimestamp(SENT_AT, UTC)
    assert message.received_at == datetime.fromtimestamp(RECEIVED_AT, UTC)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.none() | st.just("text/plain"))
def test_any_text_is_read_as_it_was_sent(text: str, content_type: str | None) -> None:
    message = message_of(line_of(text, content_type), ignore)
    assert (message.text, message.content, message.content_type) == (text, text.encode(), content_type)


@given(st.binary(min_size=1))
def test_any_bytes_are_read_as_they_were_sent(content: bytes) -> None:
    message = message_of(line_of(content, "application/octet-stream"), ignore)
    assert message.content == content
    assert (message.text is None) == (content.decode(errors="ignore").encode() != content)


@given(st.binary() | st.text(string.printable).map(str.encode))
def test_any_other_line_is_an_error(line: bytes) -> None:
    with pytest.raises(ReceiverError, match="a line that is not a message"):
        message_of(line, ignore)


@given(
    st.sampled_from(["sender", "message", "id", "sent_at", "received_at", "bound", "sealed", "number", "base64"]),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.just({}),
)
def test_a_member_of_another_kind_is_read_or_an_error(name: str, value: object) -> None:
    try:
        message = message_of(json.dumps({**json.loads(line_of("text")), name: value}).encode(), ignore)
    except ReceiverError:
        return
    assert isinstance(message, Message)
    assert isinstance(message.content, bytes)


@pytest.mark.parametrize("name", ["sender", "message", "id", "sent_at", "received_at", "bound", "sealed", "number"])
def test_a_member_that_is_missing_is_an_error(name: str) -> None:
    members = json.loads(line_of("text"))
    del members[name]
    with pytest.raises(ReceiverError):
        message_of(json.dumps(members).encode(), ignore)


def test_a_message_is_acknowledged_once_by_its_number() -> None:
    confirmed: list[int] = []
    message = message_of(line_of("text", number=7), confirmed.append)
    assert not message.is_acknowledged
    message.acknowledge()
    message.acknowledge()
    assert confirmed == [7]


def test_a_message_that_could_not_be_acknowledged_is_not() -> None:
    def fail(_number: int) -> None:
        raise ReceiverError("it has ended")

    message = message_of(line_of("text"), fail)
    with pytest.raises(ReceiverError):
        message.acknowledge()
    assert [message.is_acknowledged] == [False]


def test_the_content_is_not_in_the_representation() -> None:
    assert "secret" not in repr(message_of(line_of("secret"), ignore))
