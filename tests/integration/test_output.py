"""What the receiver prints: one line for each message; no text can break the line or control a terminal."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import Device, Program

_ACTIVE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* (DEBUG|INFO|WARNING|ERROR|CRITICAL) \S")


@pytest.mark.parametrize(
    "text",
    [
        "she said \"hello\" and 'goodbye' \\o/",
        "first line\nsecond line\r\nthird line\n",
        "red \x1b[31malert\x1b[0m \x9b2J \x07\x08\x7f",
        "nothing \x00 here",
        "user\u202egpj.exe \u2066isolated\u2069 \u200e\u200f\u061c",
        "line\u2028paragraph\u2029end\u0085",
        '"}\n{"sender": "mallory"',
    ],
)
def test_a_text_stays_on_one_line_and_cannot_control_the_terminal(
    text: str, alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    before = len(bob_receiver.stdout)
    anybody.publish(bob, encrypted(signed(text, alice, bob), bob))
    expected = f"{alice.name} says: {text}"
    bob_receiver.wait_for(
        f"message {text!r}", lambda: any(json.loads(line) == expected for line in bob_receiver.stdout[before:])
    )
    assert not any(_ACTIVE.search(line) for line in bob_receiver.stdout[before:])


def test_the_sender_sends_such_a_text(alice: Device, bob: Device, bob_receiver: Program) -> None:
    text = 'a "quoted"\nESC \x1b[2J \u202e and Grüße 🚀'
    assert alice.send(bob, text).status == 0
    line = bob_receiver.wait_for_message("and Grüße 🚀")
    assert json.loads(line) == f"{alice.name} says: {text}"


def test_any_language_is_printed_as_it_is(alice: Device, bob: Device, bob_receiver: Program) -> None:
    text = "Grüße, Ελλάδα, मराठी, 日本語, 👩‍🚀"
    assert alice.send(bob, text).status == 0
    assert bob_receiver.wait_for_message("日本語") == f'"{alice.name} says: {text}"'


def test_a_locale_without_utf_8_changes_nothing(
    alice: Device, bob: Device, tmp_path: Path, receiver_of: Callable[[Device], Program]
) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    receiver = receiver_of(bob.with_settings(DATA_PATH=str(tmp_path), **plain))
    assert alice.with_settings(LC_ALL="C").send(bob, "Grüße in jeder Locale").status == 0
    assert receiver.wait_for_message("Locale") == f'"{alice.name} says: Grüße in jeder Locale"'


def test_json_has_the_sender_the_text_and_the_time(
    alice: Device, bob: Device, tmp_path: Path, anybody: BrokerClient, receiver_of: Callable[[Device], Program]
) -> None:
    receiver = receiver_of(bob.with_settings(OUTPUT_FORMAT="json", DATA_PATH=str(tmp_path)))
    assert alice.send(bob, 'bound "Grüße"\n').status == 0
    anybody.publish(bob, encrypted(signed("of the old kind", alice), bob))
    receiver.wait_for_message("of the old kind")
    bound, unbound = (json.loads(line) for line in receiver.stdout)
    assert set(bound) == set(unbound) == {"sender", "message", "id", "sent_at", "received_at", "bound", "sealed"}
    assert (bound["sender"], bound["message"], bound["bound"]) == (alice.name, 'bound "Grüße"\n', True)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", bound["id"])
    sent_at, received_at = (datetime.fromisoformat(bound[key]) for key in ("sent_at", "received_at"))
    assert sent_at.utcoffset() == received_at.utcoffset() == datetime.fromisoformat("2026-01-01T00:00:00Z").utcoffset()
    assert abs((received_at - sent_at).total_seconds()) < 30
    assert (unbound["sender"], unbound["message"], unbound["bound"]) == (alice.name, "of the old kind", False)
    assert bound["sealed"] == unbound["sealed"] == "identity"
    assert unbound["id"] is None
    assert unbound["sent_at"] is None
    assert "Grüße" in receiver.stdout[0]


def test_nothing_but_messages_goes_to_stdout_and_nothing_but_log_lines_to_stderr(
    alice: Device, bob: Device, tmp_path: Path, anybody: BrokerClient, receiver_of: Callable[[Device], Program]
) -> None:
    receiver = receiver_of(bob.with_settings(LOG_LEVEL="debug", DATA_PATH=str(tmp_path)))
    anybody.publish(bob, "rubbish")
    anybody.publish(bob, encrypted(signed("\x1b[31m", alice, bob, x5u="dns://\x1b]0;evil\x07?type=TLSA"), bob))
    anybody.publish(bob, encrypted(signed("the only line", alice, bob), bob))
    receiver.wait_for_message("the only line")
    assert receiver.stop() == 0
    assert receiver.stdout == [f'"{alice.name} says: the only line"']
    assert [line for line in receiver.stderr if not _LOG_LINE.match(line)] == []
    assert not any(_ACTIVE.search(line) for line in receiver.stderr)
