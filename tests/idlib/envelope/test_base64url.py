import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.envelope import base64url


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
