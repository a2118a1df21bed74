"""The session at the broker: its loss is reported, and no other program of the device ends or empties it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import SEND_MESSAGE, Device, Program

LOST = "has lost the session"


def lost_lines(receiver: Program) -> list[str]:
    return [line for line in receiver.stderr if LOST in line and " WARNING " in line]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_session_that_was_lost_while_the_receiver_was_stopped_is_reported_at_its_start(
    version: str, lab: Lab, own_mosquitto: Mosquitto
) -> None:
    device = lab.published_device("bereft").with_settings(MQTT_PORT=str(own_mosquitto.port), MQTT_VERSION=version)
    with device.receiver() as receiver:
        assert receiver.stop() == 0
        assert not lost_lines(receiver)
    with device.receiver() as receiver:
        assert not lost_lines(receiver), "it was kept"
        receiver.kill()
    own_mosquitto.forget()
    with device.receiver() as receiver:
        (line,) = lost_lines(receiver)
        assert "messages to this device since then may be lost" in line
        assert receiver.stop() == 0
    with device.receiver() as receiver:
        assert not lost_lines(receiver), "it is reported once"


def test_a_session_that_expired_or_was_at_another_broker_is_not_reported_as_lost(
    lab: Lab, own_mosquitto: Mosquitto
) -> None:
    device = lab.published_device("brief").with_settings(MQTT_PORT=str(own_mosquitto.port), MQTT_SESSION_EXPIRY="1")
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    own_mosquitto.forget()
    time.sleep(2)
    with device.receiver() as receiver:
        assert receiver.stop() == 0
        assert not lost_lines(receiver)
        assert [line for line in receiver.stderr if "has expired" in line]
    elsewhere = device.with_settings(MQTT_PORT=str(lab.mosquitto.port), MQTT_SESSION_EXPIRY="600")
    with elsewhere.receiver() as receiver:
        assert receiver.stop() == 0
        assert not [line for line in receiver.stderr if LOST in line or "has expired" in line]


def test_the_session_survives_the_loss_of_the_replay_memory(lab: Lab, alice: Device) -> None:
    device = lab.published_device("forgetful")
    with device.receiver() as receiver:
        assert receiver.stop() == 0
    assert alice.send(device, "kept at the broker").status == 0
    for path in Path(device.settings["DATA_PATH"]).glob("replay.sqlite3*"):
        path.unlink()
    with device.receiver() as receiver:
        receiver.wait_for_message("kept at the broker")


@contextmanager
def by_user_name(directory: Path, *users: str) -> Iterator[tuple[Mosquitto, dict[str, dict[str, str]]]]:
    """Yield a broker that uses the user name as the client id, and each user's settings."""
    directory.mkdir()
    passwords = directory / "passwords"
    passwords.touch(0o600)
    settings = {}
    for user in users:
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, "secret"], check=True)
        (directory / user).write_text("secret\n")
        settings[user] = {"MQTT_USERNAME": user, "MQTT_PASSWORD_FILE": str(directory / user)}
    extra = f"password_file {passwords}\nuse_username_as_clientid true\n"
    with Mosquitto(directory, anonymous=False, extra=extra) as broker:
        for one in settings.values():
            one["MQTT_PORT"] = str(broker.port)
        yield broker, settings


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("receiver_is", ["stopped", "running"])
def test_a_sender_that_is_given_the_session_of_its_receiver_leaves_it_as_it_is(
    version: str, receiver_is: str, lab: Lab, tmp_path: Path
) -> None:
    with by_user_name(tmp_path / "mosquitto", "alice", "bob") as (_, settings):
        alice = lab.published_device("alice").with_settings(**settings["alice"])
        bob = lab.published_device("bob").with_settings(**settings["bob"], MQTT_VERSION=version)
        texts = [f"message {number}" for number in range(3)]
        with bob.receiver() as receiver:
            assert receiver.stop() == 0
        for text in texts:
            assert alice.send(bob, text).status == 0
        if receiver_is == "running":
            with bob.receiver() as receiver:
                refused(bob, alice)
                receiver.wait_for_message("message 2")
                assert len(receiver.stdout) == 3
                assert not lost_lines(receiver)
        else:
            refused(bob, alice)
            with bob.receiver() as receiver:
                receiver.wait_for_message("message 2")
                assert [line.rpartition("says: ")[2].strip('"') for line in receiver.stdout] == texts
                assert not lost_lines(receiver)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_sender_whose_session_the_receiver_takes_over_leaves_it_and_loses_nothing(
    version: str, lab: Lab, tmp_path: Path
) -> None:
    with by_user_name(tmp_path / "mosquitto", "alice", "bob") as (_, settings):
        alice = lab.published_device("alice").with_settings(**settings["alice"])
        bob = lab.published_device("bob").with_settings(**settings["bob"], MQTT_VERSION=version)
        texts = [f"message {number}" for number in range(10)]
        with bob.start(SEND_MESSAGE, alice.name, "--lines", "--json") as sender:
            # It connects before there is a session of the receiver's.
            sender.write("nobody reads this\n")
            sender.wait_for("result", lambda: bool(sender.stdout))
            with bob.receiver() as receiver:
                for text in texts:
                    assert alice.send(bob, text).status == 0
                sender.write_all("never sent\n")
                assert sender.wait_for_end(60) == 3, sender.stderr
                receiver.wait_for_message(texts[-1])
                assert [line.rpartition("says: ")[2].strip('"') for line in receiver.stdout] == texts
                assert not lost_lines(receiver)
                reported = [
                    line for line in receiver.stderr if "has a session that this receiver did not record" in line
                ]
                # With 3.1.1 the sender's session ends when it is taken over.
                assert len(reported) == (version == "5")
                assert receiver.stop() == 0
        assert [line for line in sender.stderr if "a session that is not ours" in line]
        assert [line for line in sender.stderr if "user name as the client id" in line]
        assert alice.send(bob, "afterwards").status == 0
        with bob.receiver() as receiver:
            receiver.wait_for_message("afterwards")
            assert not lost_lines(receiver)


def test_a_sender_that_is_given_the_session_of_its_receiver_loses_no_long_message(lab: Lab, tmp_path: Path) -> None:
    with by_user_name(tmp_path / "mosquitto", "alice", "bob") as (_, settings):
        alice = lab.published_device("alice").with_settings(**settings["alice"], MAX_MESSAGE_SIZE="300000")
        bob = lab.published_device("bob").with_settings(**settings["bob"], MAX_MESSAGE_SIZE="300000")
        with bob.receiver() as receiver:
            assert receiver.stop() == 0
        text = "long " * 20000
        assert alice.send(bob, "-", stdin=text).status == 0
        refused(bob, alice)
        with bob.receiver() as receiver:
            receiver.wait_for_message("long long")
            assert not lost_lines(receiver)


def refused(sender: Device, recipient: Device) -> None:
    result = sender.send(recipient, "never sent")
    assert result.status == 3, result
    assert "a session that is not ours" in result.stderr
    assert "user name as the client id" in result.stderr


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_sender_leaves_no_session_at_the_broker(version: str, lab: Lab, alice: Device, tmp_path: Path) -> None:
    (tmp_path / "mosquitto").mkdir()
    with Mosquitto(tmp_path / "mosquitto", extra="sys_interval 1\n") as broker:
        there = {"MQTT_PORT": str(broker.port), "MQTT_VERSION": version}
        device = lab.published_device("visited").with_settings(**there)
        with device.receiver() as receiver:
            for number in range(3):
                assert alice.with_settings(**there).send(device, f"message {number}").status == 0
            receiver.wait_for_message("message 2")
        wait_for_sessions(broker, device, 1)


def test_a_sender_that_is_killed_leaves_no_session_with_mqtt_3_1_1(lab: Lab, alice: Device, tmp_path: Path) -> None:
    (tmp_path / "mosquitto").mkdir()
    with Mosquitto(tmp_path / "mosquitto", extra="sys_interval 1\n") as broker:
        there = {"MQTT_PORT": str(broker.port), "MQTT_VERSION": "3.1.1"}
        device = lab.published_device("visited").with_settings(**there)
        with device.receiver() as receiver:
            assert receiver.stop() == 0
        with alice.with_settings(**there).start(SEND_MESSAGE, device.name, "--receipt", "hello") as sender:
            sender.wait_for_log("has acknowledged")
            sender.kill()
        wait_for_sessions(broker, device, 1)


def wait_for_sessions(broker: Mosquitto, device: Device, number: int) -> None:
    """Wait until the broker has this many sessions."""
    watcher = BrokerClient(broker)
    watcher.listen(replace(device, name="$SYS/broker/clients/total"))
    # One is the watcher's; the first value may be out of date.
    wanted = [str(number + 1).encode()]
    wait_until(lambda: watcher.payloads_so_far()[-1:] == wanted, "end of the senders' sessions")
    watcher.close()
