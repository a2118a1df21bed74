"""Content with a type: any bytes arrive as they were sent, through each way that a message can take."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab, wait_until
from testbed.outbox import outbox_path, waiting
from testbed.programs import SENDER, Device, Program
from tests.integration.test_epoch_receiving import publish, publish_marked, spooled

PICTURE = b"\x89PNG\r\n\x1a\n\0\xff" + bytes(range(256)) * 4
AS_PICTURE = ("--content-type", "image/png")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "picture.png").write_bytes(PICTURE)
    (tmp_path / "table.csv").write_text("a,ü\n1,2\n")
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.fixture(scope="module")
def object_receiver(lab: Lab) -> Iterator[tuple[Device, Program]]:
    """Yield a device whose receiver prints objects, and the receiver."""
    device = lab.published_device("objects").with_settings(OUTPUT_FORMAT="json")
    with device.receiver() as receiver:
        yield device, receiver


def received(receiver: Program, identifier: str) -> tuple[bytes, str | None]:
    """Return the content and the content type of a message, once it is printed."""
    receiver.wait_for_message(identifier)
    (line,) = [json.loads(line) for line in receiver.stdout if identifier in line]
    text = line["message"]
    content = base64.b64decode(line["base64"], validate=True) if text is None else text.encode()
    return content, line.get("content_type")


def identifier_of(report: str) -> str:
    identifier: str = json.loads(report)["id"]
    return identifier


def test_a_file_arrives_byte_for_byte(alice: Device, object_receiver: tuple[Device, Program], files: Path) -> None:
    device, receiver = object_receiver
    sent = alice.send(device, "--file", str(files / "picture.png"), *AS_PICTURE, "--json", "--expires", "600")
    assert sent.status == 0, sent
    assert received(receiver, identifier_of(sent.stdout)) == (PICTURE, "image/png")
    piped = alice.send(device, "-", "--content-type", "Application/X;A=b", "--json", stdin=PICTURE)
    assert received(receiver, identifier_of(piped.stdout)) == (PICTURE, "application/x; a=b")
    confirmed = alice.send(device, "-", *AS_PICTURE, "--json", "--receipt", stdin=b"\0")
    assert json.loads(confirmed.stdout)["result"] == "printed"
    assert received(receiver, identifier_of(confirmed.stdout)) == (b"\0", "image/png")


def test_a_text_with_a_type_stays_a_text(alice: Device, object_receiver: tuple[Device, Program], files: Path) -> None:
    device, receiver = object_receiver
    for arguments in (("--file", str(files / "table.csv")), ("a,ü\n1,2\n",)):
        sent = alice.send(device, *arguments, "--content-type", "text/csv", "--json")
        assert received(receiver, identifier_of(sent.stdout)) == ("a,ü\n1,2\n".encode(), "text/csv")
    plain = alice.send(device, "--file", str(files / "table.csv"), "--json")
    assert received(receiver, identifier_of(plain.stdout)) == ("a,ü\n1,2\n".encode(), None)


def test_each_line_has_the_type(alice: Device, object_receiver: tuple[Device, Program]) -> None:
    device, receiver = object_receiver
    sent = alice.send(device, "--lines", "--content-type", "application/json", "--json", stdin=b'{"a":1}\n\xff\n\n')
    assert sent.status == 5
    assert "Line 3 was not sent: the message is empty" in sent.stderr
    first, second, empty = sent.stdout.splitlines()
    assert received(receiver, identifier_of(first)) == (b'{"a":1}', "application/json")
    assert received(receiver, identifier_of(second)) == (b"\xff", "application/json")
    assert json.loads(empty)["result"] == "failed"


def test_5_bytes_that_are_not_a_text_need_a_type(alice: Device, bob: Device, files: Path) -> None:
    hint = "is not UTF-8: byte 1 is invalid; convert it to UTF-8, or give its --content-type"
    for arguments, stdin in (
        (("--file", str(files / "picture.png")), b""),
        (("-",), b"\xff"),
        (("--lines",), b"\xff\n"),
    ):
        refused = alice.send(bob, *arguments, stdin=stdin)
        assert refused.status == 5, refused
        assert hint in refused.stderr


@pytest.mark.parametrize("options", [(), ("--queue",), ("--to", "carol.example.test")])
def test_5_content_cannot_be_empty_or_too_large(
    options: tuple[str, ...], alice: Device, bob: Device, files: Path
) -> None:
    to = options if "--to" in options else (bob.name, *options)
    empty = alice.send(to[0], *to[1:], "--file", str(files / "empty"), *AS_PICTURE)
    assert (empty.status, "the message is empty" in empty.stderr) == (5, True), empty
    large = alice.send(to[0], *to[1:], "-", *AS_PICTURE, stdin=b"\xff" * 60_000)
    assert (large.status, "the message is too large: " in large.stderr) == (5, True), large


@pytest.mark.parametrize("wrong", ["png", "image/", "image/png;", "a/b\n", "é/b", "*/*", ""])
def test_64_a_wrong_content_type_is_shown(wrong: str, alice: Device, bob: Device) -> None:
    refused = alice.send(bob, "hello", "--content-type", wrong)
    assert refused.status == 64
    assert "is not a media type; write it as in text/csv or image/png" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_receiver_that_prints_texts_describes_other_content_on_one_line(
    alice: Device, bob: Device, bob_receiver: Program
) -> None:
    assert alice.send(bob, "-", "--content-type", "image/described", stdin=PICTURE).status == 0
    bob_receiver.wait_for_message("image/described")
    (line,) = [json.loads(line) for line in bob_receiver.stdout if "image/described" in line]
    assert line.startswith(f"{alice.name} ")
    assert "says:" not in line


def test_content_to_an_epoch_key_arrives_byte_for_byte(alice: Device, lab: Lab, files: Path) -> None:
    device = lab.device_with_key("content-epochs")
    spool = str(device.crypto_path.parent / "spool")
    publish_marked(lab, device)
    device = device.with_settings(EPOCH_KEYS="on", EPOCH_SPOOL=spool, OUTPUT_FORMAT="json")
    with device.receiver() as receiver:
        publish(lab, device, spooled(device))
        sent = alice.send(device, "--file", str(files / "picture.png"), *AS_PICTURE, "--json")
        assert json.loads(sent.stdout)["sealed"] == "epoch", sent
        assert received(receiver, identifier_of(sent.stdout)) == (PICTURE, "image/png")


def test_content_that_waits_for_dns_in_the_receiver_keeps_its_type(alice: Device, lab: Lab) -> None:
    late = lab.device_with_key("late-content")
    device = lab.published_device("patient").with_settings(OUTPUT_FORMAT="json")
    with device.receiver() as receiver:
        sent = late.send(device, "-", *AS_PICTURE, "--json", stdin=PICTURE)
        receiver.wait_for_log(f"waiting sender={late.name}")
        receiver.kill()
    with device.receiver() as receiver:
        lab.knot.add_tlsa(late.name, late.tlsa_record())
        assert received(receiver, identifier_of(sent.stdout)) == (PICTURE, "image/png")


def test_queued_content_survives_the_broker_and_a_killed_sender(
    sender: Device, recipient: Device, own_mosquitto: Mosquitto, files: Path
) -> None:
    with recipient.with_settings(OUTPUT_FORMAT="json").receiver() as receiver:
        own_mosquitto.stop()
        queue = ("--queue", "--timeout", "2", "--json")
        names = []
        for number in range(8):
            content = PICTURE + bytes([number])
            queued = sender.send(recipient, "-", *AS_PICTURE, *queue, stdin=content)
            assert queued.status == 0, queued
            names.append(identifier_of(queued.stdout))
        assert b"image/png\0" in outbox_bytes(sender)
        own_mosquitto.start()
        for enough in (1, 3):
            with sender.start(SENDER) as resident:
                receiver.wait_for("some messages", lambda: len(receiver.stdout) >= enough, 60)  # noqa: B023
                resident.kill()
        with sender.start(SENDER):
            receiver.wait_for_message(names[-1], timeout=60)
            wait_until(lambda: waiting(sender) == 0, "an empty outbox")
        for number, name in enumerate(names):
            assert received(receiver, name) == (PICTURE + bytes([number]), "image/png")
        assert len(receiver.stdout) == len(names)


def outbox_bytes(device: Device) -> bytes:
    path = outbox_path(device)
    return b"".join((path.parent / name).read_bytes() for name in os.listdir(path.parent) if name.startswith(path.name))
