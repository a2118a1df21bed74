import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ExitStatus, MalformedNameError, MessageError
from idlib.names import IdentityName
from messaging_sender.recipients import MAX_FILE_BYTES, MAX_RECIPIENTS, parse_lines, read_name, several

NAMES = st.from_regex("[a-z]{1,8}[.][a-z]{2,6}", fullmatch=True)
BLANKS = st.text(" \t\r", max_size=3)
COMMENTS = st.just("") | st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=10).map("#{}".format)


@given(st.lists(st.tuples(BLANKS, NAMES | st.just(""), BLANKS, COMMENTS)))
def test_each_line_names_a_recipient_or_none(lines: list[tuple[str, str, str, str]]) -> None:
    names = tuple(IdentityName(name) for _, name, _, _ in lines if name)
    octets = "\n".join(map("".join, lines)).encode()
    if names:
        assert parse_lines(octets, "'f'") == names
        assert parse_lines(octets + b"\n", "'f'") == names
    else:
        with pytest.raises(MessageError, match="'f' names no recipient"):
            parse_lines(octets, "'f'")


@given(st.binary() | st.text("ab.-_#\n\r \u2028\x85\0", max_size=20).map(str.encode))
def test_any_file_has_names_or_is_an_error_of_one_line(octets: bytes) -> None:
    try:
        names = parse_lines(octets, "'f'")
    except MessageError as error:
        assert error.exit_status is ExitStatus.MESSAGE
        assert "\n" not in str(error)
        assert error.hint.endswith("Nothing was sent")
    else:
        assert names
        assert b"\n".join(name.text.encode() for name in names).count(b".") >= len(names)


@pytest.mark.parametrize(
    ("octets", "fact"),
    [
        (b"a.example\n\nbob\n", "'f', line 3: 'bob' is not a device name"),
        (b"a.example b.example", "'f', line 1: 'a.example b.example' is not a device name"),
        (b"a.example,b.example", "'f', line 1: 'a.example,b.example' is not a device name"),
        (b"*.example", "'f', line 1: '*.example' is not a device name"),
        (b"# \xff\n\xff.example", "'f', line 2 is not UTF-8"),
        (b"a.example\n127.0.0.1\nx\ny", "'f', line 2: '127.0.0.1' is an IP address, and 2 more lines are wrong"),
        ("küche.example".encode(), "'f', line 1: 'küche.example' is not a device name"),
        (b"", "'f' names no recipient"),
        (b" \n# nothing\n", "'f' names no recipient"),
    ],
)
def test_an_error_names_the_line(octets: bytes, fact: str) -> None:
    with pytest.raises(MessageError) as error:
        parse_lines(octets, "'f'")
    assert error.value.fact == fact


def test_a_long_line_is_cut_off_in_the_error() -> None:
    with pytest.raises(MessageError) as error:
        parse_lines(b"x" * 100_000, "'f'")
    assert len(error.value.fact) < 400


def test_each_recipient_counts_once_in_the_order_of_its_first_name(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("c.example\nB.example.\na.example\nc.example\r\n")
    given = [IdentityName("b.example"), IdentityName("d.example"), IdentityName("b.example")]
    assert list(map(str, several(given, path))) == ["b.example", "d.example", "c.example", "a.example"]
    assert list(map(str, several(given, None))) == ["b.example", "d.example"]


def test_the_file_can_be_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.example\n")))
    assert several([], Path("-")) == (IdentityName("a.example"),)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(MessageError, match="stdin is closed"):
        several([], Path("-"))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MessageError, match="cannot be read: No such file or directory"):
        several([], tmp_path / "missing")
    with pytest.raises(MessageError, match="cannot be read: Is a directory"):
        several([], tmp_path)


def test_too_many_recipients_and_a_file_that_is_too_large_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("".join(f"n{number}.example\n" for number in range(MAX_RECIPIENTS)))
    assert len(several([], path)) == MAX_RECIPIENTS
    with pytest.raises(MessageError, match="10001 recipients are too many"):
        several([IdentityName("one.more")], path)
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    with pytest.raises(MessageError, match="names no recipient"):
        several([], path)
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(MessageError, match="is larger than 4194304 bytes"):
        several([], path)


@pytest.mark.parametrize("text", ["127.0.0.1", "bob", "", "*.example", "a b.example", "a\n.example"])
def test_what_is_not_a_device_name_is_rejected(text: str) -> None:
    with pytest.raises(MalformedNameError):
        read_name(text)
