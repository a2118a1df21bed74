import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_receiver.arguments import command_line, read_arguments


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("-C 0", "'0' is not a number from 1 to 999999999"),
        ("-C 1e3", "'1e3' is not a number from 1"),
        ("-C \x1b[31m", "is not a number from 1"),
        ("-C ١", "is not a number from 1"),
        ("-W nan", "'nan' is not a number of seconds"),
        ("-W -1", "'-1' is not a number of seconds"),
        ("-W inf", "'inf' is not a number of seconds"),
        ("--from 'no name'", "'no name' is not a device name"),
        ("--exec ''", "the command is empty"),
        ("--exec \"''\"", "the command is empty"),
        ('--exec "a \'b"', "is not a command: no closing quotation"),
        ("--exec cat --confirm", "--exec cannot be used with --confirm"),
        ("--exec-timeout 5", "--exec-timeout cannot be used without --exec"),
        ("--exec cat --exec-timeout 0", "'0' is not a number of seconds"),
    ],
)
def test_a_bad_option_is_one_line(
    arguments: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["receive", *shlex.split(arguments)])
    with pytest.raises(SystemExit) as caught:
        read_arguments()
    assert caught.value.code == 64
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert complaint in line
    assert "\x1b" not in line


def test_the_options_are_read() -> None:
    line = "-C 3 -W 1.5 --from alice._device.example.com --from *.example.net --exec 'notify --text \"a b\"'"
    arguments = command_line().parse_args([*shlex.split(line), "--exec-timeout", "5", "--save-dir", "files"])
    assert (arguments.count, arguments.seconds, arguments.exec_seconds) == (3, 1.5, 5.0)
    assert arguments.senders == ["alice._device.example.com", "*.example.net"]
    assert arguments.command == ["notify", "--text", "a b"]
    assert str(arguments.save_dir) == "files"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_a_quoted_command_is_read_as_it_was(words: list[str]) -> None:
    words[0] = f"x{words[0]}"
    assert command_line().parse_args(["--exec", shlex.join(words)]).command == words
