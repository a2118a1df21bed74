"""Messages queued on the disk while the broker or DNS cannot be reached, one fault at a time."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import SECURE, Lab, wait_until
from testbed.outbox import ACKNOWLEDGED, outbox_path, put, queue_one, waiting
from testbed.programs import SENDER, Device, Program
from testbed.raw_mqtt import packet
from testbed.scripted_broker import Peer, ScriptedBroker, connack
from testbed.shifted_clock import ShiftedClock


def test_without_a_broker_a_message_stays_queued_and_arrives_once_the_broker_is_back(
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
        # A message that is queued later is sent too.
        own_mosquitto.stop()
        queue_one(sender, recipient, "broker out again")
        own_mosquitto.start()
        receiver.wait_for_message("broker out again", timeout=60)


def test_queuing_a_message_warns_if_no_resident_sender_is_running(
    sender: Device, recipient: Device, own_mosquitto: Mosquitto
) -> None:
    own_mosquitto.stop()
    missing = f"WARNING {SENDER} is not running: start it with the same settings"
    for options in ((), ("--lines",)):
        alone = sender.send(recipient, *(options or ("hello",)), "--queue", "--timeout", "2", stdin="one\ntwo\n")
        assert alone.stderr.count(missing) == 1, alone.stderr
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Watching the outbox '{outbox_path(sender)}'")
        # No warning, whether or not the resident sender has messages to send.
        resident.wait_for_log("3 messages in the outbox")
        assert missing not in sender.send(recipient, "hello", "--queue", "--timeout", "2").stderr
    idle = sender.with_settings(DATA_PATH=str(outbox_path(sender).parent / "idle"))
    with idle.start(SENDER) as resident:
        resident.wait_for_log("Watching the outbox ")
        wait_until((outbox_path(idle).parent / "outbox.lock").exists, "lock")
        assert missing not in idle.send(recipient, "hello", "--queue", "--timeout", "2").stderr


def test_without_dns_a_message_stays_queued_and_arrives_once_dns_is_back(
    sender: Device, recipient: Device, receiver: Program, own_unbound: Unbound
) -> None:
    own_unbound.stop()
    queue_one(sender, recipient, "resolver out")
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {recipient.name} wait: ", timeout=60)
        own_unbound.start()
        receiver.wait_for_message("resolver out", timeout=60)


def test_without_a_subscriber_a_message_stays_queued_and_arrives_once_there_is_one(
    sender: Device, recipient: Device
) -> None:
    queue_one(sender, recipient, "are you there?")
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {recipient.name} wait: ")
        # In this time, the message is retried three times.
        time.sleep(8)
        assert sum(f"Messages to {recipient.name} wait: " in line for line in resident.stderr) == 1
        assert waiting(sender) == 1
        with recipient.receiver() as receiver:
            receiver.wait_for_message("are you there?")
        resident.wait_for("an empty outbox", lambda: waiting(sender) == 0)


def test_a_recipient_without_a_receiver_does_not_delay_another(
    sender: Device, recipient: Device, receiver: Program, lab: Lab
) -> None:
    nowhere = lab.published_device("nowhere")
    put(sender, nowhere.name, "are you there?")
    put(sender, recipient.name, "and you?")
    with sender.start(SENDER) as resident:
        receiver.wait_for_message("and you?")
        resident.wait_for_log(f"Messages to {nowhere.name} wait: ")
        assert not any("Messages wait: " in line for line in resident.stderr)


def test_a_message_too_large_for_the_broker_is_dropped_and_does_not_delay_others(
    lab: Lab, sender: Device, recipient: Device, tmp_path: Path
) -> None:
    (tmp_path / "modest").mkdir()
    with Mosquitto(tmp_path / "modest", extra="max_packet_size 4000\n") as modest:
        there = {"MQTT_PORT": str(modest.port)}
        put(sender, recipient.name, 3000 * "x")
        put(sender, recipient.name, "short")
        with (
            recipient.with_settings(**there).receiver() as receiver,
            sender.with_settings(**there).start(SENDER) as resident,
        ):
            receiver.wait_for_message("short")
            resident.wait_for_log(f"to {recipient.name} was dropped: the message is too large")


def test_a_message_that_ends_the_connection_does_not_delay_other_recipients(
    lab: Lab, sender: Device, recipient: Device, tmp_path: Path
) -> None:
    (tmp_path / "modest").mkdir()
    # Mosquitto answers a larger message with a reason code that the MQTT library treats as a protocol error.
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
def test_a_broker_without_qos_1_is_retried_with_a_backoff_and_logged_once(
    version: str, sender: Device, recipient: Device, tmp_path: Path
) -> None:
    (tmp_path / "modest").mkdir()
    with Mosquitto(tmp_path / "modest", extra="max_qos 0\n") as modest:
        put(sender, recipient.name, "not now")
        there = sender.with_settings(MQTT_PORT=str(modest.port), MQTT_VERSION=version)
        with there.start(SENDER) as resident:
            time.sleep(20)
            number = modest.log.read_text().count("New client connected")
            # With 3.1.1, the client connects twice each time.
            assert 2 <= number / (1 if version == "5" else 2) <= 9
            warnings = [line for line in resident.stderr if " WARNING " in line]
            assert len(warnings) == 1, warnings
        assert waiting(sender) == 1


def test_the_number_of_unacknowledged_messages_stays_within_the_limit_of_the_broker(
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
        sender.with_settings(MQTT_PORT=str(broker.address.port)).start(SENDER) as resident,
    ):
        resident.wait_for("acknowledgements", lambda: sum(ACKNOWLEDGED in line for line in resident.stderr) == 6, 60)
        assert len(broker.connections) == 1
        assert not [line for line in resident.stderr if " WARNING " in line]
    assert most == 2


def test_a_verdict_of_dns_is_reported_at_once_and_nothing_is_queued(sender: Device) -> None:
    result = sender.send(f"nobody._device.{SECURE}", "hello", "--queue")
    assert result.status == 2
    assert not outbox_path(sender).exists()


@pytest.mark.parametrize("text", ["", "x" * 40_000])
def test_a_message_that_could_never_be_sent_is_not_queued(text: str, sender: Device, recipient: Device) -> None:
    broken = sender.with_settings(MQTT_PORT=str(free_port()), DNS_RESOLVER=f"127.0.0.1:{free_port()}")
    assert broken.send(recipient, "-", "--queue", stdin=text).status == 5


def test_a_new_message_does_not_overtake_a_queued_one(sender: Device, recipient: Device, receiver: Program) -> None:
    put(sender, recipient.name, "first")
    queue_one(sender, recipient, "second")
    with sender.start(SENDER):
        receiver.wait_for_message("second")
    assert [line.split("says: ")[1] for line in receiver.stdout] == ['first"', 'second"']


@pytest.mark.parametrize("options", [("second",), ("--lines",)])
def test_an_expired_message_in_the_outbox_does_not_block_a_later_one(
    options: tuple[str, ...], sender: Device, recipient: Device, receiver: Program
) -> None:
    now = int(time.time())
    put(sender, recipient.name, "expired", now - 100, 50)
    put(sender, recipient.name, "expired too", now - 100, 60)
    result = sender.send(recipient, *options, "--queue", stdin="second\n")
    assert result.status == 0
    assert "queued" not in result.stderr
    receiver.wait_for_message("second")


def test_a_message_queued_while_the_clock_was_not_set_does_not_expire(sender: Device, recipient: Device) -> None:
    put(sender, recipient.name, "first", 1000, 50)
    queue_one(sender, recipient, "second")


def test_a_recipient_without_a_record_does_not_delay_another(
    sender: Device, recipient: Device, receiver: Program
) -> None:
    put(sender, f"nobody._device.{SECURE}", "to nobody")
    put(sender, recipient.name, "to somebody")
    with sender.start(SENDER) as resident:
        receiver.wait_for_message("to somebody")
        resident.wait_for_log(f"Messages to nobody._device.{SECURE} wait: ")
        wait_until(lambda: waiting(sender) == 1, "one message in the outbox")


def test_a_missing_record_after_a_long_outage_does_not_drop_messages_at_once(sender: Device) -> None:
    put(sender, f"nobody._device.{SECURE}", "to nobody", int(time.time()) - 2 * 86400)
    with sender.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to nobody._device.{SECURE} wait: ")
        assert waiting(sender) == 1


def test_expired_messages_are_dropped_and_logged(sender: Device, recipient: Device, receiver: Program) -> None:
    now = int(time.time())
    put(sender, recipient.name, "expired", now - 100, 50)
    put(sender, recipient.name, "expired too", now - 100, 100)
    put(sender, recipient.name, "good", now - 100, 5000)
    with sender.start(SENDER) as resident:
        receiver.wait_for_message("good")
        assert sum("was dropped: it has expired" in line for line in resident.stderr) == 2
    assert len(receiver.stdout) == 1


def test_a_clock_that_jumps_loses_no_message(
    sender: Device, recipient: Device, receiver: Program, tmp_path: Path
) -> None:
    clock = ShiftedClock(tmp_path)
    device = sender.with_settings(**clock.settings)
    nobody = f"nobody._device.{SECURE}"
    put(device, nobody, "to nobody")
    with device.start(SENDER) as resident:
        resident.wait_for_log(f"Messages to {nobody} wait: ")
        clock.shift(20 * 365 * 86400)
        resident.wait_for_log("Messages wait: the clock may be wrong: it shows ")
        queue_one(device.with_settings(MQTT_PORT=str(free_port())), recipient, "by the wrong clock")
        time.sleep(2)
        assert waiting(device) == 2
        clock.shift(0)
        receiver.wait_for_message("by the wrong clock")
        assert waiting(device) == 1
        assert not any("was dropped" in line for line in resident.stderr)
        clock.shift(20 * 365 * 86400)
        assert device.run(SENDER, "--trust-clock").status == 0
        resident.wait_for_log("The clock is trusted by command", timeout=30)


def test_queuing_lines_is_logged_once_and_reported_for_each_line_as_json(sender: Device, recipient: Device) -> None:
    device = sender.with_settings(MQTT_PORT=str(free_port()))
    lines = "".join(f"line {number}\n" for number in range(30))
    result = device.send(recipient, "--lines", "--queue", "--json", stdin=lines)
    assert result.status == 0, result
    queued = [line for line in result.stderr.splitlines() if "queued" in line.lower()]
    assert len(queued) == 2, queued
    assert f"Messages to {recipient.name} are queued from line 1 on; {SENDER} will send them: " in queued[0]
    assert f"Queued: 30 messages to {recipient.name}: lines 1-30" in queued[1]
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["result"] for report in reports] == ["queued"] * 30
    assert len({report["id"] for report in reports}) == 30
    assert waiting(device) == 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("silent", ["DNS", "broker"])
def test_it_ends_within_five_seconds_while_dns_or_the_broker_is_silent(
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
        resident.wait_for_log("1 message in the outbox")
        time.sleep(1)
        resident.signal(number)
        assert resident.wait_for_end(5) == 0
    assert not any("Traceback" in line for line in resident.stderr)
    assert waiting(device) == 1


def test_without_settings_it_still_keeps_the_container_open(sender: Device) -> None:
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
def test_unusable_settings_are_reported_at_the_start_and_by_health(
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


def test_each_problem_with_the_settings_is_logged_on_its_own_line(sender: Device) -> None:
    device = sender.with_settings(MQTT_CA_FILE="/nowhere", MQTT_KEY_FILE="/nowhere", PKIX_CA_FILE="/nowhere")
    with device.start(SENDER) as resident:
        for beginning in (
            "MQTT_CA_FILE is set, and MQTT_TLS is off",
            "MQTT_KEY_FILE is set, and MQTT_TLS is off",
            "MQTT_KEY_FILE is set, and MQTT_CERT_FILE is not",
            "Bad value of env var PKIX_CA_FILE: ",
        ):
            resident.wait_for("problem", lambda: any(line.startswith(beginning) for line in resident.stderr))  # noqa: B023


def test_a_corrected_file_needs_no_restart(sender: Device, recipient: Device, lab: Lab, tmp_path: Path) -> None:
    # Shorten each wait of a minute to two seconds.
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
        # Once with the problem, and once without.
        assert sum("MQTT_SESSION_EXPIRY is ignored: " in line for line in resident.stderr) == 2


def test_the_settings_can_be_checked_alone(sender: Device) -> None:
    good = sender.run(SENDER, "--check")
    assert (good.status, good.stdout, good.stderr) == (0, "", "")
    bad = sender.with_settings(PKIX_CA_FILE="/nowhere").run(SENDER, "--check")
    assert bad.status == 1
    assert bad.stderr.startswith("Bad value of env var PKIX_CA_FILE: '/nowhere' ")


def test_it_can_be_stopped_while_it_checks_its_settings(sender: Device) -> None:
    with sender.start(SENDER) as resident:
        resident.wait_for_log("messaging_sender waiting")
        assert resident.stop(5) == 0
