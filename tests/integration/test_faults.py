"""One fault at a time around the receiver: it reports the fault, retries, and loses nothing."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.backlog import ALLOWED_GROWTH_KIB, work_off
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK
from testbed.disk import FailingDisk, fill
from testbed.lab import BOGUS, Lab, wait_until
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import RECEIVER, SUBSCRIBED, Device, Program
from testbed.shifted_clock import ShiftedClock

_YEAR = 365 * 24 * 3600


def health(device: Device) -> str:
    return device.run(RECEIVER, "--health").stdout.strip()


def wait_for_health(device: Device, text: str, timeout: float = 20) -> None:
    wait_until(lambda: text in health(device), f"health with {text!r}", timeout)


def log_lines(receiver: Program, text: str) -> list[str]:
    return [line for line in receiver.stderr if text in line]


@contextmanager
def mosquitto(directory: Path, extra: str = "", *, anonymous: bool = True) -> Iterator[Mosquitto]:
    directory.mkdir()
    with Mosquitto(directory, anonymous=anonymous, extra=extra) as broker:
        yield broker


# What the broker grants


def test_what_the_broker_grants_is_logged(lab: Lab) -> None:
    device = lab.published_device("granted").with_settings(MQTT_SESSION_EXPIRY="1234")
    with device.receiver() as receiver:
        (line,) = log_lines(receiver, "MQTT connection established with")
    assert "session new, kept for 1234 s without a connection" in line
    assert re.search(r"receive maximum \d+, packets of ", line)
    with device.receiver() as receiver:
        assert "session kept, " in log_lines(receiver, "MQTT connection established with")[0]


def test_what_the_broker_limits_is_logged(lab: Lab, tmp_path: Path) -> None:
    with mosquitto(tmp_path / "mosquitto", "max_packet_size 100000\n") as broker:
        device = lab.published_device("modest").with_settings(MQTT_PORT=str(broker.port))
        with device.receiver() as receiver:
            (line,) = log_lines(receiver, "MQTT connection established with")
    assert "packets of up to 100000 bytes" in line


def test_the_log_shows_that_mqtt_3_1_1_grants_nothing(lab: Lab) -> None:
    with lab.published_device("old").with_settings(MQTT_VERSION="3.1.1").receiver() as receiver:
        (line,) = log_lines(receiver, "MQTT connection established with")
    assert "MQTT 3.1.1 does not say how long the broker keeps it" in line


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_delivers_at_most_once_is_reported(version: str, lab: Lab, tmp_path: Path) -> None:
    with mosquitto(tmp_path / "own", "max_qos 0\n") as broker:
        device = lab.published_device("receiver").with_settings(MQTT_PORT=str(broker.port), MQTT_VERSION=version)
        with device.receiver() as receiver:
            assert [line for line in log_lines(receiver, "at most once") if "WARNING" in line]


def test_the_broker_forgets_the_session_after_its_expiry(lab: Lab, alice: Device) -> None:
    device = lab.published_device("forgotten").with_settings(MQTT_SESSION_EXPIRY="1")
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    time.sleep(3)
    with device.receiver() as receiver:
        assert "session new" in log_lines(receiver, "MQTT connection established with")[0]


# The broker


def test_an_unreachable_broker_is_logged_once_and_makes_the_receiver_unhealthy(
    lab: Lab, alice: Device, own_mosquitto: Mosquitto
) -> None:
    there = {"MQTT_PORT": str(own_mosquitto.port)}
    device = lab.published_device("left").with_settings(**there)
    with device.receiver() as receiver:
        wait_for_health(device, "ok")
        own_mosquitto.kill()
        receiver.wait_for_log("cannot be reached")
        time.sleep(4)
        assert len(log_lines(receiver, "cannot be reached")) == 1
        assert health(device).startswith("not subscribed: The broker 127.0.0.1")
        own_mosquitto.start()
        receiver.wait_for("new subscription", lambda: len(log_lines(receiver, SUBSCRIBED)) == 2, 40)
        assert alice.with_settings(**there).send(device, "welcome back").status == 0
        receiver.wait_for_message("welcome back")
        wait_for_health(device, "ok")
        assert not log_lines(receiver, "Traceback")


def test_a_refused_connection_is_logged_once_and_retried(lab: Lab, tmp_path: Path) -> None:
    with mosquitto(tmp_path / "mosquitto", "password_file /dev/null\n", anonymous=False) as broker:
        device = lab.published_device("unwelcome").with_settings(MQTT_PORT=str(broker.port))
        with device.start(RECEIVER) as receiver:
            receiver.wait_for_log("refuses the connection")
            time.sleep(3)
            refusals = [line for line in receiver.stderr if " WARNING " in line or " ERROR " in line]
            assert len(refusals) == 1, refusals
            assert "refuses the connection: Not authorized" in health(device)
            assert broker.log.read_text().count("not authorised") >= 2
            assert receiver.is_running


@contextmanager
def scripted_broker(suback: bytes, goodbye: bytes = b"") -> Iterator[dict[str, str]]:
    """Yield the settings of a broker that ends each connection in a way that Mosquitto does not support."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(b"\x20\x03\x00\x00\x00")
                    subscribe = connection.recv(1024)
                    connection.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00" + suback)
                    connection.sendall(goodbye)
                    connection.recv(1024)

    with socket.create_server((LOOPBACK, 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield {"MQTT_PORT": str(server.getsockname()[1])}
        server.shutdown(socket.SHUT_RDWR)


def test_a_refused_subscription_is_reported(lab: Lab) -> None:
    with scripted_broker(b"\x87") as there:
        device = lab.published_device("muted").with_settings(**there)
        with device.start(RECEIVER) as receiver:
            receiver.wait_for_log("refuses the subscription: Not authorized")
            assert "refuses the subscription" in health(device)
            time.sleep(3)
            assert len(log_lines(receiver, "refuses the subscription")) == 1


def test_a_session_that_is_taken_over_is_reported_and_not_taken_back_at_once(lab: Lab) -> None:
    # Mosquitto 2.0.11 closes the connection without MQTT 5's reason 142.
    with scripted_broker(b"\x01", b"\xe0\x02\x8e\x00") as there:
        device = lab.published_device("doubled").with_settings(**there)
        with device.start(RECEIVER) as receiver:
            receiver.wait_for_log(
                "was taken over; another client uses the same client id: is a copy of DATA_PATH in use"
            )
            assert "taken over" in health(device)
            time.sleep(5)
            assert len(log_lines(receiver, SUBSCRIBED)) == 1, "it takes the session back again and again"


def test_two_receivers_with_one_session_take_it_over_less_and_less_often(lab: Lab) -> None:
    device = lab.published_device("copied")
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    copy = device.with_settings(DATA_PATH=f"{device.settings['DATA_PATH']}-copy")
    shutil.copytree(device.settings["DATA_PATH"], copy.settings["DATA_PATH"], ignore=shutil.ignore_patterns("*.socket"))
    with device.receiver() as receiver, copy.receiver() as other:
        receiver.wait_for_log("is lost")
        time.sleep(12)
        assert len(log_lines(receiver, SUBSCRIBED)) + len(log_lines(other, SUBSCRIBED)) <= 12
        assert len(log_lines(receiver, "is lost")) <= 2


# Keys


def _replace_key(lab: Lab, device: Device, *, keep: bool) -> None:
    fresh = lab.directory / "fresh"
    fresh.mkdir(exist_ok=True)
    made = device.with_settings(CRYPTO_PATH=str(fresh))
    assert made.run(RECEIVER.parents[2] / "maintenance/src/create_selfsigned_id.py").status == 0
    if keep:
        shutil.copy(device.key_path, device.crypto_path / f"{device.name}.key.previous.pem")
    for path in (device.key_path, device.certificate_path):
        (fresh / path.name).replace(path)


def test_a_replaced_key_is_loaded_and_the_previous_one_still_opens(
    lab: Lab, alice: Device, anybody: BrokerClient
) -> None:
    device = lab.published_device("renewed")
    with device.receiver() as receiver:
        under_way = encrypted(signed("sealed to the old key", alice, device), device)
        _replace_key(lab, device, keep=True)
        receiver.wait_for_log(f"Reading '{device.crypto_path}")
        receiver.wait_for("both keys", lambda: len(log_lines(receiver, "Reading ")) >= 3)
        anybody.publish(device, under_way)
        receiver.wait_for_message("sealed to the old key")
        assert "own record in DNS does not match our key" in health(device)
        receiver.wait_for_log("own record in DNS does not match our key")
        anybody.publish(device, encrypted(signed("sealed to the new key", alice, device), device))
        receiver.wait_for_message("sealed to the new key")


def test_an_unreadable_key_leaves_the_old_one_in_use(lab: Lab, alice: Device, anybody: BrokerClient) -> None:
    device = lab.published_device("clumsy")
    payload = encrypted(signed("still opened", alice, device), device)
    with device.receiver() as receiver:
        device.key_path.write_text("not a key")
        (device.crypto_path / f"{device.name}.key.previous.pem").write_text("nor this")
        receiver.wait_for_log("Key not reloaded, the old one stays in use")
        receiver.wait_for_log("Previous key skipped")
        anybody.publish(device, payload)
        receiver.wait_for_message("still opened")


# Stdout


def test_a_closed_pipe_ends_the_receiver_with_70_and_keeps_the_message(lab: Lab, alice: Device) -> None:
    device = lab.published_device("unheard")
    reading, writing = os.pipe()
    with subprocess.Popen(
        device.command(RECEIVER), env=device.environment(), stdout=writing, stderr=subprocess.PIPE, text=True
    ) as receiver:
        os.close(writing)
        assert receiver.stderr is not None
        assert any(SUBSCRIBED in line for line in receiver.stderr)
        os.close(reading)
        assert alice.send(device, "is anybody there").status == 0
        said = receiver.stderr.read()
        assert receiver.wait(20) == 70
    assert said.endswith(
        "Error: stdout cannot be written: Broken pipe; messages are kept until the receiver is started again\n"
    )
    assert "Traceback" not in said
    with device.receiver() as again:
        again.wait_for_message("is anybody there")


def test_the_receiver_does_not_start_without_stdout(lab: Lab) -> None:
    device = lab.published_device("voiceless")
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *device.command(RECEIVER)]
    done = subprocess.run(command, env=device.environment(), stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    assert done.returncode == 70
    assert done.stderr.startswith("Error: stdout is closed")


@contextmanager
def _unread_receiver(device: Device, log: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Yield the reading end of a receiver's stdout, which holds one page, and its process."""
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with (
        log.open("wb") as stderr,
        subprocess.Popen(device.command(RECEIVER), env=device.environment(), stdout=writing, stderr=stderr) as process,
    ):
        os.close(writing)
        try:
            wait_until(lambda: SUBSCRIBED in log.read_text(), "subscription")
            yield reading, process
        finally:
            with suppress(OSError):
                os.close(reading)
            process.kill()


def _read_until(descriptor: int, text: str) -> list[str]:
    said = b""
    deadline = time.monotonic() + 30
    while text.encode() not in said:
        assert time.monotonic() < deadline
        said += os.read(descriptor, 65536)
    return said.decode().splitlines()


def test_nothing_is_lost_while_stdout_is_not_read(lab: Lab, alice: Device, tmp_path: Path) -> None:
    device = lab.published_device("patient")
    texts = [f"message {number:03} {'x' * 200}" for number in range(100)]
    with _unread_receiver(device, tmp_path / "log") as (reading, process):
        assert alice.send(device, "--lines", stdin="\n".join([*texts, "the end"])).status == 0
        wait_until(lambda: "Stdout is not being read" in (tmp_path / "log").read_text(), "line on stdout")
        assert health(device) == "stdout is not being read"
        printed = _read_until(reading, "the end")
        wait_until(lambda: "Stdout is being read again" in (tmp_path / "log").read_text(), "line on stdout")
        assert printed == [f'"{alice.name} says: {text}"' for text in [*texts, "the end"]]
        assert process.poll() is None
    assert (tmp_path / "log").read_text().count("Stdout is not being read") == 1


def test_the_receiver_stops_cleanly_while_stdout_is_not_read(lab: Lab, alice: Device, tmp_path: Path) -> None:
    device = lab.published_device("hurried")
    texts = [f"message {number:03} {'x' * 200}" for number in range(100)]
    with _unread_receiver(device, tmp_path / "log") as (reading, process):
        assert alice.send(device, "--lines", stdin="\n".join(texts)).status == 0
        time.sleep(1)
        process.terminate()
        assert process.wait(5) == 0
        before = os.read(reading, 65536).decode().split("\n")
    with device.receiver() as receiver:
        receiver.wait_for_message("message 099")
        whole = [line for line in before if line.endswith('"')]
        assert sorted({*whole, *receiver.stdout}) == [f'"{alice.name} says: {text}"' for text in texts]
        assert len(whole) + len(receiver.stdout) - len(texts) <= 32


# The disk


def test_a_full_disk_delays_messages_and_loses_none(lab: Lab, alice: Device, small_disk: Path) -> None:
    device = lab.published_device("crammed").with_settings(DATA_PATH=str(small_disk))
    texts = [f"message {number:03}" for number in range(500)]
    with device.receiver() as receiver:
        assert alice.send(device, "before").status == 0
        receiver.wait_for_message("before")
        filler = fill(small_disk)
        assert alice.send(device, "--lines", stdin="\n".join(texts)).status == 0
        receiver.wait_for_log("Messages wait for the disk", 30)
        wait_for_health(device, "disk: ")
        # The first write to the full disk may be another one than that of the printed messages.
        time.sleep(2)
        printed = len(receiver.stdout)
        time.sleep(2)
        # Some groups still fit into blocks that the file system had reserved for the file.
        assert len(receiver.stdout) == printed < 1 + len(texts), "what cannot be made durable holds up what comes next"
        filler.unlink()
        receiver.wait_for_message("message 499", 40)
        receiver.wait_for_log("The disk can be used again")
        assert receiver.stdout == [f'"{alice.name} says: {text}"' for text in ["before", *texts]]
        assert len(log_lines(receiver, "Messages wait for the disk")) == 1
        assert not log_lines(receiver, "Traceback")
        wait_for_health(device, "ok")


def test_the_receiver_stops_cleanly_on_a_full_disk_and_repeats_at_most_one_group(
    lab: Lab, alice: Device, small_disk: Path
) -> None:
    device = lab.published_device("stuffed").with_settings(DATA_PATH=str(small_disk))
    texts = [f"message {number:03}" for number in range(500)]
    with device.receiver() as first:
        filler = fill(small_disk)
        assert alice.send(device, "--lines", stdin="\n".join(texts)).status == 0
        first.wait_for_log("Messages wait for the disk", 30)
        assert first.stop(5) == 0
        assert not log_lines(first, "Traceback")
        assert not log_lines(first, "is dead")
    filler.unlink()
    with device.receiver() as second:
        second.wait_for_message("message 499", 40)
        assert {*first.stdout, *second.stdout} == {f'"{alice.name} says: {text}"' for text in texts}
        assert len(first.stdout) + len(second.stdout) - len(texts) <= 32


def test_a_full_disk_delays_messages_that_wait_for_dns(
    lab: Lab, alice: Device, small_disk: Path, anybody: BrokerClient
) -> None:
    device = lab.published_device("doubly").with_settings(DATA_PATH=str(small_disk))
    stranger = lab.published_device("stranger", BOGUS)
    with device.receiver() as receiver:
        filler = fill(small_disk)
        texts = [f"to be stored {number} {'x' * 20000}" for number in range(12)]
        for text in texts:
            anybody.publish(device, encrypted(signed(text, stranger, device), device))
        receiver.wait_for_log("Messages wait for the disk")
        assert receiver.is_running
        filler.unlink()
        receiver.wait_for_log("The disk can be used again")
        assert alice.send(device, "from alice").status == 0
        receiver.wait_for_message("from alice", 40)
        receiver.wait_for_log(f"waiting sender={stranger.name}")
        assert not log_lines(receiver, "refused reason=")
        assert not log_lines(receiver, "Traceback")


def test_a_disk_that_becomes_read_only_delays_messages_and_loses_none(
    lab: Lab, alice: Device, small_disk: Path
) -> None:
    device = lab.published_device("frozen").with_settings(DATA_PATH=str(small_disk))
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = device.run(RECEIVER)
    assert result.status == 1
    assert "Traceback" not in result.stderr
    assert f"'{small_disk}/replay.sqlite3' cannot be used: Read-only file system; set DATA_PATH" in result.stderr
    assert alice.send(device, "while it was frozen").status == 0
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with device.receiver() as receiver:
        receiver.wait_for_message("while it was frozen")


def test_a_disk_that_fails_at_run_time_delays_messages_and_loses_none(lab: Lab, alice: Device, tmp_path: Path) -> None:
    texts = [f"message {number:03}" for number in range(100)]
    with FailingDisk(tmp_path / "disk") as disk:
        device = lab.published_device("broken").with_settings(DATA_PATH=str(disk.directory))
        with device.receiver() as receiver:
            assert alice.send(device, "before").status == 0
            receiver.wait_for_message("before")
            disk.fail()
            assert alice.send(device, "--lines", stdin="\n".join(texts)).status == 0
            receiver.wait_for_log("Messages wait for the disk", 30)
            wait_for_health(device, "disk: ")
            assert receiver.stop() == 0
            assert len(receiver.stdout) <= 1 + 32
            assert not log_lines(receiver, "Traceback")
            printed = receiver.stdout[1:]
        disk.mend()
        with device.receiver() as receiver:
            receiver.wait_for_message(texts[-1], 40)
            # The disk may have failed before the first message was recorded as printed.
            printed_now = [line for line in receiver.stdout if not line.endswith('says: before"')]
            assert set(printed + printed_now) == {f'"{alice.name} says: {text}"' for text in texts}
            assert len(printed_now) == len(texts)


# The clock


@pytest.mark.parametrize("offset", [-5 * _YEAR, 5 * _YEAR])
def test_messages_wait_while_the_clock_is_wrong_by_years(
    offset: int, lab: Lab, alice: Device, tmp_path: Path, receiver_of: Callable[[Device], Program]
) -> None:
    clock = ShiftedClock(tmp_path)
    device = lab.published_device("timeless").with_settings(**clock.settings)
    receiver = receiver_of(device)
    assert alice.send(device, "before").status == 0
    receiver.wait_for_message("before")
    clock.shift(offset)
    assert alice.send(device, "in between").status == 0
    receiver.wait_for_log("the clock ")
    assert not any("in between" in line for line in receiver.stdout)
    clock.shift(0)
    receiver.wait_for_message("in between", 40)
    assert not log_lines(receiver, "refused reason=")
    assert alice.send(device, "after").status == 0
    receiver.wait_for_message("after")


# Floods


def test_a_burst_queued_at_the_broker_is_printed_completely_in_limited_memory(lab: Lab) -> None:
    found = work_off(lab, 3000)
    assert found.printed == found.different == 3000
    assert found.peak - found.memory <= ALLOWED_GROWTH_KIB


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_memory_for_a_flood_at_qos_0_is_limited(
    lab: Lab, alice: Device, anybody: BrokerClient, workers: str
) -> None:
    device = lab.published_device("flooded").with_settings(RECEIVER_WORKERS=workers)
    with device.receiver() as receiver:
        before = memory_of(receiver, "VmRSS")
        receiver.signal(signal.SIGSTOP)
        anybody.flood(device, b"x" * 60000, 1500)
        assert alice.send(device, "behind the flood").status == 0
        receiver.signal(signal.SIGCONT)
        receiver.wait_for_message("behind the flood", 60)
        assert memory_of(receiver, "VmHWM") - before < 24 * 1024


def memory_of(program: Program, figure: str) -> int:
    """Return a figure about the memory of a program, in KiB."""
    found = re.search(rf"{figure}:\s*(\d+)", Path(f"/proc/{program.process_id}/status").read_text())
    assert found is not None
    return int(found[1])
