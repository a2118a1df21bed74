"""What `Sender` rejects before it needs the network; tests/integration/test_python_sender.py sends."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dane_messenger import IdlibError, MalformedMediaTypeError, MessageError, Sender
from idlib.keys import encode_private_key, generate_private_key, key_path, locked, write_new
from idlib.names import IdentityName
from idlib.settings import KeyType
from idlib.storage.outbox import Outbox, OutgoingMessage

ALICE = "alice._device.example.com"
BOB = "bob._device.example.com"


@pytest.fixture
def settings(tmp_path: Path) -> Mapping[str, str | Path]:
    identity = tmp_path / "identity"
    identity.mkdir()
    key = generate_private_key(KeyType.P256)
    with locked(identity):
        write_new(key_path(identity, IdentityName(ALICE)), encode_private_key(key), os.geteuid())
    return {"IDENTITY_NAME": ALICE, "CRYPTO_PATH": identity, "DATA_PATH": tmp_path / "data"}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"expires": 0}, "expires=0: give a whole number of seconds from 1 to 99999999"),
        ({"expires": 100_000_000}, "expires=100000000: give"),
        ({"expires": 1.5}, r"expires=1\.5: give"),
        ({"timeout": 0}, "timeout=0: give more than 0 and at most 86400 seconds"),
        ({"timeout": 86401}, "timeout=86401: give"),
        ({"timeout": float("nan")}, "timeout=nan: give"),
    ],
)
def test_a_number_out_of_range_is_an_error(
    options: dict[str, Any], error: str, settings: Mapping[str, str | Path]
) -> None:
    with Sender(settings) as sender, pytest.raises(ValueError, match=error):
        sender.send(BOB, "text", **options)


def test_a_timeout_of_the_sender_out_of_range_is_an_error(settings: Mapping[str, str | Path]) -> None:
    with pytest.raises(ValueError, match="timeout=-1: give"):
        Sender(settings, timeout=-1)


@pytest.mark.parametrize("content", [5, None, ["text"], {"load": 1}])
@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_content_of_another_kind_is_an_error(
    content: Any, content_type: str | None, settings: Mapping[str, str | Path]
) -> None:
    error = f"the content is of the type {type(content).__name__}: give a str or bytes"
    with Sender(settings) as sender:
        for call in (sender.send, sender.queue):
            with pytest.raises(ValueError, match=error):
                call(BOB, content, content_type=content_type)


def test_a_closed_sender_says_so(settings: Mapping[str, str | Path]) -> None:
    with Sender(settings) as sender:
        pass
    with pytest.raises(RuntimeError, match="the sender is closed"):
        sender.send(BOB, "text")


def test_a_message_that_cannot_be_queued_creates_no_outbox(settings: Mapping[str, str | Path], tmp_path: Path) -> None:
    with Sender(settings) as sender, pytest.raises(ValueError, match="expires=0: give"):
        sender.queue(BOB, "text", expires=0)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "content_type", "error"),
    [
        ("text", "json", MalformedMediaTypeError),
        (b"bytes", "", MalformedMediaTypeError),
        (b"", None, MessageError),
        ("half a pair: \ud800", "text/plain", MessageError),
    ],
)
def test_content_that_cannot_be_sent_is_not_queued(
    content: str | bytes,
    content_type: str | None,
    error: type[IdlibError],
    settings: Mapping[str, str | Path],
    tmp_path: Path,
) -> None:
    with Sender(settings) as sender, pytest.raises(error):
        sender.queue(BOB, content, content_type=content_type)
    assert not (tmp_path / "data").exists()


def test_queued_content_has_its_type(settings: Mapping[str, str | Path], tmp_path: Path) -> None:
    with Sender(settings) as sender:
        sender.queue(BOB, "text")
        sender.queue(BOB, "typed", content_type="TEXT/csv")
        sender.queue(BOB, b"\xff", content_type="image/png")
        sender.queue(BOB, b"\xff")
    queued: list[OutgoingMessage] = []
    with Outbox(tmp_path / "data") as outbox:
        while (message := outbox.next_to(BOB, queued[-1].number if queued else 0)) is not None:
            queued.append(message)
    assert [(message.content, message.content_type) for message in queued] == [
        ("text", None),
        (b"typed", "text/csv"),
        (b"\xff", "image/png"),
        (b"\xff", "application/octet-stream"),
    ]


def test_a_queued_message_is_described(settings: Mapping[str, str | Path]) -> None:
    with Sender(settings) as sender:
        first, second = sender.queue(BOB.upper(), "one"), sender.queue(BOB, "two")
    assert first.recipient == second.recipient == BOB
    assert first.id != second.id
    assert first.queued_at.utcoffset() is not None
