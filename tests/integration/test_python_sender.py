"""`dane_messenger.Sender` in a program of a user's own, with a real broker and resolver."""

import gc
import json
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dane_messenger import (
    ConfigurationError,
    IdlibError,
    KeyFileError,
    MalformedNameError,
    MessageError,
    NoRecordError,
    NoSubscriberError,
    ReceiptError,
    Sender,
    TransportError,
)
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import free_port
from testbed.lab import Lab, wait_until
from testbed.outbox import waiting
from testbed.programs import SENDER, Device, Program


def says(sender: Device, text: str) -> str:
    return f'"{sender.name} says: {text}"'


def test_a_message_is_sent_and_printed(alice: Device, bob: Device, bob_receiver: Program) -> None:
    before = datetime.now(UTC)
    with Sender(alice.settings) as sender:
        assert sender.identity_name == alice.name
        sent = sender.send(bob.name, "from a program")
    assert before <= sent.sent_at <= datetime.now(UTC)
    assert (sent.recipient, sent.sealed, sent.readable_until) == (bob.name, "identity", None)
    assert not sent.is_confirmed
    assert sent.warning is None
    assert bob_receiver.wait_for_message("from a program") == says(alice, "from a program")


def test_messages_continue_after_the_broker_was_killed(
    sender: Device, recipient: Device, receiver: Program, own_mosquitto: Mosquitto
) -> None:
    texts = [f"reading {number:03}" for number in range(100)]
    with Sender(sender.settings, timeout=60) as program:
        sent = [program.send(recipient.name, text) for text in texts[:50]]
        own_mosquitto.kill()
        with ThreadPoolExecutor(1) as thread:
            rest = thread.submit(lambda: [program.send(recipient.name, text) for text in texts[50:]])
            own_mosquitto.start()
            sent += rest.result()
    assert len({message.id for message in sent}) == 100
    receiver.wait_for("all messages", lambda: len(receiver.stdout) >= 100)
    assert receiver.stdout == [says(sender, text) for text in texts]


def test_two_threads_share_one_connection(
    sender: Device, recipient: Device, receiver: Program, own_mosquitto: Mosquitto
) -> None:
    connections = own_mosquitto.log.read_text().count("New client connected")
    with Sender(sender.settings) as program, ThreadPoolExecutor(2) as threads:
        texts = [f"message {number:02}" for number in range(40)]
        sent = list(threads.map(lambda text: program.send(recipient.name, text), texts))
    assert len({message.id for message in sent}) == 40
    receiver.wait_for("all messages", lambda: len(receiver.stdout) >= 40)
    assert sorted(receiver.stdout) == [says(sender, text) for text in texts]
    assert own_mosquitto.log.read_text().count("New client connected") == connections + 1


def test_a_receipt_confirms_that_the_message_was_printed(alice: Device, bob: Device, bob_receiver: Program) -> None:
    with Sender(alice.settings) as sender:
        assert sender.send(bob.name, "please confirm", receipt=True).is_confirmed
        assert says(alice, "please confirm") in bob_receiver.stdout


def test_a_recipient_that_is_offline_confirms_nothing(lab: Lab, alice: Device) -> None:
    carol = lab.published_device("carol")
    with carol.receiver() as receiver:
        receiver.stop()
    with Sender(alice.settings) as sender, pytest.raises(ReceiptError, match="did not confirm within 1 s"):
        sender.send(carol.name, "anyone there?", receipt=True, timeout=1)


@pytest.mark.parametrize(
    ("recipient", "text", "error"),
    [
        ("nobody._device.example.test", "text", NoRecordError),
        ("not a name", "text", MalformedNameError),
        ("bob", "", MessageError),
        ("bob", "half a pair: \ud800", MessageError),
        ("bob", "x" * 70000, MessageError),
    ],
)
def test_what_cannot_be_sent_is_an_error_and_the_next_message_is_sent(
    recipient: str, text: str, error: type[IdlibError], alice: Device, bob: Device, bob_receiver: Program
) -> None:
    with Sender(alice.settings) as sender:
        name = bob.name if recipient == "bob" else recipient
        with pytest.raises(error) as raised:
            sender.send(name, text)
        assert raised.value.fact
        assert raised.value.hint
        sender.send(bob.name, f"after {error.__name__} {len(text)}")
    bob_receiver.wait_for_message(f"after {error.__name__} {len(text)}")


def test_a_message_without_a_subscriber_is_dropped(lab: Lab, alice: Device) -> None:
    dave = lab.published_device("dave")
    with Sender(alice.settings) as sender, pytest.raises(NoSubscriberError, match="the message was dropped"):
        sender.send(dave.name, "text")


def test_an_error_while_the_broker_is_down_does_not_end_the_sender(
    sender: Device, recipient: Device, receiver: Program, own_mosquitto: Mosquitto
) -> None:
    with Sender(sender.settings) as program:
        own_mosquitto.stop()
        with pytest.raises(TransportError, match="Connection refused"):
            program.send(recipient.name, "not connected yet")
        own_mosquitto.start()
        program.send(recipient.name, "connected")
        own_mosquitto.stop()
        with pytest.raises(TransportError, match=r"did not acknowledge the message within 0\.2 s"):
            program.send(recipient.name, "withdrawn", timeout=0.2)
        own_mosquitto.start()
        program.send(recipient.name, "connected again")
    receiver.wait_for_message("connected again")
    assert receiver.stdout == [says(sender, "connected"), says(sender, "connected again")]


def test_a_queued_message_is_delivered_by_the_resident_sender(
    lab: Lab, bob: Device, bob_receiver: Program, caplog: pytest.LogCaptureFixture
) -> None:
    device = lab.published_device("queuing")
    with Sender(device.with_settings(MQTT_PORT=str(free_port())).settings) as sender:
        queued = sender.queue(bob.name, "from the outbox", expires=3600)
        sender.queue(bob.name, "from the outbox, too")
    assert queued.recipient == bob.name
    assert waiting(device) == 2
    assert [record.getMessage() for record in caplog.records if "is not running" in record.getMessage()] == [
        "dane-messenger deliver is not running: start it with the same settings"
    ]
    with device.start(SENDER):
        bob_receiver.wait_for_message("from the outbox, too")
    assert says(device, "from the outbox") in bob_receiver.stdout


def test_a_key_that_is_missing_is_an_error_of_the_constructor(lab: Lab) -> None:
    with pytest.raises(KeyFileError):
        Sender(lab.device("keyless").settings)


def test_all_wrong_settings_are_reported_together(alice: Device) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Sender({**alice.settings, "MQTT_PORT": 0, "DNSSEC": "maybe"})
    assert len(raised.value.problems) == 2


def test_a_closed_sender_sends_nothing(alice: Device, bob: Device, bob_receiver: Program) -> None:
    sender = Sender(alice.settings)
    sender.send(bob.name, "before it is closed")
    sender.close()
    sender.close()
    with pytest.raises(RuntimeError, match="closed"):
        sender.send(bob.name, "afterwards")
    with pytest.raises(RuntimeError, match="closed"):
        sender.send(bob.name, "afterwards", receipt=True)


def test_a_sender_that_is_not_closed_leaves_no_connection(alice: Device, bob: Device, bob_receiver: Program) -> None:
    sender = Sender(alice.settings)
    sender.send(bob.name, "not closed")
    assert [thread for thread in threading.enumerate() if thread.name == "Publisher"]
    del sender
    gc.collect()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "Publisher"], "end of the connection")


STRICT = """
import gc, json, logging, os, signal, sys
from dane_messenger import NoRecordError, Sender

def state():
    handlers = {number: signal.getsignal(number) for number in signal.Signals}
    return handlers, gc.isenabled(), dict(os.environ), logging.root.handlers, logging.root.level, sys.excepthook

before = state()
settings = json.loads(sys.argv[1])
with Sender(settings) as sender:
    sender.send(sys.argv[2], "quiet")
    sender.queue(sys.argv[2], "quiet, and queued")
    try:
        sender.send("nobody._device.example.test", "text")
    except NoRecordError:
        pass
assert state() == before
"""


def test_a_program_is_left_as_it_is(lab: Lab, bob: Device, bob_receiver: Program, tmp_path: Path) -> None:
    device = lab.published_device("quiet")
    ended = subprocess.run(
        [sys.executable, "-c", STRICT, json.dumps(dict(device.settings)), bob.name],
        env={"PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_log_lines_go_to_the_loggers_of_the_packages(
    alice: Device, bob: Device, bob_receiver: Program, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Sender({**alice.settings, "MQTT_PLAINTEXT_LOGIN": "on"}) as sender:
        sender.send(bob.name, "logged")
    assert [record.name for record in caplog.records] == ["idlib.transport.broker"]
