"""send_message.py --lines and --json: the result of each message, through reconnects and interruptions."""

import json
import os
import pty
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from idlib.transport.publisher import MAX_INFLIGHT
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import SECURE, Lab, wait_until
from testbed.programs import SEND_MESSAGE, Device, Program
from testbed.scripted_broker import Peer, ScriptedBroker, connack


def test_lines_continue_after_a_reconnect(alice: Device, bob: Device, own_mosquitto: Mosquitto, tmp_path: Path) -> None:
    # Bob's own store is locked by the receiver that other tests share.
    there = {"MQTT_PORT": str(own_mosquitto.port), "DATA_PATH": str(tmp_path / "data")}
    sender, recipient = (device.with_settings(**there) for device in (alice, bob))
    with recipient.receiver() as receiver, sender.start(SEND_MESSAGE, bob.name, "--lines", "--json") as program:
        program.write("".join(f"early {number}\n" for number in range(30)))
        program.wait_for("first results", lambda: len(program.stdout) >= 5)
        own_mosquitto.kill()
        program.wait_for_log("is lost")
        program.write("".join(f"late {number}\n" for number in range(30)))
        own_mosquitto.start()
        program.write_all("end\n")
        assert program.wait_for_end(60) == 0, program.stderr
        receiver.wait_for_message("end", timeout=60)
        for text in [f"{when} {number}" for when in ("early", "late") for number in range(30)]:
            receiver.wait_for_message(f'says: {text}"')
        assert len(receiver.stdout) == 61
    assert [json.loads(line)["result"] for line in program.stdout] == ["acknowledged"] * 61
    summary = f"The broker {own_mosquitto.address} has acknowledged 61 messages to {bob.name}: lines 1-61"
    assert summary in program.stderr[-1]


def test_acknowledged_lines_are_reported_if_the_broker_does_not_come_back(
    alice: Device, bob: Device, own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    sender = alice.with_settings(MQTT_PORT=str(own_mosquitto.port))
    with bob.with_settings(MQTT_PORT=str(own_mosquitto.port), DATA_PATH=str(tmp_path / "data")).receiver() as receiver:
        receiver.stop()
    with sender.start(SEND_MESSAGE, bob.name, "--lines", "--json", "--timeout", "2") as program:
        program.write("".join(f"line {number}\n" for number in range(25)))
        program.wait_for("first results", lambda: len(program.stdout) >= 5)
        own_mosquitto.kill()
        program.wait_for_log("is lost")
        program.write_all("".join(f"line {number}\n" for number in range(30)))
        assert program.wait_for_end(30) == 3
    reports = [json.loads(line) for line in program.stdout]
    results = [one["result"] for one in reports]
    number = results.count("acknowledged")
    assert 5 <= number <= 25
    assert all("the broker" in one["reason"] for one in reports[number:])
    assert results == ["acknowledged"] * number + ["unacknowledged"] * (len(results) - number)
    assert any(f"acknowledged {number} messages to {bob.name}: lines 1-{number}" in line for line in program.stderr)


# As a shell reports them: SIGTERM ends the process in the end, so that systemd takes it for a clean end.
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, -signal.SIGTERM, "Terminated.")],
)
def test_130_or_143_a_signal_ends_it_with_a_summary(
    number: signal.Signals, status: int, word: str, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    with alice.start(SEND_MESSAGE, bob.name, "--lines", "--json") as telling:
        telling.write("".join(f"line {number}\n" for number in range(10)))
        telling.wait_for("results", lambda: len(telling.stdout) >= 5)
        telling.signal(number)
        assert telling.wait_for_end(10) == status
    acknowledged = [json.loads(line)["result"] for line in telling.stdout].count("acknowledged")
    assert 5 <= acknowledged <= 10
    summary = f"acknowledged {acknowledged} messages to {bob.name}: lines 1-{acknowledged}"
    assert any(summary in line for line in telling.stderr), (telling.stdout, telling.stderr)
    assert telling.stderr[-1] == word
    assert not any("Traceback" in line for line in telling.stderr)


def test_a_signal_never_comes_between_counting_a_line_and_reporting_it(
    alice: Device, bob: Device, bob_receiver: Program, tmp_path: Path
) -> None:
    program = tmp_path / "send.py"
    program.write_text(
        "import os, signal\n"
        "from idlib.program.command_line import run\n"
        "from messaging_sender import lines, send_message\n"
        "report = lines.report\n"
        "def interrupted_report(*arguments, **more):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return report(*arguments, **more)\n"
        "lines.report = interrupted_report\n"
        "run(send_message.main)\n"
    )
    with alice.start(program, bob.name, "--lines", "--json") as sending:
        sending.write("one\n")
        assert sending.wait_for_end() == -signal.SIGTERM
    assert [json.loads(line)["result"] for line in sending.stdout] == ["acknowledged"]
    assert any(f"acknowledged 1 message to {bob.name}: line 1" in line for line in sending.stderr)


def test_lines_that_a_signal_left_unacknowledged_have_a_reason(alice: Device, bob: Device) -> None:
    def serve(peer: Peer) -> None:
        peer.accept(connack(b""))
        while peer.read()[0]:
            pass

    with (
        ScriptedBroker(serve) as broker,
        alice.with_settings(MQTT_PORT=str(broker.address.port)).start(
            SEND_MESSAGE, bob.name, "--lines", "--json"
        ) as program,
    ):
        program.write("one\ntwo\n")
        wait_until(lambda: bool(broker.connections), "connection")
        time.sleep(1)
        program.signal(signal.SIGTERM)
        assert program.wait_for_end(10) == -signal.SIGTERM
    reports = [json.loads(line) for line in program.stdout]
    assert [(one["result"], one["reason"]) for one in reports] == 2 * [("unacknowledged", "terminated")]


def test_progress_is_logged_once_a_minute(alice: Device, bob: Device, bob_receiver: Program, tmp_path: Path) -> None:
    # Minutes of two seconds.
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nslow = time.monotonic\ntime.monotonic = lambda: 30 * slow()\n"
    )
    hasty = alice.with_settings(PYTHONPATH=str(tmp_path))
    with hasty.start(SEND_MESSAGE, bob.name, "--lines") as program:
        program.write("one\ntwo\n")
        program.wait_for_log("has acknowledged 2 messages so far")
        # Nothing is new for two minutes.
        time.sleep(5)
        program.write("three\n")
        program.wait_for_log("has acknowledged 3 messages so far")
        program.end_input()
        assert program.wait_for_end() == 0
    assert sum("so far" in line for line in program.stderr) == 2


def test_a_line_that_cannot_be_sent_is_not_reported_as_acknowledged(
    alice: Device, bob: Device, bob_receiver: Program
) -> None:
    result = alice.send(bob, "--lines", "--json", stdin=b"good\n\xff\n\ngood too\nand good\n")
    assert result.status == 5
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["result"] for one in objects] == ["acknowledged", "failed", "failed", "acknowledged", "acknowledged"]
    assert "is not UTF-8" in objects[1]["reason"]
    assert "acknowledged 3 messages" in result.stderr
    assert "lines 1, 4-5" in result.stderr


def test_results_are_in_the_order_of_the_lines_if_dns_fails_before_the_broker_answers(
    lab: Lab, alice: Device, own_mosquitto: Mosquitto, own_unbound: Unbound
) -> None:
    recipient = lab.published_device("short-lived", ttl=1)
    sender = alice.with_settings(MQTT_PORT=str(own_mosquitto.port), DNS_RESOLVER=own_unbound.address)
    with sender.start(SEND_MESSAGE, recipient.name, "--lines", "--json") as program:
        program.write("first\nsecond\n")
        program.wait_for("first result", lambda: len(program.stdout) >= 1)
        own_mosquitto.kill()
        program.wait_for_log("is lost")
        own_unbound.stop()
        while program.is_running:
            with suppress(BrokenPipeError):
                program.write("more\n")
            # Until the cached answer of DNS has expired.
            time.sleep(0.5)
        assert program.wait_for_end() == 2, program.stderr
    results = [json.loads(line)["result"] for line in program.stdout]
    assert results.index("unacknowledged") >= 1
    assert results.index("failed") == len(results) - 1


def test_expired_lines_do_not_keep_later_ones_out_of_the_outbox(
    alice: Device, bob: Device, own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    there = {"MQTT_PORT": str(own_mosquitto.port), "DATA_PATH": str(tmp_path / "data")}
    sender, recipient = (device.with_settings(**there) for device in (alice, bob))
    with recipient.receiver() as receiver:
        receiver.stop()
    arguments = (bob.name, "--lines", "--queue", "--json", "--expires", "2", "--timeout", "4")
    with sender.start(SEND_MESSAGE, *arguments) as program:
        program.write("early\n")
        program.wait_for("result", lambda: len(program.stdout) == 1)
        own_mosquitto.send_signal(signal.SIGSTOP)
        try:
            program.write("".join(f"late {number}\n" for number in range(25)))
            time.sleep(3)
            program.write_all("new\n")
            assert program.wait_for_end(60) == 5, program.stderr
        finally:
            own_mosquitto.send_signal(signal.SIGCONT)
    results = [json.loads(line)["result"] for line in program.stdout]
    # Lines beyond the window were not read before the sender gave up on the broker, so they are as old.
    assert results == ["acknowledged", *["failed"] * MAX_INFLIGHT, *["queued"] * (26 - MAX_INFLIGHT)]


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full"])
def test_acknowledged_lines_are_reported_if_stdout_cannot_be_written(
    stdout: str, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    words = shlex.join(alice.command(SEND_MESSAGE, bob.name, "--lines", "--json"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {words} {stdout}"],
        input="one\ntwo\n",
        stderr=subprocess.PIPE,
        text=True,
        env=alice.environment(),
        timeout=60,
        check=False,
    )
    assert f"has acknowledged 2 messages to {bob.name}: lines 1-2" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_input_after_ctrl_d_without_a_newline_is_a_separate_line(
    alice: Device, bob: Device, bob_receiver: Program
) -> None:
    keyboard, terminal = pty.openpty()
    command = alice.command(SEND_MESSAGE, bob.name, "--lines")
    with subprocess.Popen(command, stdin=terminal, stderr=subprocess.PIPE, env=alice.environment()) as program:
        os.close(terminal)
        for typed in (b"typed\x04\x04", b"and more\n", b"\x04"):
            os.write(keyboard, typed)
            time.sleep(1)
        assert program.wait(30) == 0
        assert program.stderr is not None
        assert b"acknowledged 2 messages" in program.stderr.read()
    os.close(keyboard)
    bob_receiver.wait_for_message('says: typed"')
    bob_receiver.wait_for_message('says: and more"')


def test_unreadable_input_is_not_reported_as_an_error_of_stdout(alice: Device, bob: Device, tmp_path: Path) -> None:
    with (tmp_path / "written").open("wb") as written:
        done = subprocess.run(
            alice.command(SEND_MESSAGE, bob.name, "--lines"),
            stdin=written,
            capture_output=True,
            text=True,
            env=alice.environment(),
            timeout=60,
            check=False,
        )
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1] == "Error: the lines cannot be read: Bad file descriptor"


def test_lines_are_queued_if_the_broker_is_unreachable(alice: Device, bob: Device, lab: Lab) -> None:
    sender = lab.published_device("lines").with_settings(MQTT_PORT=str(free_port()))
    result = sender.send(bob, "--lines", "--queue", "--json", stdin="one\ntwo\n")
    assert result.status == 0
    assert [json.loads(line)["result"] for line in result.stdout.splitlines()] == ["queued", "queued"]
    assert "lines 1-2" in result.stderr


def test_7_lines_without_a_subscriber_are_reported_once(alice: Device, lab: Lab) -> None:
    result = alice.send(lab.published_device("nowhere"), "--lines", "--json", stdin="one\ntwo\nthree\n")
    assert result.status == 7
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["result"] for one in objects] == 3 * ["no-subscriber"]
    assert all("has no subscriber for" in one["reason"] for one in objects)
    assert result.stderr.count("Line 1 was not delivered (others that are dropped are listed at the end): ") == 1
    assert "has acknowledged 0 messages" in result.stderr
    assert "has dropped 3 messages" in result.stderr
    assert result.stderr.rstrip().endswith("lines 1-3")


def test_5_a_line_that_cannot_be_sent_overrides_a_missing_subscriber(alice: Device, lab: Lab) -> None:
    result = alice.send(lab.published_device("nowhere"), "--lines", stdin=b"one\n\xff\nthree\n")
    assert result.status == 5
    assert result.stderr.rstrip().endswith("lines 1, 3")


def test_lines_wait_in_the_outbox_for_a_subscriber(alice: Device, lab: Lab) -> None:
    sender = lab.published_device("lines")
    result = sender.send(lab.published_device("nowhere"), "--lines", "--queue", "--json", stdin="one\ntwo\nthree\n")
    assert result.status == 0
    assert [json.loads(line)["result"] for line in result.stdout.splitlines()] == 3 * ["queued"]


def test_json_reports_a_line_before_the_next_one_arrives(alice: Device, bob: Device, bob_receiver: Program) -> None:
    with alice.start(SEND_MESSAGE, bob.name, "--lines", "--json") as telling:
        for number in (1, 2):
            telling.write(f"line {number}\n")
            telling.wait_for("an object of the line", lambda wanted=number: len(telling.stdout) >= wanted)  # type: ignore[misc]
            assert json.loads(telling.stdout[-1])["result"] == "acknowledged"


def test_json_has_id_recipient_size_result_and_reason(alice: Device, bob: Device, bob_receiver: Program) -> None:
    sent = alice.send(bob, "hello", "--json")
    assert sent.status == 0
    report = json.loads(sent.stdout)
    assert list(report) == ["id", "recipient", "size", "result", "reason", "warning", "sealed", "readable_until"]
    assert (report["recipient"], report["result"], report["reason"], report["warning"]) == (
        bob.name,
        "acknowledged",
        None,
        None,
    )
    assert len(report["id"]) == 22
    assert 1000 < report["size"] < 4000
    assert (report["sealed"], report["readable_until"]) == ("identity", None)


def test_json_has_the_reason_why_a_message_was_not_sent(alice: Device, bob: Device) -> None:
    unknown = alice.send(f"nobody._device.{SECURE}", "hello", "--json")
    assert unknown.status == 2
    assert json.loads(unknown.stdout)["result"] == "failed"
    assert f"nobody._device.{SECURE}" in json.loads(unknown.stdout)["reason"]
    away = alice.with_settings(MQTT_PORT=str(free_port())).send(bob, "hello", "--json")
    assert (away.status, json.loads(away.stdout)["result"]) == (3, "failed")
