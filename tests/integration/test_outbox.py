"""Messages that wait on the disk while the broker or DNS cannot be reached, each fault alone."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from idlib.storage.outbox import FILE_NAME, MAX_OCTETS, NewOutgoingMessage, Outbox
from tests.idlib.transport.scripted_broker import Peer, ScriptedBroker, connack
from tests.integration.daemons.mosquitto import Mosquitto
from tests.integration.daemons.process import free_port
from tests.integration.daemons.unbound import Unbound
from tests.integration.disk import fill
from tests.integration.lab import SECURE, Lab, wait_until
from tests.integration.programs import SEND_MESSAGE, SENDER, Device, Program
from tests.integration.raw_mqtt import packet

ACKNOWLEDGED = "has acknowledged the message"


@pytest.fixture
def sender(lab: Lab, own_mosquitto: Mosquitto, own_unbound: Unbound) -> Device:
    """Return a device whose broker and resolver a test may stop."""
    return lab.published_device("sender").with_settings(
        MQTT_PORT=str(own_mosquitto.port), DNS_RESOLVER=own_unbound.address
    )


@pytest.fixture
def recipient(lab: Lab, own_mosquitto: Mosquitto) -> Device:
    """Return a device that listens at the broker that a test may stop."""
    return lab.published_device("recipient").with_settings(MQTT_PORT=str(own_mosquitto.port))


@pytest.fixture
def receiver(recipient: Device) -> Iterator[Program]:
    with recipient.receiver() as program:
        yield program


def outbox_path(device: Device) -> Path:
    return Path(device.settings["DATA_PATH"]) / FILE_NAME


def waiting(device: Device) -> int:
    with Outbox(outbox_path(device).parent) as outbox:
        return outbox.waiting().number


def queue_one(device: Device, recipient: Device | str, text: str, *options: str) -> None:
    result = device.send(recipient, text, "--queue", "--timeout", "2", *options)
    assert result.status == 0, result
    assert f"is queued, and {SENDER} sends it: " in result.stderr


def put(device: Device, recipient: str, text: str, queued_at: int | None = None, lifetime: int | None = None) -> None:
    at = int(time.time()) if queued_at is None else queued_at
    with Outbox(outbox_path(device).parent) as outbox:
        outbox.put(NewOutgoingMessage(recipient, os.urandom(8).hex(), text, at, lifetime))


def test_without_a_broker_it_waits_and_arrives_once_the_broker_is_back(
    sender: Device, recipient: Device, receiver: Program, own_mosquitto: Mosquitto
) -> None:
    own_mosquitto.stop()
    for number in range(3):
        queue_one(sender, recipient, f"broker out {number}")
    with sender.start(SENDER) as resident:
        resident.wait_for_log("messaging_sender waiting")
        resident.wait_for_log("Messages wait: the broker")
        own_mosquitto.start()
        receiver.wait_for_message("broker out 2", timeout=40)
        resident.wait_for("acknowledgements", lambda: sum(ACKNOWLEDGED in line for line in resident.stderr) == 3)
        assert [line.split("says: ")[1] for line in receiver.stdout] == [f'broker out {number}"' for number in range(3)]
        assert waiting(sender) == 0
        # What comes later is found, too.
        own_mosquitto.stop()
        queue_one(sender, recipient, "broker out again")
        own_mosquitto.start()
        receiver.wait_for_message("broker out again", timeout=60)


def test_whoever_queues_is_told_whether_anything_sends_it(
    sender: Device, recipient: Device, own_mosquitto: Mosquitto
) -> None:
    own_mosquitto.stop()
    missing = f"WARNING {SENDER} is not running: start it with the same settings"
    for options in ((), ("--lines",)):
        alone = sender.send(recipient, *(options or ("hello",)), "--queue", "--timeout", "2", stdin="one\ntwo\n")
        assert alone.stderr.count(missing) == 1, alone.stderr
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Watching the outbox '{outbox_path(sender)}'")
        # Whether it has something to send or not.
        resident.wait_for_log("Messages in the outbox: 3")
        assert missing not in sender.send(recipient, "hello", "--queue", "--timeout", "2").stderr
    idle = sender.with_settings(DATA_PATH=str(outbox_path(sender).parent / "idle"))
    with idle.start(SENDER) as resident:
        resident.wait_for_log("Watching the outbox ")
        wait_until((outbox_path(idle).parent / "outbox.lock").exists, "lock")
        assert missing not in idle.send(recipient, "hello", "--queue", "--timeout", "2").stderr


def test_an_outbox_that_cannot_be_is_told_although_nothing_waits(sender: Device, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with sender.with_settings(DATA_PATH=str(tmp_path / "file" / "data")).start(SENDER) as resident:
        resident.wait_for_log(f"No message can wait in the outbox: '{tmp_path}/file/data/outbox.lock' cannot be used: ")
        time.sleep(3)
        assert sum("No message can wait" in line for line in resident.stderr) == 1


def test_without_dns_it_waits_and_arrives_once_dns_is_back(
    sender: Device, recipient: Device, receiver: Program, own_unbound: Unbound
) -> None:
    own_unbound.stop()
    queue_one(sender, recipient, "resolver out")
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {recipient.name} wait: ", timeout=60)
        own_unbound.start()
        receiver.wait_for_message("resolver out", timeout=60)


def test_without_a_subscriber_it_waits_and_arrives_once_there_is_one(sender: Device, recipient: Device) -> None:
    queue_one(sender, recipient, "are you there?")
    with sender.start(SENDER) as courier:
        courier.wait_for_log(f"Messages to {recipient.name} wait: ")
        # It is tried three times meanwhile.
        time.sleep(8)
        assert sum(f"Messages to {recipient.name} wait: " in line for line in courier.stderr) == 1
        assert waiting(sender) == 1
        with recipient.receiver() as receiver:
            receiver.wait_for_message("are you there?")
        courier.wait_for("an empty outbox", lambda: waiting(sender) == 0)


def test_a_recipient_that_nobody_is_does_not_hold_up_another(
    sender: Device, recipient: Device, receiver: Program, lab: Lab
) -> None:
    nowhere = lab.published_device("nowhere")
    put(sender, nowhere.name, "are you there?")
    put(sender, recipient.name, "and you?")
    with sender.start(SENDER) as courier:
        receiver.wait_for_message("and you?")
        courier.wait_for_log(f"Messages to {nowhere.name} wait: ")
        assert not any("Messages wait: " in line for line in courier.stderr)


def test_what_is_too_large_for_the_broker_is_given_up_and_holds_up_nobody(
    lab: Lab, sender: Device, recipient: Device, tmp_path: Path
) -> None:
    (tmp_path / "modest").mkdir()
    with Mosquitto(tmp_path / "modest", extra="max_packet_size 4000\n") as modest:
        there = {"MQTT_PORT": str(modest.port)}
        put(sender, recipient.name, 3000 * "x")
        put(sender, recipient.name, "short")
        with (
            recipient.with_settings(**there).receiver() as receiver,
            sender.with_settings(**there).start(SENDER) as courier,
        ):
            receiver.wait_for_message("short")
            courier.wait_for_log(f"to {recipient.name} is not delivered: the message is too large")


def test_a_message_that_ends_the_connection_holds_up_nobody_else(
    lab: Lab, sender: Device, recipient: Device, tmp_path: Path
) -> None:
    (tmp_path / "modest").mkdir()
    # Mosquitto answers what is larger with a reason code that the MQTT library takes for a breach of the protocol.
    with Mosquitto(tmp_path / "modest", extra="message_size_limit 4000\n") as modest:
        there = {"MQTT_PORT": str(modest.port)}
        large = lab.published_device("large").with_settings(**there)
        put(sender, large.name, 3000 * "x")
        with (
            recipient.with_settings(**there).receiver() as receiver,
            large.receiver(),
            sender.with_settings(**there).start(SENDER),
        ):
            for number in range(3):
                put(sender, recipient.name, f"short {number}")
                receiver.wait_for_message(f"short {number}", 90)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_without_qos_1_is_tried_ever_less_often_and_told_of_once(
    version: str, sender: Device, recipient: Device, tmp_path: Path
) -> None:
    (tmp_path / "modest").mkdir()
    with Mosquitto(tmp_path / "modest", extra="max_qos 0\n") as modest:
        put(sender, recipient.name, "not now")
        there = sender.with_settings(MQTT_PORT=str(modest.port), MQTT_VERSION=version)
        with there.start(SENDER) as courier:
            time.sleep(20)
            assert 2 <= modest.log.read_text().count("New client connected") <= 9
            warnings = [line for line in courier.stderr if " WARNING " in line]
            assert len(warnings) == 1, warnings
        assert waiting(sender) == 1


def test_routes_stay_within_what_the_broker_takes_at_a_time(
    lab: Lab, sender: Device, recipient: Device, own_mosquitto: Mosquitto
) -> None:
    most = 0

    def serve(peer: Peer) -> None:
        nonlocal most
        peer.accept(connack(b"\x21\0\2"))
        unacknowledged: list[bytes] = []
        while True:
            if peer.is_silent(0.3):
                for packet_id in unacknowledged:
                    peer.send(packet(0x40, packet_id))
                unacknowledged.clear()
            else:
                header, body = peer.read()
                if header & 0xF0 != 0x30:
                    return
                begin = 2 + int.from_bytes(body[:2])
                unacknowledged.append(body[begin : begin + 2])
                most = max(most, len(unacknowledged))

    for _ in range(6):
        put(sender, lab.published_device("one-of-many").name, "hello")
    with (
        ScriptedBroker(serve) as broker,
        sender.with_settings(MQTT_PORT=str(broker.address.port)).start(SENDER) as courier,
    ):
        courier.wait_for("acknowledgements", lambda: sum(ACKNOWLEDGED in line for line in courier.stderr) == 6, 60)
        assert len(broker.connections) == 1
        assert not [line for line in courier.stderr if " WARNING " in line]
    assert most == 2


def test_a_verdict_of_dns_is_told_at_once_and_nothing_waits(sender: Device) -> None:
    result = sender.send(f"nobody._device.{SECURE}", "hello", "--queue")
    assert result.status == 2
    assert not outbox_path(sender).exists()


@pytest.mark.parametrize("text", ["", "x" * 40_000])
def test_what_could_never_be_sent_does_not_wait(text: str, sender: Device, recipient: Device) -> None:
    broken = sender.with_settings(MQTT_PORT=str(free_port()), DNS_RESOLVER=f"127.0.0.1:{free_port()}")
    assert broken.send(recipient, "-", "--queue", stdin=text).status == 5


def test_a_new_message_does_not_overtake_one_that_waits(sender: Device, recipient: Device, receiver: Program) -> None:
    put(sender, recipient.name, "first")
    queue_one(sender, recipient, "second")
    with sender.start(SENDER):
        receiver.wait_for_message("second")
    assert [line.split("says: ")[1] for line in receiver.stdout] == ['first"', 'second"']


@pytest.mark.parametrize("options", [("second",), ("--lines",)])
def test_one_that_has_expired_in_the_outbox_keeps_no_later_one_there(
    options: tuple[str, ...], sender: Device, recipient: Device, receiver: Program
) -> None:
    now = int(time.time())
    put(sender, recipient.name, "expired", now - 100, 50)
    put(sender, recipient.name, "expired likewise", now - 100, 60)
    result = sender.send(recipient, *options, "--queue", stdin="second\n")
    assert result.status == 0
    assert "queued" not in result.stderr
    receiver.wait_for_message("second")


def test_one_that_an_unset_clock_has_dated_still_waits(sender: Device, recipient: Device) -> None:
    put(sender, recipient.name, "first", 1000, 50)
    queue_one(sender, recipient, "second")


def test_one_recipients_trouble_does_not_hold_up_another(sender: Device, recipient: Device, receiver: Program) -> None:
    put(sender, f"nobody._device.{SECURE}", "to nobody")
    put(sender, recipient.name, "to somebody")
    with sender.start(SENDER) as resident:
        receiver.wait_for_message("to somebody")
        resident.wait_for_log(f"Messages to nobody._device.{SECURE} wait: ")
        wait_until(lambda: waiting(sender) == 1, "one message in the outbox")


def test_a_verdict_after_a_long_outage_is_not_final_at_once(sender: Device) -> None:
    put(sender, f"nobody._device.{SECURE}", "to nobody", int(time.time()) - 2 * 86400)
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to nobody._device.{SECURE} wait: ")
        assert waiting(sender) == 1


def test_what_has_expired_is_dropped_and_told(sender: Device, recipient: Device, receiver: Program) -> None:
    now = int(time.time())
    put(sender, recipient.name, "expired", now - 100, 50)
    put(sender, recipient.name, "expired likewise", now - 100, 100)
    put(sender, recipient.name, "good", now - 100, 5000)
    with sender.start(SENDER) as resident:
        receiver.wait_for_message("good")
        assert sum("is not delivered: it has expired" in line for line in resident.stderr) == 2
    assert len(receiver.stdout) == 1


def test_a_message_acknowledged_before_a_crash_is_printed_once(
    sender: Device, recipient: Device, receiver: Program
) -> None:
    now = int(time.time())
    message = NewOutgoingMessage(recipient.name, "the-same", "once alone", now, None)
    for _ in range(2):
        with Outbox(outbox_path(sender).parent) as outbox:
            outbox.put(message)
        with sender.start(SENDER) as resident:
            resident.wait_for_log(ACKNOWLEDGED)
            wait_until(lambda: waiting(sender) == 0, "empty outbox")
    receiver.wait_for_refusal("replay")
    receiver.wait_for_message("once alone")
    assert len(receiver.stdout) == 1


def test_two_writers_at_once_lose_nothing_and_write_nothing_twice(sender: Device, recipient: Device) -> None:
    device = sender.with_settings(MQTT_PORT=str(free_port()))
    commands = [
        subprocess.Popen(
            device.command(SEND_MESSAGE, recipient.name, "--lines", "--queue"),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=device.environment(),
        )
        for _ in range(2)
    ]
    lines = "".join(f"line {number}\n" for number in range(100)).encode()
    for command in commands:
        assert command.stdin is not None
        command.stdin.write(lines)
        command.stdin.close()
        command.stdin = None
    for command in commands:
        _, said = command.communicate(timeout=60)
        assert command.returncode == 0, said
    assert waiting(device) == 200


def test_that_lines_are_queued_is_told_once_and_of_each_as_json(sender: Device, recipient: Device) -> None:
    device = sender.with_settings(MQTT_PORT=str(free_port()))
    lines = "".join(f"line {number}\n" for number in range(30))
    result = device.send(recipient, "--lines", "--queue", "--json", stdin=lines)
    assert result.status == 0, result
    told = [line for line in result.stderr.splitlines() if "queued" in line.lower()]
    assert len(told) == 2, told
    assert f"Messages to {recipient.name} are queued from line 1 on, and {SENDER} sends them: " in told[0]
    assert f"Queued: 30 messages to {recipient.name}: lines 1-30" in told[1]
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["result"] for report in reports] == ["queued"] * 30
    assert len({report["id"] for report in reports}) == 30
    assert waiting(device) == 30


def test_killed_while_it_writes_it_leaves_whole_messages(sender: Device, recipient: Device) -> None:
    device = sender.with_settings(MQTT_PORT=str(free_port()))
    for _ in range(3):
        with device.start(SEND_MESSAGE, recipient.name, "--lines", "--queue", "--json") as program:
            program.write_all("".join(f"line {number} {'x' * 1000}\n" for number in range(200)))
            program.wait_for("some lines", lambda: len(program.stdout) >= 20)
            before = waiting(device) - len(program.stdout)
            program.kill()
            told = len([line for line in program.stdout if json.loads(line)["result"] == "queued"])
        assert waiting(device) >= told > 0
        assert before < 200
    with closing(Outbox(outbox_path(device).parent)) as outbox, outbox._reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert all(row[0].endswith("x") for row in connection.execute("SELECT text FROM outgoing"))


def test_a_full_disk_is_told_and_tears_nothing(sender: Device, recipient: Device) -> None:
    device = sender.with_settings(MQTT_PORT=str(free_port()))
    queue_one(device, recipient, "before")
    command = ["prlimit", "--fsize=24000", *device.command(SEND_MESSAGE, recipient.name, "-", "--queue")]
    full = subprocess.run(
        command, input=b"y" * 30_000, env=device.environment(), capture_output=True, timeout=60, check=False
    )
    assert full.returncode == 1, full
    assert b"cannot be read or written" in full.stderr
    assert waiting(device) == 1
    queue_one(device, recipient, "after")
    assert waiting(device) == 2


def acknowledgements(resident: Program) -> int:
    return sum(ACKNOWLEDGED in line for line in resident.stderr)


def test_a_disk_that_is_full_when_a_message_is_acknowledged_keeps_it_and_does_not_send_it_again(
    sender: Device, recipient: Device, receiver: Program, small_disk: Path
) -> None:
    device = sender.with_settings(DATA_PATH=str(small_disk))
    trouble = f"Messages to {recipient.name} wait: '{outbox_path(device)}' cannot be read or written: database or disk"
    # Held open, lest the log beside the file be made anew, which fails before anything is sent.
    with Outbox(small_disk) as outbox:
        put(device, recipient.name, "sent once")
        filler = fill(small_disk)
        with device.start(SENDER) as resident:
            resident.wait_for_log(trouble)
            # It is tried again meanwhile.
            time.sleep(4)
            assert sum(trouble in line for line in resident.stderr) == 1
            assert acknowledgements(resident) == 1
            assert outbox.waiting().number == 1
            filler.unlink()
            wait_until(lambda: outbox.waiting().number == 0, "empty outbox")
            put(device, recipient.name, "sent later")
            receiver.wait_for_message("sent later")
            # The recipient may print it before its sender has heard of the broker's answer.
            resident.wait_for("second acknowledgement", lambda: acknowledgements(resident) == 2)
    assert [line.split("says: ")[1] for line in receiver.stdout] == ['sent once"', 'sent later"']
    assert not any("refused reason=" in line for line in receiver.stderr)


def test_a_full_disk_sends_nothing_again_where_another_message_expires(
    sender: Device, recipient: Device, receiver: Program, small_disk: Path
) -> None:
    device = sender.with_settings(DATA_PATH=str(small_disk))
    with Outbox(small_disk) as outbox:
        put(device, recipient.name, "sent once")
        put(device, f"nobody._device.{SECURE}", "expires", lifetime=5)
        filler = fill(small_disk)
        with device.start(SENDER) as resident:
            resident.wait_for_log(f"Messages wait: '{outbox_path(device)}' cannot be read or written: database or disk")
            filler.unlink()
            wait_until(lambda: outbox.waiting().number == 0, "empty outbox")
            assert acknowledgements(resident) == 1
            assert sum("is not delivered: it has expired" in line for line in resident.stderr) == 1
    assert len(receiver.stdout) == 1
    assert not any("refused reason=" in line for line in receiver.stderr)


def test_an_outbox_that_breaks_leaves_no_connection_open(sender: Device, own_mosquitto: Mosquitto) -> None:
    put(sender, f"nobody._device.{SECURE}", "to nobody")
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to nobody._device.{SECURE} wait: ")
        # It takes the place of the file that a repair would make.
        outbox_path(sender).with_name(f"{FILE_NAME}.salvaged").mkdir()
        with closing(sqlite3.connect(outbox_path(sender))) as connection:
            connection.execute("DROP TABLE outgoing")
        resident.wait_for_log("Messages wait: ")
        wait_until(lambda: "disconnected" in own_mosquitto.log.read_text(), "end of the connection")
        assert resident.is_running


def test_an_outbox_that_is_closed_is_told_with_what_mends_it(sender: Device, recipient: Device) -> None:
    put(sender, recipient.name, "before")
    directory = outbox_path(sender).parent
    os.chown(sender.key_path, os.geteuid(), -1)
    # As root without capabilities, as in a container: nobody may enter.
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    device = replace(sender, entrance=powerless)
    directory.chmod(0)
    trouble = f"'{outbox_path(sender)}' cannot be used: Permission denied; set DATA_PATH to "
    try:
        queued = device.send(recipient, "hello", "--queue")
        health = device.run(SENDER, "--health")
        with device.start(SENDER) as resident:
            resident.wait_for_log(f"Messages wait: {trouble}")
    finally:
        directory.chmod(0o700)
    assert queued.status == 1
    assert queued.stderr.startswith(f"Error: {trouble}")
    assert queued.stderr.count("\n") == 1
    assert queued.stderr.endswith(f"or give it this one: run chmod 700 {directory}\n")
    assert health.status == 1
    assert health.stdout == f"{trouble[:100]}\n"


def test_the_outbox_is_bounded(sender: Device, recipient: Device) -> None:
    with Outbox(outbox_path(sender).parent) as outbox:
        now = int(time.time())
        outbox.put(NewOutgoingMessage(recipient.name, "large", "x" * (MAX_OCTETS - 400), now, None))
    result = sender.send(recipient, "one more", "--queue")
    assert result.status == 1
    assert "the outbox is full" in result.stderr


def test_only_the_owner_reads_it(sender: Device, recipient: Device) -> None:
    queue_one(sender.with_settings(MQTT_PORT=str(free_port())), recipient, "secret")
    assert stat.S_IMODE(outbox_path(sender).stat().st_mode) == 0o600


def test_health_says_how_many_wait_and_since_when(sender: Device, recipient: Device) -> None:
    assert sender.run(SENDER, "--health").stdout == "ok: waiting for commands\n"
    put(sender, recipient.name, "fresh")
    fresh = sender.run(SENDER, "--health")
    assert fresh.status == 0
    assert fresh.stdout.startswith("ok: messages waiting to be delivered: 1, since 20")
    put(sender, recipient.name, "old", int(time.time()) - 3600)
    old = sender.run(SENDER, "--health")
    assert old.status == 1
    assert old.stdout.startswith("messages waiting to be delivered: 2, since 20")
    assert len(old.stdout) <= 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("silent", ["DNS", "broker"])
def test_it_ends_within_five_seconds_while_it_tries(
    number: signal.Signals,
    silent: str,
    sender: Device,
    recipient: Device,
    silent_resolver: str,
    silent_broker: socket.socket,
) -> None:
    broker = str(silent_broker.getsockname()[1])
    device = sender.with_settings(**({"DNS_RESOLVER": silent_resolver} if silent == "DNS" else {"MQTT_PORT": broker}))
    put(device, recipient.name, "stuck")
    with device.start(SENDER) as resident:
        resident.wait_for_log("Messages in the outbox: 1")
        time.sleep(1)
        resident.signal(number)
        assert resident.wait_for_end(5) == 0
    assert not any("Traceback" in line for line in resident.stderr)
    assert waiting(device) == 1


def test_killed_at_any_moment_it_delivers_all_and_each_once(
    sender: Device, recipient: Device, receiver: Program
) -> None:
    for number in range(60):
        put(sender, recipient.name, f"number {number}")
    for enough in (1, 10, 25):
        with sender.start(SENDER) as resident:
            receiver.wait_for("some messages", lambda: len(receiver.stdout) >= enough)  # noqa: B023
            resident.kill()
    with sender.start(SENDER):
        receiver.wait_for_message('number 59"')
    texts = [line.split("says: ")[1] for line in receiver.stdout]
    assert texts == [f'number {number}"' for number in range(60)]


def memory_of(program: Program) -> int:
    status = Path(f"/proc/{program.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def test_it_stays_small(sender: Device, recipient: Device, receiver: Program) -> None:
    with sender.start(SENDER) as resident:
        resident.wait_for_log("messaging_sender waiting")
        time.sleep(2)
        assert memory_of(resident) <= 25
        for number in range(100):
            put(sender, recipient.name, f"number {number}")
        receiver.wait_for_message("number 99", timeout=60)
        assert memory_of(resident) <= 50


def test_without_settings_it_still_holds_the_container_open(sender: Device) -> None:
    with sender.without_setting("IDENTITY_NAME").start(SENDER) as resident:
        resident.wait_for_log("Missing essential configuration env var: IDENTITY_NAME")
        assert resident.is_running
        assert resident.stop() == 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"MQTT_CA_FILE": "/etc/ssl/cert.pem"}, "MQTT_CA_FILE is set, and MQTT_TLS is off: set MQTT_TLS=on, or unset"),
        (
            {"MQTT_TLS": "on", "MQTT_CA_FILE": "/nowhere"},
            "Bad value of env var MQTT_CA_FILE: '/nowhere' cannot be read",
        ),
        ({"DNSSEC_TRUST_ANCHORS": "/nowhere"}, "Bad value of env var DNSSEC_TRUST_ANCHORS: '/nowhere' cannot be read"),
        ({"PKIX_CA_FILE": "/nowhere"}, "Bad value of env var PKIX_CA_FILE: '/nowhere'"),
        ({"DNSSEC": "off", "DNSSEC_TRUST_ANCHORS": "/nowhere"}, "DNSSEC=off and DNSSEC_TRUST_ANCHORS exclude each"),
    ],
)
def test_settings_that_cannot_be_used_are_told_at_the_start_and_to_health(
    settings: dict[str, str], problem: str, sender: Device
) -> None:
    device = sender.with_settings(**settings)
    with device.start(SENDER) as resident:
        resident.wait_for_log(problem)
        health = device.run(SENDER, "--health")
        time.sleep(1)
        assert resident.is_running
        assert sum(problem in line for line in resident.stderr) == 1
        assert not any("Traceback" in line for line in resident.stderr)
        assert resident.stop() == 0
    assert health.status == 1
    assert health.stdout.startswith(problem[:90])
    assert len(health.stdout) <= 101


def test_each_problem_with_the_settings_is_told_on_a_line_of_its_own(sender: Device) -> None:
    device = sender.with_settings(MQTT_CA_FILE="/nowhere", MQTT_KEY_FILE="/nowhere", PKIX_CA_FILE="/nowhere")
    with device.start(SENDER) as resident:
        for beginning in (
            "MQTT_CA_FILE is set, and MQTT_TLS is off",
            "MQTT_KEY_FILE is set, and MQTT_TLS is off",
            "MQTT_KEY_FILE is set, and MQTT_CERT_FILE is not",
            "Bad value of env var PKIX_CA_FILE: ",
        ):
            resident.wait_for("problem", lambda: any(line.startswith(beginning) for line in resident.stderr))  # noqa: B023


def test_a_file_that_is_mended_needs_no_restart(sender: Device, recipient: Device, lab: Lab, tmp_path: Path) -> None:
    # Minutes of two seconds.
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\nwait = threading.Event.wait\n"
        "threading.Event.wait = lambda self, timeout=None: wait(self, 2 if timeout == 60 else timeout)\n"
    )
    anchors = tmp_path / "anchors"
    ignored = {"MQTT_VERSION": "3.1.1", "MQTT_SESSION_EXPIRY": "60"}
    device = sender.with_settings(DNSSEC_TRUST_ANCHORS=str(anchors), PYTHONPATH=str(tmp_path), **ignored)
    with device.start(SENDER) as resident:
        resident.wait_for_log("Bad value of env var DNSSEC_TRUST_ANCHORS: ")
        time.sleep(4)
        anchors.write_text(f"{lab.knot.ds(SECURE)}\n")
        resident.wait_for_log("The settings can be used now")
        resident.wait_for_log("Watching the outbox ")
        assert device.run(SENDER, "--health").status == 0
        assert sum("Bad value" in line for line in resident.stderr) == 1
        # Once with what was wrong, and once without.
        assert sum("MQTT_SESSION_EXPIRY is ignored: " in line for line in resident.stderr) == 2


def test_the_settings_can_be_judged_alone(sender: Device) -> None:
    good = sender.run(SENDER, "--check")
    assert (good.status, good.stdout, good.stderr) == (0, "", "")
    bad = sender.with_settings(PKIX_CA_FILE="/nowhere").run(SENDER, "--check")
    assert bad.status == 1
    assert bad.stderr.startswith("Bad value of env var PKIX_CA_FILE: '/nowhere' ")


def test_it_can_be_stopped_while_it_judges_its_settings(sender: Device) -> None:
    with sender.start(SENDER) as resident:
        resident.wait_for_log("messaging_sender waiting")
        assert resident.stop(5) == 0
