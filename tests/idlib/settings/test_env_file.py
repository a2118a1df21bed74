"""Files of settings: what is accepted, and that anything else is one clear error."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import VARIABLES
from idlib.settings.env_file import load_env_file, parse, read_env_file

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\x7f")).map(
    str.strip
)
SECRET = "hunter2"


def assignment(name: str, value: str) -> str | None:
    """Return a line that sets a variable, in the form that a careful user would choose; None if there is none."""
    if not set(value) & set("'\"#$\\ \t"):
        return f"{name}={value}"
    if "'" not in value and not value.endswith("\\"):
        return f"{name}='{value}'"
    if "$" not in value:
        return '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
    return None


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("", {}),
        ("   \t", {}),
        ("# IDENTITY_NAME=alice", {}),
        ("   # a comment", {}),
        ("MQTT_HOST=broker.example.com", {"MQTT_HOST": "broker.example.com"}),
        ("  MQTT_HOST=broker.example.com \t", {"MQTT_HOST": "broker.example.com"}),
        ("CRYPTO_PATH=~/messenger/identity", {"CRYPTO_PATH": "~/messenger/identity"}),
        ("ALLOWED_SENDERS=alice.example bob.example", {"ALLOWED_SENDERS": "alice.example bob.example"}),
        ("A=b=c", {"A": "b=c"}),
        ("A=", {"A": ""}),
        ("A=''", {"A": ""}),
        ('A=""', {"A": ""}),
        ("ROTATE_HOOK='logger \"$ROTATE_STEP\" # done'", {"ROTATE_HOOK": 'logger "$ROTATE_STEP" # done'}),
        ('A="it\'s #1"', {"A": "it's #1"}),
        (r'A="say \"hi\" \\ bye"', {"A": 'say "hi" \\ bye'}),
        ("A='C:\\temp'", {"A": "C:\\temp"}),
        ("_a1=Zürich 東京", {"_a1": "Zürich 東京"}),
        ("A='b\tc'", {"A": "b\tc"}),
    ],
)
def test_a_line_is_read(line: str, variables: dict[str, str]) -> None:
    assert parse(line.encode(), "file") == variables
    assert parse(f"{line}\n".encode(), "file") == variables


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"MQTT_HOST", "it has no equals sign; write NAME=VALUE"),
        (b"export A=b", "remove the word export"),
        (b"A = b", "remove the white space beside the equals sign"),
        (b"A= b", "remove the white space beside the equals sign"),
        (b"A =b", "remove the white space beside the equals sign"),
        (b"=b", "the name is not one of a variable; use letters, digits and _"),
        (b"1A=b", "the name is not one of a variable; use letters, digits and _"),
        (b"A-B=b", "the name is not one of a variable; use letters, digits and _"),
        ("Ä=b".encode(), "the name is not one of a variable; use letters, digits and _"),
        (b"; a=b", "the name is not one of a variable; use letters, digits and _"),
        (b"\xef\xbb\xbfA=b", "the name is not one of a variable; use letters, digits and _"),
        (b"A=$HOME", "the value has a dollar sign; put it into single quotes"),
        (b'A="$HOME"', "the value has a dollar sign; put it into single quotes"),
        (rb"A=a\b", "the value has a backslash; put it into single quotes"),
        (rb'A="a\n"', "the value has a backslash; put it into single quotes"),
        (
            b"A=b # c",
            "# is in the value or begins a comment; put the value into quotes, or the comment on its own line",
        ),
        (b"A=b#c", "# is in the value or begins a comment; put the value into quotes, or the comment on its own line"),
        (b"A='b' # c", "something follows the closing quote; put a comment on its own line"),
        (b"A='b'c", "something follows the closing quote; put a comment on its own line"),
        (b'A="b"c"', "something follows the closing quote; put a comment on its own line"),
        (b"A=it's", "a quotation mark is inside the value; put the whole value into the other kind of quotes"),
        (b"A='b", "the closing quote is missing; a value ends on its line"),
        (b'A="b', "the closing quote is missing; a value ends on its line"),
        (b'A="', "the closing quote is missing; a value ends on its line"),
        (rb'A="b\"', "the closing quote is missing; a value ends on its line"),
        (rb"A='b\'", "a backslash is before the closing quote; write the value in another way"),
        (b"A=b\r", "it ends with a carriage return; save the file with the line ends of Unix"),
        (b"A=b\0", "it has a control character; remove it"),
        (b"A=b\x1b[2J", "it has a control character; remove it"),
        ("A=b\u2028C=d".encode(), "it has a control character; remove it"),
        ("A=b\u0085".encode(), "it has a control character; remove it"),
        (b"A=\xff", "it is not valid UTF-8; save the file as UTF-8"),
        (b"B=1", "B is set a second time; remove one of the lines"),
    ],
)
def test_a_line_with_a_fault_is_reported_with_its_number(line: bytes, fault: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(b"# settings\nB=1\n" + line + b"\nC=2", "'alice.env'")
    assert raised.value.problems == (f"Error: 'alice.env', line 3: {fault}",)


@given(st.dictionaries(NAMES, PRINTABLE))
def test_what_a_careful_user_writes_is_read_as_it_was_meant(variables: dict[str, str]) -> None:
    lines = {name: assignment(name, value) for name, value in variables.items()}
    text = "\n".join(line for line in lines.values() if line is not None)
    assert parse(text.encode(), "file") == {name: variables[name] for name, line in lines.items() if line is not None}


@given(st.one_of(st.binary(), st.text("AB='\"\\$# \n\t\r;~").map(str.encode)))
def test_anything_is_read_or_reported_in_one_line_with_its_number(contents: bytes) -> None:
    try:
        variables = parse(contents, "file")
    except ConfigurationError as error:
        (problem,) = error.problems
        found = re.fullmatch(r"Error: file, line ([0-9]+): [ -~]+", problem)
        assert found
        assert 1 <= int(found[1]) <= contents.count(b"\n") + 1
    else:
        for name, value in variables.items():
            assert re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
            assert not set(value) & {"\0", "\n", "\r"}


@given(st.text(st.characters(codec="utf-8")).filter(lambda text: SECRET not in text))
def test_an_error_has_nothing_of_the_value(rest: str) -> None:
    try:
        parse(f"TOKEN={SECRET}{rest}".encode(), "file")
    except ConfigurationError as error:
        assert SECRET not in str(error)


def file_with(tmp_path: Path, contents: str, mode: int = 0o600) -> Path:
    path = tmp_path / "alice.env"
    path.write_text(contents)
    path.chmod(mode)
    return path


def fault_of(path: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_env_file(path)
    (problem,) = raised.value.problems
    return problem.replace(str(path), "FILE")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"MQTT_HOST": "given.example", "EMPTY": ""})
    load_env_file(file_with(tmp_path, "MQTT_HOST=file.example\nMQTT_PORT=8883\nEMPTY=full\n"))
    assert os.environ == {"MQTT_HOST": "given.example", "MQTT_PORT": "8883", "EMPTY": ""}


def test_a_file_with_a_fault_sets_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(ConfigurationError):
        load_env_file(file_with(tmp_path, "MQTT_HOST=file.example\nMQTT_PORT\n"))
    assert os.environ == {}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664])
def test_a_file_that_others_can_write_is_rejected(tmp_path: Path, mode: int) -> None:
    assert fault_of(file_with(tmp_path, "MQTT_PORT=1883", mode)) == (
        f"Error: other users can write 'FILE' (mode {mode:04o}); run chmod go-w FILE"
    )


@pytest.mark.parametrize("name", ["LEXICON_TOKEN", "API_KEY", "MQTT_PASSWORD", "password", "CLIENT_SECRET"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_with_a_secret_that_others_can_read_is_rejected(tmp_path: Path, mode: int, name: str) -> None:
    assert fault_of(file_with(tmp_path, f"MQTT_PORT=1883\n{name}={SECRET}", mode)) == (
        f"Error: other users can read 'FILE' (mode {mode:04o}), which has {name}; run chmod 600 FILE, and replace the"
        " secret if others may have read it"
    )


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_may_have_a_secret(tmp_path: Path, mode: int) -> None:
    assert read_env_file(file_with(tmp_path, f"API_KEY={SECRET}", mode)) == {"API_KEY": SECRET}


@pytest.mark.parametrize("line", ["MQTT_PASSWORD_FILE=/x", "KEY_TYPE=ed25519", "EPOCH_KEYS=on", "MQTT_KEY_FILE=/x"])
def test_a_file_without_a_secret_may_be_readable_by_all(tmp_path: Path, line: str) -> None:
    assert len(read_env_file(file_with(tmp_path, line, 0o644))) == 1


def test_no_setting_of_this_project_counts_as_a_secret(tmp_path: Path) -> None:
    names = {variable.name for variable in VARIABLES}
    lines = "\n".join(f"{name}=x" for name in names)
    assert set(read_env_file(file_with(tmp_path, lines, 0o644))) == names


def test_what_is_not_a_readable_file_is_reported(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "alice.env") == "Error: 'FILE' cannot be read: No such file or directory"
    assert fault_of(tmp_path) == "Error: 'FILE' cannot be read: it is a directory, not a regular file"
    os.mkfifo(tmp_path / "fifo")
    assert fault_of(tmp_path / "fifo") == "Error: 'FILE' cannot be read: it is a named pipe, not a regular file"
    large = file_with(tmp_path, "#" * 65537)
    assert fault_of(large) == "Error: 'FILE' has more than 65536 bytes; give the right file"


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    assert read_env_file(file_with(tmp_path, "A=" + "b" * 65534)) == {"A": "b" * 65534}
