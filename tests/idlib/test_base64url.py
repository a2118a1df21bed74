import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib import base64url


@given(st.binary())
def test_any_bytes_survive(octets: bytes) -> None:
    assert base64url.decode(base64url.encode(octets)) == octets


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("AQgwZ09-_+/= \n."), max_size=12))
def test_no_bytes_have_two_texts(text: str) -> None:
    try:
        octets = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(octets) == text


@pytest.mark.parametrize(
    ("text", "octets"),
    [("", b""), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("Zm9vYg", b"foob"), ("-_-_", b"\xfb\xff\xbf")],
)
def test_known_bytes(text: str, octets: bytes) -> None:
    assert base64url.encode(octets) == text
    assert base64url.decode(text) == octets


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
def test_other_texts_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        base64url.decode(text)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("characters", [2, 3])
def test_spare_bits_at_the_end_are_rejected(characters: int) -> None:
    """Of all characters that can end a text, only those are accepted that encoding produces."""
    bits = 6 * characters % 8
    for value, character in enumerate(ALPHABET):
        text = ("Zm9v" + "A" * characters)[:-1] + character
        if value % 2**bits:
            with pytest.raises(ValueError, match="impossible end"):
                base64url.decode(text)
        else:
            assert base64url.encode(base64url.decode(text)) == text


@pytest.mark.parametrize("place", range(8))
def test_every_character_outside_the_alphabet_is_rejected_in_every_place(place: int) -> None:
    for character in [*map(chr, range(0x180)), "\u2028", "\uff21", "\ud800", "\U0001f600"]:
        text = "AAAAAAAA"[:place] + character + "AAAAAAAA"[place + 1 :]
        if character in ALPHABET:
            assert base64url.encode(base64url.decode(text)) == text
        else:
            with pytest.raises(ValueError, match=r".+"):
                base64url.decode(text)


@given(st.binary(max_size=400), st.data())
def test_a_changed_character_is_rejected_or_changes_the_bytes(octets: bytes, data: st.DataObject) -> None:
    text = base64url.encode(octets) + "AAAA"
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    try:
        decoded = base64url.decode(changed)
    except ValueError:
        return
    assert base64url.encode(decoded) == changed
