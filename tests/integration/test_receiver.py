"""The receiver from start to end: it waits for its record, logs its status, and stops on a signal."""

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.storage.clock_facts import FACT
from idlib.storage.replay import ReplayMemory
from idlib.system.log_limit import BURST
from testbed.daemons.process import free_port
from testbed.lab import Lab
from testbed.messages import BrokerClient
from testbed.programs import CREATE_SELFSIGNED_ID, RECEIVER, SUBSCRIBED, Device, Program

LOOK_AGAIN_SECONDS = 10
RECORD_SECONDS = 60
STOPPED_EARLY = "Stopped before it has connected to the broker"


def health(device: Device) -> str:
    return device.run(RECEIVER, "--health").stdout.strip()


def test_it_waits_for_its_record_and_then_starts_by_itself(lab: Lab, alice: Device) -> None:
    device = lab.device_with_key("early")
    record = device.tlsa_record()
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Public identity is not valid!")
        receiver.wait_for_log(f"Ensure that your identity is provisioned at {device.name}")
        receiver.wait_for("record to publish", lambda: any(record.upper() in line.upper() for line in receiver.stderr))
        assert not any(SUBSCRIBED in line for line in receiver.stderr)
        lab.knot.add_tlsa(device.name, record)
        receiver.wait_for_log(SUBSCRIBED, timeout=15)
        assert any(f"Reading '{device.key_path}'" in line for line in receiver.stderr)
        assert alice.send(device, "you are early").status == 0
        receiver.wait_for_message("you are early")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_while_it_waits_for_its_record(number: signal.Signals, lab: Lab) -> None:
    with lab.device_with_key("unpublished").start(RECEIVER) as receiver:
        receiver.wait_for_log("Public identity is not valid!")
        receiver.signal(number)
        assert receiver.wait_for_end(5) == 0
        assert receiver.stderr[-1].endswith(f" INFO {STOPPED_EARLY}")


def test_it_records_the_time_while_it_waits_for_its_record(lab: Lab) -> None:
    device = lab.device_with_key("unpublished-with-a-clock")
    data = Path(device.settings["DATA_PATH"])
    ahead = int(time.time()) + 3600
    with ReplayMemory(data) as memory:
        memory.note_time(ahead)
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Public identity is not valid!")
        assert device.run(RECEIVER, "--trust-clock").status == 0
        receiver.wait_for_log("The clock is trusted by command")
        receiver.signal(signal.SIGTERM)
        assert receiver.wait_for_end(5) == 0
    with ReplayMemory(data) as memory:
        assert ahead - 3600 <= memory.latest_time < ahead
        assert memory.get_fact(FACT) is not None


def test_wrong_broker_settings_are_reported_before_it_waits_for_its_record(lab: Lab, tmp_path: Path) -> None:
    device = lab.device_with_key("unpublished-with-a-typo")
    wrong = device.with_settings(MQTT_TLS="on", MQTT_CA_FILE=str(tmp_path / "absent.pem"))
    with wrong.start(RECEIVER) as receiver:
        assert receiver.wait_for_end(10) == 1
        assert any("absent.pem" in line for line in receiver.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_on_a_signal(
    number: signal.Signals, bob: Device, tmp_path: Path, receiver_of: Callable[[Device], Program]
) -> None:
    receiver = receiver_of(bob.with_settings(DATA_PATH=str(tmp_path)))
    started = time.monotonic()
    receiver.signal(number)
    assert receiver.wait_for_end(5) == 0
    assert time.monotonic() - started < 5
    assert receiver.stdout == []
    assert not any("Traceback" in line for line in receiver.stderr)


def test_it_ends_with_70_if_it_cannot_print_and_nothing_is_lost(lab: Lab, alice: Device) -> None:
    device = lab.published_device("mute")
    command, environment = device.command(RECEIVER), device.environment()
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True) as mute,
    ):
        assert mute.stderr is not None
        assert any(SUBSCRIBED in line for line in mute.stderr)
        assert alice.send(device, "nowhere to go").status == 0
        said = mute.stderr.read()
        assert mute.wait(20) == 70
    assert said.splitlines()[-1].startswith("Error: stdout cannot be written: No space left on device; ")
    with device.receiver() as receiver:
        receiver.wait_for_message("nowhere to go")


def test_it_reads_no_file_after_the_start(lab: Lab, alice: Device) -> None:
    device = lab.published_device("forgetful")
    with device.receiver() as receiver:
        shutil.rmtree(device.crypto_path)
        assert alice.send(device, "still here").status == 0
        receiver.wait_for_message("still here")


def test_it_stops_cleanly_without_a_broker(bob: Device, tmp_path: Path) -> None:
    device = bob.with_settings(DATA_PATH=str(tmp_path), MQTT_PORT=str(free_port()))
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("broker")
        assert receiver.is_running
        assert receiver.stop(5) == 0


def test_it_stops_cleanly_while_the_broker_does_not_answer(
    bob: Device, tmp_path: Path, silent_broker: socket.socket
) -> None:
    device = bob.with_settings(DATA_PATH=str(tmp_path), MQTT_PORT=str(silent_broker.getsockname()[1]))
    with device.start(RECEIVER) as receiver:
        connection, _ = silent_broker.accept()
        with connection:
            assert receiver.stop(5) == 0


def test_it_stops_cleanly_while_dns_does_not_answer(bob: Device, tmp_path: Path, silent_resolver: str) -> None:
    device = bob.with_settings(DATA_PATH=str(tmp_path), DNS_RESOLVER=silent_resolver)
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Reading")
        assert receiver.stop(5) == 0


def test_its_record_of_another_key_is_not_accepted(lab: Lab) -> None:
    device, other = lab.device_with_key("replaced"), lab.device_with_key("other")
    lab.knot.add_tlsa(device.name, other.tlsa_record())
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Public identity is not valid!")
        assert health(device) == "own record in DNS does not match our key"


def test_its_record_at_the_wrong_name_is_reported(lab: Lab) -> None:
    device = lab.device_with_key("misplaced")
    wrong_name = f"_443._tcp.{device.name}"
    lab.knot.add_tlsa(wrong_name, device.tlsa_record())
    cause = f"own record is misplaced: there is one at {wrong_name}; move it to {device.name}"
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log(f" WARNING {cause}")
        assert health(device) == cause[:100]


def test_a_missing_identity_is_reported_in_one_line_and_waited_for(lab: Lab) -> None:
    device = lab.device("newcomer")
    with device.start(RECEIVER) as receiver:
        order = f"no identity yet: run {CREATE_SELFSIGNED_ID}"
        receiver.wait_for_log(f" WARNING {order} (there is no '{device.key_path}')")
        assert health(device) == order[:100]
        assert not any(" ERROR " in line or "--force" in line for line in receiver.stderr)
        assert device.run(CREATE_SELFSIGNED_ID).status == 0
        receiver.wait_for_log("own record is not in DNS yet", timeout=15)
        assert health(device) == "own record is not in DNS yet"
        lab.knot.add_tlsa(device.name, device.tlsa_record())
        receiver.wait_for_log(SUBSCRIBED, timeout=15)
        receiver.wait_for_log("Own record found")


def test_a_missing_resolver_causes_no_advice_to_publish_a_record(lab: Lab) -> None:
    device = lab.published_device("cut-off").with_settings(DNS_RESOLVER=f"127.0.0.1:{free_port()}")
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("own record: DNS look-up failed: the DNS server 127.0.0.1")
        # The record is looked up twice in this time.
        time.sleep(LOOK_AGAIN_SECONDS + 2)
        assert health(device).startswith("own record: DNS look-up failed: the DNS server 127.0.0.1")
        said = [line for line in receiver.stderr if " WARNING " in line or " ERROR " in line]
        assert len(said) == 1, said


def test_a_record_that_is_removed_and_published_again_is_logged(lab: Lab) -> None:
    device = lab.published_device("fading", ttl=1)
    with device.receiver() as receiver:
        lab.knot.remove_tlsa(device.name)
        receiver.wait_for_log("own record is no longer in DNS", timeout=RECORD_SECONDS + 15)
        assert health(device) == "own record is no longer in DNS"
        lab.knot.add_tlsa(device.name, device.tlsa_record())
        # The first health check causes the look-up.
        receiver.wait_for("record found", lambda: health(device).startswith("ok: "), 30)
        receiver.wait_for_log("Own record found")


def test_it_logs_its_status_every_minute(bob_receiver: Program) -> None:
    def lines() -> list[str]:
        return [line for line in bob_receiver.stderr if "received=" in line and "alive" in line]

    bob_receiver.wait_for("two status lines", lambda: len(lines()) >= 2, 65)
    for name in ("MQTT-Ingest", "Decryption", "Authentication", "Forwarder"):
        assert name in lines()[-1]
    assert re.search(r"encrypted=\d+ decrypted=\d+ authenticated=\d+", lines()[-1])
    assert "dead" not in lines()[-1]


def test_a_flood_causes_few_log_lines_that_count_every_message(lab: Lab, anybody: BrokerClient) -> None:
    others = re.compile(r" \(and (\d+) more in the last \d+ s\)$")
    device = lab.published_device("flooded")
    with device.receiver() as receiver:
        anybody.flood(device, b"noise", 3000)
        # After at most ten seconds, even if nothing more arrives.
        receiver.wait_for("summary", lambda: any(map(others.search, receiver.stderr)), 30)
        anybody.publish(device, b"once more")
        assert receiver.stop() == 0
    refusals = [line for line in receiver.stderr if " refused reason=outer-malformed " in line]
    assert len(refusals) < 2 * BURST
    counted = sum(1 + int(found[1]) if (found := others.search(line)) else 1 for line in refusals)
    assert f" refused_outer-malformed={counted}" in receiver.stderr[-1]
    assert counted > 10 * BURST
