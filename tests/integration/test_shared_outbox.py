"""Resident senders, on several machines, that share an outbox in PostgreSQL."""

import os
import time
from pathlib import Path

import pytest
from paho.mqtt import publish

from idlib.names import IdentityName
from idlib.settings import load
from idlib.settings.store_urls import read_store_url
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.outbox import PostgresOutbox
from messaging_sender.mark_memory import MarkMemory
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import LOOPBACK
from testbed.lab import Lab, wait_until
from testbed.outbox import ACKNOWLEDGED
from testbed.programs import SENDER, Device, Program

NOT_RUNNING = f"WARNING {SENDER} is not running: start it with the same settings"
AWAY = "Messages wait for the database "
AGAIN = "The database can be used again"


@pytest.fixture
def shared(sender: Device, postgresql: Postgresql) -> Device:
    """Return a device whose outbox is in a database."""
    return sender.with_settings(STORE=postgresql.new_database())


def elsewhere(device: Device, number: int) -> Device:
    """Return the device as it is on another machine, which has a DATA_PATH of its own."""
    return device.with_settings(DATA_PATH=str(Path(device.settings["DATA_PATH"]) / f"machine {number}"))


def opened(device: Device) -> PostgresOutbox:
    return PostgresOutbox(PostgresDatabase(read_store_url(device.settings["STORE"])), IdentityName(device.name))


def fill(device: Device, recipients: tuple[Device, ...], number: int) -> None:
    with opened(device) as outbox:
        for text in range(number):
            for recipient in recipients:
                outbox.put(
                    NewOutgoingMessage(recipient.name, os.urandom(16).hex(), f"number {text}", int(time.time()), None)
                )


def waiting(device: Device) -> int:
    with opened(device) as outbox:
        return outbox.waiting().number


def texts(receiver: Program) -> list[str]:
    return [line.split("says: ")[1] for line in receiver.stdout]


def repeats(receiver: Program) -> int:
    return sum("refused reason=" in line for line in receiver.stderr)


def test_a_message_that_was_queued_on_one_machine_is_sent_from_another(
    shared: Device, recipient: Device, receiver: Program, own_mosquitto: Mosquitto
) -> None:
    own_mosquitto.stop()
    queued = shared.send(recipient, "from afar", "--queue", "--timeout", "2")
    assert queued.status == 0, queued.stderr
    assert queued.stderr.count(NOT_RUNNING) == 1, queued.stderr
    there = elsewhere(shared, 1)
    assert there.run(SENDER, "--health").stdout.startswith("ok: messages waiting to be delivered: 1, since 20")
    with there.start(SENDER) as resident:
        resident.wait_for_log(f"Watching the outbox in the database {shared.settings['STORE'].partition('@')[2]}")
        resident.wait_for_log("1 message in the outbox")
        assert NOT_RUNNING not in shared.send(recipient, "and this", "--queue", "--timeout", "2").stderr
        own_mosquitto.start()
        receiver.wait_for_message("from afar", timeout=60)
        receiver.wait_for_message("and this")
        resident.wait_for("an empty outbox", lambda: waiting(shared) == 0)
        assert resident.stop() == 0
    with opened(shared) as outbox:
        assert not outbox.has_senders()
    assert not list(Path(shared.settings["DATA_PATH"]).rglob("*.sqlite3"))


def test_a_message_is_not_sent_by_two_senders_and_those_of_one_that_is_killed_are_sent_by_the_other(
    shared: Device, recipient: Device, receiver: Program, lab: Lab
) -> None:
    second = lab.published_device("second").with_settings(MQTT_PORT=recipient.settings["MQTT_PORT"])
    # Has no subscriber, so that both senders keep looking for messages that can be sent.
    absent = lab.published_device("absent")
    fill(shared, (absent,), 1)
    with (
        second.receiver() as other_receiver,
        elsewhere(shared, 1).start(SENDER) as one,
        elsewhere(shared, 2).start(SENDER) as two,
    ):
        receivers = (receiver, other_receiver)
        senders = (one, two)
        for sender in senders:
            sender.wait_for_log(f"Messages to {absent.name} wait: ", timeout=60)
        fill(shared, (recipient, second), 100)
        wait_until(lambda: waiting(shared) == 1, "every message is sent", 60)
        wait_until(lambda: all(len(each.stdout) == 100 for each in receivers), "every message")
        assert [repeats(each) for each in receivers] == [0, 0]
        assert sum(ACKNOWLEDGED in line for sender in senders for line in sender.stderr) == 200
        seen = {sender: len(sender.stderr) for sender in senders}

        def delivering() -> list[Program]:
            return [sender for sender in senders if any(ACKNOWLEDGED in line for line in sender.stderr[seen[sender] :])]

        fill(shared, (recipient, second), 100)
        wait_until(lambda: bool(delivering()), "some deliveries")
        delivering()[0].kill()
        wait_until(lambda: waiting(shared) == 1, "every message is sent", 60)
        wait_until(lambda: all(len(each.stdout) == 200 for each in receivers), "every message")
        for each in receivers:
            assert texts(each) == [f'number {number}"' for number in (*range(100), *range(100))]
            # One message to each recipient is on its way at a time.
            assert repeats(each) <= 1


def test_messages_wait_while_the_database_is_away_and_one_line_says_so(
    sender: Device, recipient: Device, receiver: Program, own_postgresql: Postgresql
) -> None:
    shared = sender.with_settings(STORE=own_postgresql.new_database())
    fill(shared, (recipient,), 60)
    with shared.start(SENDER) as resident:
        receiver.wait_for("some messages", lambda: len(receiver.stdout) >= 5)
        own_postgresql.kill()
        resident.wait_for_log(AWAY[:-1])
        queued = shared.send(recipient, "not queued", "--queue")
        health = shared.run(SENDER, "--health")
        own_postgresql.start()
        receiver.wait_for_message('number 59"', timeout=60)
        wait_until(lambda: waiting(shared) == 0, "an empty outbox")
        assert sum("wait" in line and "database" in line for line in resident.stderr) == 1, resident.stderr
        resident.wait_for_log(AGAIN)
        assert sum(AGAIN in line for line in resident.stderr) == 1, resident.stderr
    assert queued.status == 1
    assert queued.stderr.startswith(f"Error: the database {own_postgresql.address}/")
    assert queued.stderr.count("\n") == 1
    assert health.status == 1
    assert health.stdout.startswith(f"the database {own_postgresql.address}/")
    assert texts(receiver) == [f'number {number}"' for number in range(60)]
    assert repeats(receiver) <= 1


def test_the_end_of_an_outage_is_logged_although_a_message_still_waits_for_its_recipient(
    sender: Device, own_postgresql: Postgresql, lab: Lab
) -> None:
    absent = lab.published_device("away")
    shared = sender.with_settings(STORE=own_postgresql.new_database())
    fill(shared, (absent,), 1)
    with shared.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {absent.name} wait: ", timeout=60)
        with own_postgresql.away():
            resident.wait_for_log(AWAY[:-1])
        resident.wait_for_log(AGAIN)
        assert sum(AGAIN in line for line in resident.stderr) == 1, resident.stderr


def test_a_resident_sender_starts_without_the_database_and_goes_on_once_it_is_there(
    sender: Device, recipient: Device, receiver: Program, own_postgresql: Postgresql
) -> None:
    shared = sender.with_settings(STORE=own_postgresql.new_database())
    fill(shared, (recipient,), 1)
    own_postgresql.stop()
    with shared.start(SENDER) as resident:
        resident.wait_for_log(AWAY[:-1])
        own_postgresql.start()
        receiver.wait_for_message('number 0"')


def test_a_password_file_that_cannot_be_read_is_reported_at_the_start(shared: Device, tmp_path: Path) -> None:
    device = shared.with_settings(STORE_PASSWORD_FILE=str(tmp_path / "absent"))
    checked = device.run(SENDER, "--check")
    assert checked.status == 1
    assert "STORE_PASSWORD_FILE" in checked.stderr


def test_what_is_known_about_epoch_keys_of_recipients_is_shared(shared: Device) -> None:
    settings = load(elsewhere(shared, 1).settings)
    bob = IdentityName("bob._device.example.com")
    now = int(time.time())
    MarkMemory.from_settings(settings).note(bob, now)
    memory = MarkMemory.from_settings(load(elsewhere(shared, 2).settings))
    assert memory.recently_marked_at(bob, now) == now


def test_what_is_published_at_the_local_broker_gets_into_the_shared_outbox(
    lab: Lab, own_mosquitto: Mosquitto, own_postgresql: Postgresql
) -> None:
    device = lab.published_device("bridge").with_settings(
        LOCAL_MQTT_URL=f"mqtt://{own_mosquitto.address}", STORE=own_postgresql.new_database()
    )
    waits = "Messages from the local broker wait for the database"
    with device.receiver() as receiver:
        receiver.wait_for_log("Connected to the local broker")
        own_postgresql.kill()
        for text in ("first", "second"):
            publish.single(
                "messenger/out/bob._device.example.test", text, 1, hostname=LOOPBACK, port=own_mosquitto.port
            )
        receiver.wait_for_log(waits)
        own_postgresql.start()
        wait_until(lambda: waiting(device) == 2, "both messages")
        assert sum(waits in line for line in receiver.stderr) == 1
    with opened(device) as outbox:
        first = outbox.next_to("bob._device.example.test", 0)
        assert first is not None
        assert first.content == "first"
