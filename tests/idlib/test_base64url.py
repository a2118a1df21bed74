import base64
import random
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib import base64url

Decoder = Callable[[str], bytes]


def decode_long(text: str) -> bytes:
    """Decode a text as the end of a long one."""
    return base64url.decode("A" * base64url._LONG + text)[base64url._LONG // 4 * 3 :]


DECODERS = {"short": base64url.decode, "long": decode_long}
with_each = pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)


@pytest.fixture(autouse=True, scope="module", params=["pybase64", "binascii"])
def installed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test of long texts with pybase64, and as it is where that is not installed."""
    modules = {} if request.param == "pybase64" else {"pybase64": None}
    base64url._long_codec.cache_clear()
    with mock.patch.dict(sys.modules, modules):
        yield
    base64url._long_codec.cache_clear()


def test_long_texts_are_decoded_by_pybase64_where_it_is_installed(request: pytest.FixtureRequest) -> None:
    is_installed = request.node.callspec.params["installed"] == "pybase64"
    assert base64url._long_codec()[1].__name__ == ("decode_long" if is_installed else "_decode_short")


@with_each
@given(st.binary())
def test_any_bytes_survive(decode: Decoder, octets: bytes) -> None:
    assert decode(base64url.encode(octets)) == octets


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_long_bytes_have_the_text_that_the_standard_library_gives_them(spare: int) -> None:
    octets = random.Random(spare).randbytes(base64url._LONG * 3 + spare)
    text = base64url.encode(octets)
    assert text == base64.urlsafe_b64encode(octets).decode().rstrip("=")
    assert base64url.decode(text) == octets


@with_each
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("AQgwZ09-_+/= \n."), max_size=12))
def test_no_bytes_have_two_texts(decode: Decoder, text: str) -> None:
    try:
        octets = decode(text)
    except ValueError:
        return
    assert base64url.encode(octets) == text


@with_each
@pytest.mark.parametrize(
    ("text", "octets"),
    [("", b""), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("Zm9vYg", b"foob"), ("-_-_", b"\xfb\xff\xbf")],
)
def test_known_bytes(decode: Decoder, text: str, octets: bytes) -> None:
    assert base64url.encode(octets) == text
    assert decode(text) == octets


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
def test_other_texts_are_rejected(decode: Decoder, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@with_each
@pytest.mark.parametrize("characters", [2, 3])
def test_spare_bits_at_the_end_are_rejected(decode: Decoder, characters: int) -> None:
    """Of all characters that can end a text, only those are accepted that encoding produces."""
    bits = 6 * characters % 8
    for value, character in enumerate(ALPHABET):
        text = ("Zm9v" + "A" * characters)[:-1] + character
        if value % 2**bits:
            with pytest.raises(ValueError, match="impossible end"):
                decode(text)
        else:
            assert base64url.encode(decode(text)) == text


@with_each
@pytest.mark.parametrize("place", range(8))
def test_every_character_outside_the_alphabet_is_rejected_in_every_place(decode: Decoder, place: int) -> None:
    for character in [*map(chr, range(0x180)), "\u2028", "\uff21", "\ud800", "\U0001f600"]:
        text = "AAAAAAAA"[:place] + character + "AAAAAAAA"[place + 1 :]
        if character in ALPHABET:
            assert base64url.encode(decode(text)) == text
        else:
            with pytest.raises(ValueError, match=r".+"):
                decode(text)


@with_each
@given(st.binary(max_size=400), st.data())
def test_a_changed_character_is_rejected_or_changes_the_bytes(
    decode: Decoder, octets: bytes, data: st.DataObject
) -> None:
    text = base64url.encode(octets) + "AAAA"
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    try:
        decoded = decode(changed)
    except ValueError:
        return
    assert base64url.encode(decoded) == changed
