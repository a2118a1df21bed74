"""`dane_messenger.Receiver` in a program of a user's own, with a real broker and resolver."""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dane_messenger import ConfigurationError, Message, Receiver, ReceiverError, Sender, StoreError
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import RECEIVER, Device, Program, descendants

PATIENCE = 30.0


class Failure(Exception):
    """The failure of a program."""


@pytest.fixture(scope="module")
def carol(lab: Lab) -> Device:
    """Return a device whose messages the broker keeps; each test acknowledges all that it sends."""
    device = lab.published_device("carol")
    with device.receiver() as receiver:
        receiver.stop()
    return device


def texts(receiver: Receiver, number: int) -> list[str | None]:
    return [receiver.get(PATIENCE).text for _ in range(number)]


def test_a_message_is_received(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender, Receiver(carol.settings) as receiver:
        assert receiver.identity_name == carol.name
        sent = sender.send(carol.name, "to a program\n'quoted' \u2028 \x1b[31m")
        message = receiver.get(PATIENCE)
    assert (message.sender, message.text) == (alice.name, "to a program\n'quoted' \u2028 \x1b[31m")
    assert (message.id, message.sealed, message.bound) == (sent.id, "identity", True)
    assert message.content_type is None
    assert message.sent_at
    assert message.sent_at <= message.received_at <= datetime.now(UTC)
    assert message.received_at - message.sent_at < timedelta(seconds=PATIENCE)


def test_a_message_without_an_id_is_received(alice: Device, carol: Device, anybody: BrokerClient) -> None:
    anybody.publish(carol, encrypted(signed("unbound", alice), carol).encode())
    with Receiver(carol.settings) as receiver:
        message = receiver.get(PATIENCE)
    assert (message.text, message.id, message.sent_at, message.bound) == ("unbound", None, None, False)


def test_content_with_a_type_is_received_as_it_was_sent(alice: Device, carol: Device) -> None:
    contents: list[tuple[bytes, str | None]] = [
        (b"\x89PNG\r\n\x1a\n\0\xff", "image/png"),
        (b"\0", "application/octet-stream"),
        (b"one\r\n", "text/csv; charset=utf-8"),
    ]
    with Sender(alice.settings) as sender, Receiver(carol.settings) as receiver:
        for content, content_type in contents:
            sender.send(carol.name, content, content_type=content_type)
        sender.send(carol.name, '{"ü": 1}', content_type="application/json")
        messages = [receiver.get(PATIENCE) for _ in contents]
        last = receiver.get(PATIENCE)
    assert [(message.content, message.content_type) for message in messages] == contents
    assert (last.text, last.content_type) == ('{"ü": 1}', "application/json")
    assert messages[0].text is None


def test_a_message_comes_again_if_the_loop_raises(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender:
        ids = [sender.send(carol.name, text).id for text in ("one", "two", "three")]
    seen: list[str | None] = []

    def receive() -> None:
        with Receiver(carol.settings) as receiver:
            for message in receiver:
                seen.append(message.id)
                if message.text == "two":
                    raise Failure

    with pytest.raises(Failure):
        receive()
    assert seen == ids[:2]
    with Receiver(carol.settings) as receiver:
        assert [receiver.get(PATIENCE).id for _ in range(2)] == ids[1:]


def test_a_second_loop_begins_with_what_the_first_one_left(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender, Receiver(carol.settings) as receiver:
        for text in ("one", "two", "three"):
            sender.send(carol.name, text)
        for first in receiver:
            assert first.text == "one"
            break
        before = first.is_acknowledged
        for again in receiver:
            assert again is first
            first.acknowledge()
            first.acknowledge()
            break
        assert (before, first.is_acknowledged) == (False, True)
        for message in receiver:
            assert message.text == "two"
            break
    # The last one was acknowledged, because no exception left the `with` statement.
    with Receiver(carol.settings) as receiver:
        assert texts(receiver, 1) == ["three"]


def test_closing_acknowledges_nothing(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender:
        sender.send(carol.name, "one")
    receiver = Receiver(carol.settings)
    message = receiver.get(PATIENCE)
    receiver.close()
    receiver.close()
    with pytest.raises(RuntimeError, match="closed"):
        receiver.get()
    with pytest.raises(ReceiverError, match="comes again"):
        message.acknowledge()
    assert list(receiver) == []
    with Receiver(carol.settings) as another:
        assert texts(another, 1) == ["one"]


def test_no_message_in_time_is_a_timeout(alice: Device, carol: Device) -> None:
    with Receiver(carol.settings) as receiver:
        with pytest.raises(TimeoutError):
            receiver.get(timeout=0.01)
        with Sender(alice.settings) as sender:
            sender.send(carol.name, "late")
        assert texts(receiver, 1) == ["late"]


def test_a_loop_ends_when_another_thread_closes_the_receiver(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender, Receiver(carol.settings) as receiver, ThreadPoolExecutor(1) as thread:
        arrived = threading.Event()

        def loop() -> list[Message]:
            messages = []
            for message in receiver:
                messages.append(message)
                message.acknowledge()
                arrived.set()
            return messages

        looping = thread.submit(loop)
        sender.send(carol.name, "only one")
        assert arrived.wait(PATIENCE)
        receiver.close()
        assert [message.text for message in looping.result(PATIENCE)] == ["only one"]


def test_two_receivers_in_one_program(lab: Lab, alice: Device, carol: Device) -> None:
    dave = lab.published_device("dave")
    with dave.receiver() as earlier:
        earlier.stop()
    with Sender(alice.settings) as sender, Receiver(carol.settings) as one, Receiver(dave.settings) as other:
        sender.send(dave.name, "to dave")
        sender.send(carol.name, "to carol")
        assert texts(one, 1) + texts(other, 1) == ["to carol", "to dave"]


def test_a_receipt_is_sent_once_the_message_is_acknowledged(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender, Receiver(carol.settings) as receiver, ThreadPoolExecutor(1) as thread:
        sending = thread.submit(sender.send, carol.name, "please confirm", receipt=True)
        message = receiver.get(PATIENCE)
        assert not sending.done()
        message.acknowledge()
        assert sending.result(PATIENCE).is_confirmed


def test_wrong_settings_are_an_error_of_the_constructor(carol: Device) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Receiver({**carol.settings, "MQTT_PORT": "many", "RECEIVER_WORKERS": -1})
    assert len(raised.value.problems) == 2


def test_settings_that_the_receiver_rejects_are_the_same_error(
    carol: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process does not run what is in the present directory.
    (tmp_path / "dane_messenger.py").write_text("raise SystemExit('hijacked')\n")
    monkeypatch.chdir(tmp_path)
    settings: dict[str, str | Path] = {**carol.settings, "MQTT_TLS": "on", "MQTT_CA_FILE": tmp_path / "missing.pem"}
    with Receiver(settings) as receiver, pytest.raises(ConfigurationError) as raised:
        receiver.get(PATIENCE)
    (problem,) = raised.value.problems
    assert (
        problem
        == f"Bad value of env var MQTT_CA_FILE: '{tmp_path}/missing.pem' cannot be read: No such file or directory"
    )


def test_a_second_receiver_of_a_device_is_an_error(carol: Device) -> None:
    with carol.start(RECEIVER) as running:
        running.wait_for_log("subscription active")
        with Receiver(carol.settings) as receiver, pytest.raises(StoreError) as raised:
            receiver.get(PATIENCE)
    assert raised.value.fact
    assert raised.value.hint


def child_of_this_process() -> int:
    """Return the process of the only receiver of this process."""
    command = b"-m\0dane_messenger\0receive\0"
    (child,) = [pid for pid in descendants(os.getpid()) if command in Path(f"/proc/{pid}/cmdline").read_bytes()][:1]
    return child


def test_a_receiver_that_was_killed_is_an_error_and_then_starts_again(alice: Device, carol: Device) -> None:
    with Sender(alice.settings) as sender, Receiver(carol.settings) as receiver:
        sender.send(carol.name, "one")
        assert texts(receiver, 1) == ["one"]
        os.kill(child_of_this_process(), signal.SIGKILL)
        with pytest.raises(ReceiverError, match="ended by signal 9"):
            receiver.get(PATIENCE)
        # It was not acknowledged.
        assert texts(receiver, 1) == ["one"]


def test_the_log_goes_to_the_logger_of_the_package(
    carol: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The receiver writes text whatever the program's own log is like.
    monkeypatch.setenv("LOG_FORMAT", "json")
    with caplog.at_level(logging.INFO, "dane_messenger"), Receiver(carol.settings):
        wait_until(lambda: "MQTT subscription active." in caplog.text, "log of the receiver")
    logged = [record for record in caplog.records if "MQTT subscription active." in record.getMessage()]
    assert {(record.name, record.levelname) for record in logged} == {("dane_messenger", "INFO")}


PROGRAM = """
import json, signal, sys
from dane_messenger import Receiver

with Receiver(json.loads(sys.argv[1])) as receiver:
    print("started", flush=True)
    for message in receiver:
        print(message.text, flush=True)
        {body}
"""


@contextmanager
def program(device: Device, body: str = "pass") -> Iterator[Program]:
    command = [sys.executable, "-c", PROGRAM.format(body=body), json.dumps(dict(device.settings))]
    with Program(command, {"PATH": os.environ["PATH"]}) as running:
        yield running


def have_ended(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_receiver_ends_if_the_program_is_killed(alice: Device, carol: Device) -> None:
    with program(carol, "signal.pause()") as running, Sender(alice.settings) as sender:
        sender.send(carol.name, "one")
        running.wait_for_message("one")
        children = descendants(running.pid)
        assert children
        running.signal(signal.SIGKILL)
        wait_until(lambda: have_ended(children), "end of the receiver")
    with Receiver(carol.settings) as receiver:
        assert texts(receiver, 1) == ["one"]


def test_a_receiver_that_waits_for_its_identity_ends_if_the_program_is_killed(lab: Lab) -> None:
    device = lab.device("unknown")
    with program(device) as running:
        running.wait_for_message("started")
        socket = Path(device.settings["DATA_PATH"]) / "health.socket"
        wait_until(socket.exists, "start of the receiver")
        children = descendants(running.pid)
        assert children
        running.signal(signal.SIGKILL)
        wait_until(lambda: have_ended(children), "end of the receiver")


def test_ctrl_c_ends_the_program_and_its_receiver(alice: Device, carol: Device) -> None:
    with program(carol, 'message.text == "two" and signal.pause()') as running, Sender(alice.settings) as sender:
        sender.send(carol.name, "one")
        sender.send(carol.name, "two")
        running.wait_for_message("two")
        children = descendants(running.pid)
        running.signal(signal.SIGINT)
        assert running.wait_for_end() == -signal.SIGINT
        assert running.stderr[-1] == "KeyboardInterrupt"
        assert have_ended(children)
    with Receiver(carol.settings) as receiver:
        # The program had asked for the next message after "one".
        assert texts(receiver, 1) == ["two"]


def test_nothing_is_printed_without_a_logging_configuration(alice: Device, carol: Device) -> None:
    with program(carol, "break") as running, Sender(alice.settings) as sender:
        sender.send(carol.name, "one")
        assert running.wait_for_end() == 0
    assert (running.stdout, running.stderr) == (["started", "one"], [])
