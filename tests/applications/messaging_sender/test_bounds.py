"""How large a message may be, and how long it lives."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from idlib.algorithms import PrivateKey
from idlib.errors import MessageError
from idlib.media_types import MAX_CHARACTERS
from idlib.settings import load
from idlib.storage.outgoing import NewOutgoingMessage, surely_fits
from messaging_sender.bounds import end_of_life
from messaging_sender.sealing import Sealer

# As long as a device's name can be.
LONGEST = ".".join(["x" * 63] * 3 + ["y" * 61])
LIMIT = 8192
SEALER = Sealer(
    load({"IDENTITY_NAME": LONGEST, "MAX_MESSAGE_SIZE": str(LIMIT)}),
    PrivateKey(rsa.generate_private_key(65537, 4096)),
)


def message(text: str, lifetime: int | None = 99_999_999) -> NewOutgoingMessage:
    return NewOutgoingMessage(LONGEST, "x" * 22, text, int(time.time()), lifetime)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, LIMIT))
def test_what_surely_fits_also_fits_when_it_is_signed(some: str, octets: int) -> None:
    text = some + "x" * (octets - len(some.encode()))
    if surely_fits(text, LIMIT):
        SEALER.check(message(text))


@given(st.binary(min_size=1, max_size=50), st.integers(0, LIMIT))
def test_content_with_the_longest_type_that_surely_fits_also_fits(some: bytes, octets: int) -> None:
    content = some + b"\xff" * (octets - len(some))
    longest = f"a/{'b' * 127}; {'c' * 60}={'d' * 63}"
    assert len(longest) == MAX_CHARACTERS
    if surely_fits(content, LIMIT):
        SEALER.check(NewOutgoingMessage(LONGEST, "x" * 22, content, int(time.time()), 99_999_999, content_type=longest))


def test_most_of_what_fits_surely_fits() -> None:
    largest = next(octets for octets in range(LIMIT, 0, -1) if surely_fits("x" * octets, LIMIT))
    SEALER.check(message("x" * largest))
    with pytest.raises(MessageError, match="the message is too large"):
        SEALER.check(message("x" * (largest + 1536)))


def test_an_empty_text_does_not_surely_fit() -> None:
    assert not surely_fits("", LIMIT)


def test_the_end_of_life_is_that_of_the_lifetime() -> None:
    queued = NewOutgoingMessage(LONGEST, "x" * 22, "text", 1000, 60)
    assert end_of_life(queued, 1059) == 1060
    with pytest.raises(MessageError, match="expired before it could be sent"):
        end_of_life(queued, 1060)
    assert end_of_life(message("text", None), 1060) is None
