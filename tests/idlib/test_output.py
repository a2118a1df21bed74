import base64
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.names import IdentityName
from idlib.output import content_line, harmless, json_line, rfc3339, text_line

ALICE = IdentityName("alice._device.example.com")
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def is_harmless(line: str) -> bool:
    return not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in BIDIRECTIONAL for character in line
    )


def test_a_message_is_a_json_string_with_every_script_readable() -> None:
    assert text_line(ALICE, 'Grüße, "Bob" 你好 🎉') == r'"alice._device.example.com says: Grüße, \"Bob\" 你好 🎉"'


@pytest.mark.parametrize("character", ["\0", "\n", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u2029", *BIDIRECTIONAL])
def test_control_characters_are_escaped(character: str) -> None:
    for line in (text_line(ALICE, character), harmless(character)):
        assert character not in line
        assert is_harmless(line)
    assert json.loads(text_line(ALICE, character)) == f"{ALICE} says: {character}"


@given(TEXTS)
def test_any_text_is_one_harmless_line_and_can_be_read_back(text: str) -> None:
    line = text_line(ALICE, text)
    assert is_harmless(line)
    assert json.loads(line) == f"{ALICE} says: {text}"


@given(TEXTS, TEXTS, st.integers(0, 2**53 - 1), st.floats(0, 4e9))
def test_any_message_is_one_json_object(text: str, identifier: str, sent_at: int, received_at: float) -> None:
    line = json_line(ALICE, text, identifier=identifier, sent_at=sent_at, received_at=received_at, sealed="identity")
    assert is_harmless(line)
    read = json.loads(line)
    assert list(read) == ["sender", "message", "id", "sent_at", "received_at", "bound", "sealed"]
    assert (read["sender"], read["message"], read["id"], read["bound"]) == (str(ALICE), text, identifier, True)


def test_an_unbound_message_is_marked() -> None:
    read = json.loads(json_line(ALICE, "hello", identifier=None, sent_at=None, received_at=1.5, sealed="epoch"))
    assert read == {
        "sender": str(ALICE),
        "message": "hello",
        "id": None,
        "sent_at": None,
        "received_at": "1970-01-01T00:00:01.500Z",
        "bound": False,
        "sealed": "epoch",
    }


def test_times_are_written_as_rfc_3339_in_utc() -> None:
    assert rfc3339(1_795_392_000) == "2026-11-23T00:00:00Z"
    assert rfc3339(1_795_392_000.25) == "2026-11-23T00:00:00.250Z"


@given(st.text())
def test_any_log_text_becomes_harmless(text: str) -> None:
    assert is_harmless(harmless(text))


@given(st.binary(min_size=1))
def test_content_with_a_type_is_in_the_object(content: bytes) -> None:
    line = json_line(
        ALICE, content, identifier="x", sent_at=1, received_at=1.5, sealed="epoch", content_type="image/png"
    )
    read = json.loads(line)
    assert (read["message"], read["content_type"]) == (None, "image/png")
    assert base64.b64decode(read["base64"], validate=True) == content


def test_a_text_with_a_type_stays_a_text() -> None:
    line = json_line(ALICE, "a,b", identifier="x", sent_at=1, received_at=1.5, sealed="epoch", content_type="text/csv")
    assert (json.loads(line)["message"], json.loads(line)["content_type"]) == ("a,b", "text/csv")
    assert "base64" not in json.loads(line)


@pytest.mark.parametrize(
    ("content", "file", "shown"),
    [
        (b"a,b", None, "sent 3 bytes of type text/csv: a,b"),
        (b"\xff", None, "sent 1 byte in base64 of type text/csv: /w=="),
        (b"\xff\xfe", "/saved/x.csv", "sent 2 bytes in the file /saved/x.csv of type text/csv"),
        (b"a,b", "/saved/x.csv", "sent 3 bytes in the file /saved/x.csv of type text/csv"),
    ],
)
def test_content_with_a_type_cannot_be_mistaken_for_a_text(content: bytes, file: str | None, shown: str) -> None:
    line = json.loads(content_line(ALICE, content, "text/csv", file))
    assert line == f"{ALICE} {shown}"
    assert not line.startswith(f"{ALICE} says: ")


@pytest.mark.parametrize("content", ["a,b", b"\xff"])
def test_content_in_a_file_is_not_in_the_object(content: str | bytes) -> None:
    line = json_line(
        ALICE,
        content,
        identifier="x",
        sent_at=1,
        received_at=1.5,
        sealed="epoch",
        content_type="text/csv",
        file="/saved/x.csv",
    )
    read = json.loads(line)
    assert (read["message"], read["file"]) == (None, "/saved/x.csv")
    assert "base64" not in read


def test_a_number_to_confirm_comes_first() -> None:
    line = json_line(ALICE, "x", identifier=None, sent_at=None, received_at=1.5, sealed="epoch", number=7)
    assert line.startswith('{"number": 7, "sender": ')
