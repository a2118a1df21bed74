"""The file of the outbox: on a full disk, after a crash, without access, and at its size limit."""

import json
import os
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from idlib.storage.outbox import FILE_NAME, MAX_OCTETS, NewOutgoingMessage, Outbox
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import free_port
from testbed.disk import fill
from testbed.lab import SECURE, wait_until
from testbed.outbox import ACKNOWLEDGED, outbox_path, put, queue_one, waiting
from testbed.programs import SEND_MESSAGE, SENDER, Device, Program


def test_an_unusable_outbox_is_logged_even_if_no_message_is_queued(sender: Device, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with sender.with_settings(DATA_PATH=str(tmp_path / "file" / "data")).start(SENDER) as resident:
        resident.wait_for_log(f"Messages cannot be queued: '{tmp_path}/file/data/outbox.lock' cannot be used: ")
        time.sleep(3)
        assert sum("Messages cannot be queued" in line for line in resident.stderr) == 1


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


def test_two_processes_that_queue_at_once_lose_and_duplicate_nothing(sender: Device, recipient: Device) -> None:
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


def test_a_process_killed_while_it_queues_leaves_only_complete_messages(sender: Device, recipient: Device) -> None:
    device = sender.with_settings(MQTT_PORT=str(free_port()))
    for _ in range(3):
        with device.start(SEND_MESSAGE, recipient.name, "--lines", "--queue", "--json") as program:
            program.write_all("".join(f"line {number} {'x' * 1000}\n" for number in range(200)))
            program.wait_for("some lines", lambda: len(program.stdout) >= 20)
            before = waiting(device) - len(program.stdout)
            program.kill()
            reported = len([line for line in program.stdout if json.loads(line)["result"] == "queued"])
        assert waiting(device) >= reported > 0
        assert before < 200
    with closing(Outbox(outbox_path(device).parent)) as outbox, outbox._reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert all(row[0].endswith("x") for row in connection.execute("SELECT text FROM outgoing"))


def test_a_full_disk_is_reported_and_leaves_the_outbox_intact(sender: Device, recipient: Device) -> None:
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


def test_a_message_acknowledged_while_the_disk_is_full_is_kept_and_not_sent_again(
    sender: Device, recipient: Device, receiver: Program, small_disk: Path
) -> None:
    device = sender.with_settings(DATA_PATH=str(small_disk))
    trouble = f"Messages to {recipient.name} wait: '{outbox_path(device)}' cannot be read or written: database or disk"
    # Keep the outbox open: creating its log again would fail before anything is sent.
    with Outbox(small_disk) as outbox:
        put(device, recipient.name, "sent once")
        filler = fill(small_disk)
        with device.start(SENDER) as resident:
            resident.wait_for_log(trouble)
            # In this time, the removal is retried.
            time.sleep(4)
            assert sum(trouble in line for line in resident.stderr) == 1
            assert acknowledgements(resident) == 1
            assert outbox.waiting().number == 1
            filler.unlink()
            wait_until(lambda: outbox.waiting().number == 0, "empty outbox")
            put(device, recipient.name, "sent later")
            receiver.wait_for_message("sent later")
            # The recipient may print it before the sender receives the acknowledgement of the broker.
            resident.wait_for("second acknowledgement", lambda: acknowledgements(resident) == 2)
    assert [line.split("says: ")[1] for line in receiver.stdout] == ['sent once"', 'sent later"']
    assert not any("refused reason=" in line for line in receiver.stderr)


def test_with_a_full_disk_nothing_is_sent_again_when_another_message_expires(
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
            assert sum("was dropped: it has expired" in line for line in resident.stderr) == 1
    assert len(receiver.stdout) == 1
    assert not any("refused reason=" in line for line in receiver.stderr)


def test_no_connection_stays_open_if_the_outbox_fails(sender: Device, own_mosquitto: Mosquitto) -> None:
    put(sender, f"nobody._device.{SECURE}", "to nobody")
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to nobody._device.{SECURE} wait: ")
        # This directory prevents a repair from creating its new file.
        outbox_path(sender).with_name(f"{FILE_NAME}.salvaged").mkdir()
        with closing(sqlite3.connect(outbox_path(sender))) as connection:
            connection.execute("DROP TABLE outgoing")
        resident.wait_for_log("Messages wait: ")
        wait_until(lambda: "disconnected" in own_mosquitto.log.read_text(), "end of the connection")
        assert resident.is_running


def test_the_error_for_an_outbox_without_access_has_the_command_that_gives_access(
    sender: Device, recipient: Device
) -> None:
    put(sender, recipient.name, "before")
    directory = outbox_path(sender).parent
    os.chown(sender.key_path, os.geteuid(), -1)
    # Run as root without capabilities, as in a container, so that the directory cannot be entered.
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
    assert queued.stderr.endswith(f"or give this user access: run chmod 700 {directory}\n")
    assert health.status == 1
    assert health.stdout == f"{trouble[:100]}\n"


def test_a_full_outbox_is_an_error(sender: Device, recipient: Device) -> None:
    with Outbox(outbox_path(sender).parent) as outbox:
        now = int(time.time())
        outbox.put(NewOutgoingMessage(recipient.name, "large", "x" * (MAX_OCTETS - 400), now, None))
    result = sender.send(recipient, "one more", "--queue")
    assert result.status == 1
    assert "the outbox is full" in result.stderr


def test_only_the_owner_can_read_the_outbox(sender: Device, recipient: Device) -> None:
    queue_one(sender.with_settings(MQTT_PORT=str(free_port())), recipient, "secret")
    assert stat.S_IMODE(outbox_path(sender).stat().st_mode) == 0o600


def test_health_reports_how_many_messages_are_queued_and_since_when(sender: Device, recipient: Device) -> None:
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


def test_a_sender_killed_at_any_moment_delivers_each_message_once(
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


def test_the_resident_sender_needs_little_memory(sender: Device, recipient: Device, receiver: Program) -> None:
    with sender.start(SENDER) as resident:
        resident.wait_for_log("messaging_sender waiting")
        time.sleep(2)
        assert memory_of(resident) <= 25
        for number in range(100):
            put(sender, recipient.name, f"number {number}")
        receiver.wait_for_message("number 99", timeout=60)
        assert memory_of(resident) <= 50
