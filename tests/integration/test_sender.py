"""send_message.py as a user meets it: every way to give it a message, and every exit status."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import free_port
from testbed.lab import SECURE, Lab
from testbed.messages import BrokerClient
from testbed.programs import SEND_MESSAGE, Device, Program


def _port_of(server: socket.socket) -> str:
    return str(server.getsockname()[1])


def test_a_message_can_come_from_stdin(alice: Device, bob: Device, bob_receiver: Program) -> None:
    assert alice.send(bob, "-", stdin="from stdin: Grüße").status == 0
    bob_receiver.wait_for_message("from stdin: Grüße")


def test_a_message_can_come_from_a_file(alice: Device, bob: Device, bob_receiver: Program, tmp_path: Path) -> None:
    (tmp_path / "message.txt").write_text("from a file:\nGrüße")
    assert alice.send(bob, "--file", str(tmp_path / "message.txt")).status == 0
    bob_receiver.wait_for_message(r"from a file:\nGrüße")


def test_a_message_can_start_with_a_hyphen(alice: Device, bob: Device, bob_receiver: Program) -> None:
    assert alice.send(bob, "--", "--an option? no").status == 0
    bob_receiver.wait_for_message("--an option? no")


def test_the_mqtt_library_does_not_bring_the_dns_library_s_resolver(
    alice: Device, bob: Device, bob_receiver: Program
) -> None:
    sent = alice.with_settings(PYTHONPROFILEIMPORTTIME="1").send(bob, "with little imported")
    assert sent.status == 0
    bob_receiver.wait_for_message("with little imported")
    imported = {line.rpartition("|")[2].strip() for line in sent.stderr.splitlines()}
    assert {"paho.mqtt.client", "dns.message"} <= imported
    # A part of the resolver: an import that fails is listed, too.
    assert "dns.nameserver" not in imported


def test_each_line_is_a_message(alice: Device, bob: Device, bob_receiver: Program, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("line A of a file\nline B of a file")
    assert alice.send(bob, "--lines", stdin="line A of stdin\nline B of stdin\n").status == 0
    assert alice.send(bob, "--lines", "--file", str(tmp_path / "lines.txt")).status == 0
    for text in ("line A of stdin", "line B of stdin", "line A of a file", "line B of a file"):
        assert bob_receiver.wait_for_message(text) == f'"{alice.name} says: {text}"'


def test_lines_continue_after_one_that_cannot_be_sent_and_its_status_remains(
    alice: Device, bob: Device, bob_receiver: Program
) -> None:
    lines = b"before the bad line\n" + b"\xff not UTF-8\n" + b"x" * 70_000 + b"\n" + b"after the bad line\n"
    result = alice.send(bob, "--lines", stdin=lines)
    assert result.status == 5
    bob_receiver.wait_for_message("before the bad line")
    bob_receiver.wait_for_message("after the bad line")


def test_lines_to_an_unpublished_recipient(alice: Device) -> None:
    result = alice.send(f"nobody._device.{SECURE}", "--lines", stdin="one\ntwo\n")
    assert result.status == 2
    assert result.stderr.startswith("Trouble retrieving certificate from DNS: ")


def test_success_prints_nothing_on_stdout(alice: Device, bob: Device, bob_receiver: Program) -> None:
    result = alice.send(bob, "quiet")
    assert (result.status, result.stdout) == (0, "")


def test_an_acknowledged_message_needs_no_running_recipient(lab: Lab, alice: Device) -> None:
    away = lab.published_device("away")
    with away.receiver() as receiver:
        receiver.stop()
    result = alice.send(away, "see you later")
    assert result.status == 0
    assert result.stderr.endswith(f"The broker {lab.mosquitto.address} has acknowledged the message to {away.name}.\n")
    with away.receiver() as receiver:
        receiver.wait_for_message("see you later")


@pytest.mark.parametrize("options", [(), ("--receipt",)])
def test_7_the_broker_has_no_subscriber(options: tuple[str, ...], lab: Lab, alice: Device) -> None:
    nowhere = lab.published_device("nowhere")
    started = time.monotonic()
    result = alice.send(nowhere, "can you hear me?", "--json", *options)
    # With --receipt it does not wait for the whole 30 s.
    assert time.monotonic() - started < 20
    assert result.status == 7
    fact = f"the broker {lab.mosquitto.address} has no subscriber for {nowhere.name}; the message was dropped; "
    assert result.stderr.startswith(f"Error: {fact}")
    assert len(result.stderr.splitlines()) == 1
    report = json.loads(result.stdout)
    assert report["result"] == "no-subscriber"
    assert report["reason"].startswith(fact)


def test_mqtt_3_1_1_does_not_report_a_missing_subscriber(lab: Lab, alice: Device) -> None:
    result = alice.with_settings(MQTT_VERSION="3.1.1").send(lab.published_device("nowhere"), "can you hear me?")
    assert result.status == 0
    assert "subscriber" not in result.stderr


def test_1_a_missing_name_is_reported(alice: Device, bob: Device) -> None:
    result = alice.without_setting("IDENTITY_NAME").send(bob, "hello")
    assert result.status == 1
    assert result.stderr == "Missing essential configuration env var: IDENTITY_NAME\n"


def test_1_on_a_terminal_the_error_shows_what_to_set(alice: Device, bob: Device) -> None:
    device = alice.without_setting("IDENTITY_NAME")
    controller, terminal = pty.openpty()
    with open(controller, "rb", buffering=0) as shown:
        command = device.command(SEND_MESSAGE, bob.name, "hello")
        ended = subprocess.run(command, env=device.environment(), stderr=terminal, check=False, timeout=60)
        os.close(terminal)
        lines = shown.read(4096).decode().splitlines()
    assert ended.returncode == 1
    assert lines == [
        "Missing essential configuration env var: IDENTITY_NAME",
        "Set IDENTITY_NAME to a DNS name such as alice._device.example.com.",
    ]


def test_1_the_clock_is_not_set(alice: Device, bob: Device, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.time = lambda: 86400.0\n")
    device = alice.with_settings(PYTHONPATH=str(tmp_path), DATA_PATH=str(tmp_path / "data"))
    for options in ((), ("--lines",)):
        result = device.send(bob, *(options or ("hello",)), stdin="hello\n")
        assert result.status == 1
        assert "Error: the clock of this device is not set; wait for its time server, or set it" in result.stderr
    queued = device.send(bob, "--queue", "hello")
    assert queued.status == 0
    assert "application.py will send it: the clock of this device is not set" in queued.stderr


def test_2_the_certificate_cannot_be_used(alice: Device) -> None:
    result = alice.send(f"nobody._device.{SECURE}", "hello")
    assert result.status == 2
    assert result.stderr.startswith("Trouble retrieving certificate from DNS: ")
    assert len(result.stderr.splitlines()) == 1


def test_2_dns_never_answers(alice: Device, bob: Device, silent_resolver: str) -> None:
    started = time.monotonic()
    result = alice.with_settings(DNS_RESOLVER=silent_resolver).send(bob, "hello")
    assert result.status == 2
    assert result.stderr.startswith("Trouble retrieving certificate from DNS: ")
    assert time.monotonic() - started < 30


def test_3_nothing_listens_at_the_brokers_port(alice: Device, bob: Device) -> None:
    result = alice.with_settings(MQTT_PORT=str(free_port())).send(bob, "hello")
    assert result.status == 3
    assert len(result.stderr.splitlines()) == 1


def test_3_the_broker_refuses_the_connection(alice: Device, bob: Device, tmp_path: Path) -> None:
    with Mosquitto(tmp_path, anonymous=False) as broker:
        result = alice.with_settings(MQTT_PORT=str(broker.port)).send(bob, "hello")
        assert result.status == 3
        assert result.stderr.strip()


@pytest.mark.parametrize("options", [(), ("--lines",), ("--receipt",)])
def test_3_a_broker_without_qos_1_is_reported_at_once(
    options: tuple[str, ...], alice: Device, bob: Device, tmp_path: Path
) -> None:
    with Mosquitto(tmp_path, extra="max_qos 0\n") as broker:
        started = time.monotonic()
        sender = alice.with_settings(MQTT_PORT=str(broker.port))
        result = sender.send(bob, *(options or ("hello",)), *("hello",) * ("--receipt" in options), stdin="hello\n")
        assert result.status == 3
        assert "does not accept QoS 1, so it acknowledges no messages; nothing was delivered" in result.stderr
        assert len(result.stderr.splitlines()) <= 2
        assert time.monotonic() - started < 15


def test_3_a_broker_without_qos_1_is_recognized_with_mqtt_3_1_1(alice: Device, bob: Device, tmp_path: Path) -> None:
    with Mosquitto(tmp_path, extra="max_qos 0\n") as broker:
        sender = alice.with_settings(MQTT_PORT=str(broker.port), MQTT_VERSION="3.1.1")
        result = sender.send(bob, "hello", "--timeout", "8")
        assert result.status == 3
        assert "ended the connection each time instead: does it accept QoS 1 and packets of " in result.stderr
        assert result.stderr.count("WARNING") == 1
        # With MQTT 3.1.1 each connection is made twice.
        assert 3 <= broker.log.read_text().count("New client connected") <= 16


def test_3_a_port_of_another_protocol(alice: Device, bob: Device, silent_broker: socket.socket) -> None:
    def answer() -> None:
        connection, _ = silent_broker.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

    threading.Thread(target=answer, daemon=True).start()
    started = time.monotonic()
    result = alice.with_settings(MQTT_PORT=_port_of(silent_broker)).send(bob, "hello")
    assert result.status == 3
    assert "no packet of a broker begins with the byte 0x53" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("host", ["broker..example.test", ".example.test", "x" * 64 + ".example.test"])
def test_1_a_host_that_no_codec_can_encode(host: str, alice: Device, bob: Device) -> None:
    result = alice.with_settings(MQTT_HOST=host).send(bob, "hello", "--queue")
    assert result.status == 1
    assert result.stderr.startswith(f"Bad value of env var MQTT_HOST: '{host}'")
    assert len(result.stderr.splitlines()) == 1


def test_3_no_such_host(alice: Device, bob: Device) -> None:
    assert alice.with_settings(MQTT_HOST="broker.invalid").send(bob, "hello").status == 3


def test_3_the_broker_accepts_and_never_answers(alice: Device, bob: Device, silent_broker: socket.socket) -> None:
    started = time.monotonic()
    result = alice.with_settings(MQTT_PORT=_port_of(silent_broker)).send(bob, "hello", "--timeout", "2")
    assert result.status == 3
    assert time.monotonic() - started < 12


def test_3_lines_to_a_broker_that_is_down(alice: Device, bob: Device) -> None:
    sender = alice.with_settings(MQTT_PORT=str(free_port()))
    assert sender.send(bob, "--lines", stdin="one\ntwo\n").status == 3


def test_4_there_is_no_key(lab: Lab, bob: Device) -> None:
    result = lab.device("keyless").send(bob, "hello")
    assert result.status == 4
    assert "key" in result.stderr


def test_4_the_key_is_unusable(lab: Lab, bob: Device) -> None:
    device = lab.device("broken-key")
    device.key_path.write_text("-----BEGIN RSA PRIVATE KEY-----\nrubbish\n-----END RSA PRIVATE KEY-----\n")
    assert device.send(bob, "hello").status == 4


@pytest.mark.parametrize(
    "stdin", [b"", b"\xff\xfe not UTF-8", b"x" * 70_000, b"x" * 40_000], ids=["empty", "not UTF-8", "large", "grows"]
)
def test_5_the_message_cannot_be_sent(stdin: bytes, alice: Device, bob: Device) -> None:
    result = alice.send(bob, "-", stdin=stdin)
    assert result.status == 5
    assert len(result.stderr.splitlines()) == 1


def test_5_on_the_command_line(alice: Device, bob: Device) -> None:
    assert alice.send(bob, "").status == 5
    not_utf_8 = [os.fsencode(word) for word in alice.command(SEND_MESSAGE, bob.name)] + [b"\xff"]
    assert subprocess.run(not_utf_8, env=alice.environment(), capture_output=True, check=False).returncode == 5


def test_5_a_file_that_cannot_be_read(alice: Device, bob: Device, tmp_path: Path) -> None:
    result = alice.send(bob, "--file", str(tmp_path / "absent"))
    assert result.status == 5
    assert "absent" in result.stderr


def test_5_the_broker_accepts_no_packet_of_that_size(alice: Device, bob: Device, tmp_path: Path) -> None:
    with Mosquitto(tmp_path, extra="max_packet_size 4000\n") as modest:
        sender = alice.with_settings(MQTT_PORT=str(modest.port))
        result = sender.send(bob, "x" * 3000)
        assert result.status == 5
        assert re.fullmatch(
            r"Error: the message is too large: \d+ bytes as a packet, and the limit of the broker \S+ is 4000; "
            "shorten it, or use another broker\n",
            result.stderr,
        )
        lines = sender.send(bob, "--lines", stdin="short\n" + 3000 * "x" + "\nshort too\n")
        assert lines.status == 5
        assert "lines 1, 3" in lines.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("bob._device.example.test",), ("not a name", "hello"), ("single", "hello"), ("--wrong", "a.b", "hello")],
)
def test_64_wrong_usage(arguments: tuple[str, ...], alice: Device) -> None:
    result = alice.run(SEND_MESSAGE, *arguments)
    assert result.status == 64
    assert result.stderr.strip()


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, -signal.SIGTERM, "Terminated.")],
)
def test_130_or_143_ended_by_a_signal(
    number: signal.Signals, status: int, word: str, alice: Device, bob: Device, silent_broker: socket.socket
) -> None:
    sender = alice.with_settings(MQTT_PORT=_port_of(silent_broker))
    with sender.start(SEND_MESSAGE, bob.name, "hello", "--json") as program:
        connection, _ = silent_broker.accept()
        with connection:
            program.signal(number)
            assert program.wait_for_end(5) == status, program.stderr
    assert program.stderr == [word]
    report = json.loads(program.stdout[0])
    assert (report["result"], report["reason"]) == ("failed", word.lower().removesuffix("."))
    assert not any("Traceback" in line for line in program.stderr)


def test_json_has_a_reason_if_a_signal_ends_it_while_dns_is_slow(
    alice: Device, bob: Device, silent_resolver: str
) -> None:
    sender = alice.with_settings(DNS_RESOLVER=silent_resolver)
    with sender.start(SEND_MESSAGE, bob.name, "hello", "--json") as program:
        time.sleep(2)
        program.signal(signal.SIGTERM)
        assert program.wait_for_end(5) == -signal.SIGTERM
    report = json.loads(program.stdout[0])
    assert (report["result"], report["reason"]) == ("failed", "terminated")


@pytest.mark.parametrize("seconds", ["abc", "", "0", "-1", "nan", "inf", "86401"])
def test_64_the_error_for_a_bad_timeout_names_the_range(seconds: str, alice: Device, bob: Device) -> None:
    result = alice.send(bob, "hello", f"--timeout={seconds}")
    assert result.status == 64
    assert "argument --timeout: give more than 0 and at most 86400 seconds" in result.stderr


def test_help_fits_a_screen_and_shows_an_example(alice: Device) -> None:
    result = alice.run(SEND_MESSAGE, "--help")
    assert result.status == 0
    assert len(result.stdout.splitlines()) <= 24
    assert "example" in result.stdout


def test_a_wrong_name_cannot_control_the_terminal(bob: Device, anybody: BrokerClient) -> None:
    result = bob.run(SEND_MESSAGE, "evil\x1b[2J.example", "hello")
    assert result.status == 64
    assert "\x1b" not in result.stderr
    assert sys.executable not in result.stderr


def test_64_a_message_of_several_words_needs_quotes(alice: Device, bob: Device) -> None:
    result = alice.send(bob, "The", "kettle", "is", "on")
    assert result.status == 64
    assert "put the message into quotes: 'The kettle is on'" in result.stderr
    unknown = alice.send(bob, "hello", "--loud")
    assert unknown.status == 64
    assert "unrecognized arguments: --loud" in unknown.stderr


@pytest.mark.parametrize(
    ("recipient", "said"),
    [
        ("127.0.0.1", "'127.0.0.1' is an IP address"),
        (
            "bücher.example.test",
            "'bücher.example.test' is not a device name; the xn-- form of this name is xn--bcher-kva.",
        ),
    ],
)
def test_64_a_wrong_device_name_is_shown_as_typed(recipient: str, said: str, alice: Device) -> None:
    result = alice.send(recipient, "hello")
    assert result.status == 64
    assert said in result.stderr


def test_1_a_report_that_cannot_be_written_is_an_error(alice: Device, bob: Device, bob_receiver: Program) -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *alice.command(SEND_MESSAGE, bob.name, "reported to nobody", "--json")]
    ended = subprocess.run(shell, env=alice.environment(), stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Error: stdout is closed")


@pytest.mark.parametrize(("argument", "said"), [("-", "the message"), ("--lines", "a message on each line")])
def test_on_a_terminal_it_prints_how_to_end_the_input(
    argument: str, said: str, alice: Device, bob: Device, bob_receiver: Program
) -> None:
    controller, terminal = pty.openpty()
    with open(controller, "r+b", buffering=0) as typist, open(terminal, "rb") as stdin:
        ended = subprocess.Popen(
            alice.command(SEND_MESSAGE, bob.name, argument),
            env=alice.environment(),
            stdin=stdin,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert ended.stderr is not None
        assert ended.stderr.readline() == f"Type {said}, then press Ctrl-D.\n"
        typist.write(b"hello\n\x04")
        assert ended.communicate(timeout=60)
        assert ended.returncode == 0


def test_a_single_line_is_reported_in_the_singular(alice: Device, bob: Device, bob_receiver: Program) -> None:
    result = alice.send(bob, "--lines", stdin="one alone\n")
    assert f"has acknowledged 1 message to {bob.name}: line 1" in result.stderr
