import importlib.util
import sys
from types import ModuleType
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib import base64url


def _without_pybase64() -> ModuleType:
    """Return the module as it is where pybase64 is not installed."""
    specification = importlib.util.find_spec("idlib.base64url")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with mock.patch.dict(sys.modules, {"pybase64": None}):
        specification.loader.exec_module(module)
    return module


BOTH = {"pybase64": base64url, "binascii": _without_pybase64()}
with_each = pytest.mark.parametrize("codec", BOTH.values(), ids=BOTH)


def test_pybase64_is_used_where_it_is_installed() -> None:
    assert base64url._encode.__name__ == "encode_fast"
    assert BOTH["binascii"]._encode.__name__ == "encode_slowly"


@with_each
@given(st.binary())
def test_any_bytes_survive(codec: ModuleType, octets: bytes) -> None:
    assert codec.decode(codec.encode(octets)) == octets


@with_each
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("AQgwZ09-_+/= \n."), max_size=12))
def test_no_bytes_have_two_texts(codec: ModuleType, text: str) -> None:
    try:
        octets = codec.decode(text)
    except ValueError:
        return
    assert codec.encode(octets) == text


@with_each
@pytest.mark.parametrize(
    ("text", "octets"),
    [("", b""), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("Zm9vYg", b"foob"), ("-_-_", b"\xfb\xff\xbf")],
)
def test_known_bytes(codec: ModuleType, text: str, octets: bytes) -> None:
    assert codec.encode(octets) == text
    assert codec.decode(text) == octets


@with_each
@pytest.mark.parametrize(
    "text",
    [
        "Zg==",
        "Zm8=",
        "=",
        "Z",
        "Zm9vY",
        "+/+/",
        "Zm 8",
        "Zm8\n",
        " Zm8",
        "Zh",
        "Zm9",
        "Zg\0",
        "Zé",
        "Zm9v=",
        "Zm9v.",
        "%5A",
    ],
)
def test_other_texts_are_rejected(codec: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        codec.decode(text)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@with_each
@pytest.mark.parametrize("characters", [2, 3])
def test_spare_bits_at_the_end_are_rejected(codec: ModuleType, characters: int) -> None:
    """Of all characters that can end a text, only those are accepted that encoding produces."""
    bits = 6 * characters % 8
    for value, character in enumerate(ALPHABET):
        text = ("Zm9v" + "A" * characters)[:-1] + character
        if value % 2**bits:
            with pytest.raises(ValueError, match="impossible end"):
                codec.decode(text)
        else:
            assert codec.encode(codec.decode(text)) == text


@with_each
@pytest.mark.parametrize("place", range(8))
def test_every_character_outside_the_alphabet_is_rejected_in_every_place(codec: ModuleType, place: int) -> None:
    for character in [*map(chr, range(0x180)), "\u2028", "\uff21", "\ud800", "\U0001f600"]:
        text = "AAAAAAAA"[:place] + character + "AAAAAAAA"[place + 1 :]
        if character in ALPHABET:
            assert codec.encode(codec.decode(text)) == text
        else:
            with pytest.raises(ValueError, match=r".+"):
                codec.decode(text)


@with_each
@given(st.binary(max_size=400), st.data())
def test_a_changed_character_is_rejected_or_changes_the_bytes(
    codec: ModuleType, octets: bytes, data: st.DataObject
) -> None:
    text = codec.encode(octets) + "AAAA"
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    try:
        decoded = codec.decode(changed)
    except ValueError:
        return
    assert codec.encode(decoded) == changed
