"""The commands of docs/home.md, and the access control that it shows, with Mosquitto."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import find
from testbed.lab import Lab, wait_until
from testbed.outbox import waiting
from testbed.programs import ROOT, SUBSCRIBED, Device, Program
from tests.documents import block

HOME: Final = "docs/home.md"
USERS: Final = ("alice-bridge", "nodered", "homeassistant", "telegraf")


def run(*command: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)


def configured(directory: Path) -> str:
    """Return the page's configuration with files in a directory, without the listener, which the testbed chooses."""
    (directory / "acl").write_text(block(HOME, "acl"))
    commands = block(HOME, "the passwords").splitlines()
    assert [line.split()[0] for line in commands] == [*["mosquitto_passwd"] * len(USERS), "chown", "chmod"]
    for line, user in zip(commands, USERS, strict=False):
        _, *options, path, name = line.split()
        assert (path, name) == ("/etc/mosquitto/passwd", user)
        # Debian's Mosquitto 2.0 asks for the password twice; -b takes it from the command line.
        done = run(find("mosquitto_passwd"), "-b", *options, str(directory / "passwd"), user, f"secret of {user}")
        assert done.returncode == 0, done
    (directory / "passwd").chmod(0o600)
    lines = block(HOME, "home.conf").replace("/etc/mosquitto", str(directory)).splitlines(keepends=True)
    assert lines[0] == "listener 1883\n"
    return "".join(line for line in lines if not line.startswith(("listener", "allow_anonymous")))


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Yield a broker with the configuration, passwords and access control list of the page."""
    directory = tmp_path_factory.mktemp("home", numbered=False)
    extra = configured(directory)
    with Mosquitto(directory, anonymous=False, extra=extra) as broker:
        yield broker


def login(broker: Mosquitto, user: str) -> list[str]:
    return ["-h", broker.host, "-p", str(broker.port), "-V", "5", "-u", user, "-P", f"secret of {user}"]


def publish(broker: Mosquitto, user: str, topic: str) -> bool:
    """Publish as a user; return whether the broker has accepted it."""
    done = run(find("mosquitto_pub"), *login(broker, user), "-q", "1", "-t", topic, "-m", user, "-d")
    assert "CONNACK (0)" in done.stdout, done
    return "Publish 1 failed" not in done.stdout + done.stderr


@contextmanager
def listening(broker: Mosquitto, user: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a client of a user that prints the topic of everything that the broker passes on to it."""
    command = ["-q", "1", "-t", "messenger/#", "-F", "%t %p", "-d", "-C", "2", "-W", "20"]
    with subprocess.Popen(
        ["stdbuf", "--output=L", find("mosquitto_sub"), *login(broker, user), *command],
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert any("Subscribed" in line for line in iter(client.stdout.readline, ""))
        yield client


ALLOWED: Final = {
    ("alice-bridge", "messenger/in/x._device.example.com"),
    ("alice-bridge", "messenger/status"),
    ("alice-bridge", "messenger/error"),
    ("nodered", "messenger/out/x._device.example.com"),
    ("homeassistant", "messenger/out/x._device.example.com"),
}
TOPICS: Final = tuple(
    f"messenger/{topic}" for topic in ("in/x._device.example.com", "out/x._device.example.com", "status", "error")
)


def test_each_client_can_publish_only_what_it_must(protected: Mosquitto) -> None:
    accepted = {(user, topic) for user in USERS for topic in TOPICS if publish(protected, user, topic)}
    assert accepted == ALLOWED


def test_a_client_that_may_only_read_cannot_send_as_the_device(protected: Mosquitto) -> None:
    with listening(protected, "alice-bridge") as bridge:
        assert not publish(protected, "telegraf", "messenger/out/bob._device.example.com")
        assert not publish(protected, "telegraf", "messenger/in/bob._device.example.com")
        for _ in range(2):
            assert publish(protected, "nodered", "messenger/out/bob._device.example.com")
        printed, _ = bridge.communicate(timeout=30)
    arrived = [line for line in printed.splitlines() if line.startswith("messenger/")]
    assert arrived == ["messenger/out/bob._device.example.com nodered"] * 2


def test_a_client_without_a_login_gets_nothing(protected: Mosquitto) -> None:
    place = ["-h", protected.host, "-p", str(protected.port)]
    done = run(find("mosquitto_pub"), *place, "-q", "1", "-t", "messenger/out/bob._device.example.com", "-m", "x")
    assert done.returncode != 0
    assert "not authorised" in (done.stdout + done.stderr).lower()


def test_only_the_bridge_reads_what_is_to_be_sent(protected: Mosquitto) -> None:
    with listening(protected, "telegraf") as client:
        assert publish(protected, "nodered", "messenger/out/bob._device.example.com")
        for topic in (
            "messenger/status",
            "messenger/in/bob._device.example.com",
            "messenger/in/bob._device.example.com",
        ):
            assert publish(protected, "alice-bridge", topic)
        printed, _ = client.communicate(timeout=30)
    arrived = [line for line in printed.splitlines() if line.startswith("messenger/")]
    assert arrived == ["messenger/in/bob._device.example.com alice-bridge"] * 2


def test_the_bridge_works_with_the_access_control_list(
    lab: Lab, alice: Device, protected: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret of alice-bridge\n")
    device = lab.published_device("protected").with_settings(
        LOCAL_MQTT_URL=f"mqtt://alice-bridge@{protected.address}", LOCAL_MQTT_PASSWORD_FILE=str(tmp_path / "password")
    )
    with device.receiver() as receiver, listening(protected, "nodered") as client:
        assert alice.send(device, "allowed").status == 0
        receiver.wait_for_message("allowed")
        assert publish(protected, "nodered", f"messenger/out/{alice.name}")
        wait_until(lambda: waiting(device) == 1, "message in the outbox")
        printed, _ = client.communicate(timeout=30)
        assert not [line for line in receiver.stderr if "refuses" in line or "does not accept" in line]
    arrived = [line for line in printed.splitlines() if line.startswith("messenger/")]
    assert arrived[0] == "messenger/status online"
    assert arrived[1].startswith(f"messenger/in/{alice.name} {{")


class AtHome:
    """Runs the commands of the page for a device, with a broker at another port.

    Args:
        directory: For the command `dane-messenger`.
        broker: The local broker.
        device: The device whose receiver is the bridge.
        names: The names that replace those on the page.
    """

    def __init__(self, directory: Path, broker: Mosquitto, device: Device, names: dict[str, str]) -> None:
        command = directory / "dane-messenger"
        command.write_text(f'#!/bin/sh\nexec {ROOT}/.venv/bin/python -m dane_messenger "$@"\n')
        command.chmod(0o755)
        environment = device.environment()
        self._environment = {**environment, "PATH": f"{directory}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
        self._replaced = {
            "mqtt://127.0.0.1": f"mqtt://127.0.0.1:{broker.port}",
            "mosquitto_sub ": f"stdbuf --output=L mosquitto_sub -p {broker.port} ",
            "mosquitto_pub ": f"mosquitto_pub -p {broker.port} ",
            **names,
        }

    def start(self, mark: str) -> Program:
        *before, last = block(HOME, mark).splitlines()
        commands = "\n".join([*before, f"exec {last}"])
        for old, new in self._replaced.items():
            commands = commands.replace(old, new)
        return Program(["sh", "-euc", commands], self._environment)


def test_a_message_comes_home_and_another_leaves_with_the_commands_of_the_page(
    lab: Lab, alice: Device, bob: Device, bob_receiver: Program, own_mosquitto: Mosquitto, tmp_path: Path
) -> None:
    device = lab.published_device("home")
    names = {"bob._device.example.com": bob.name, "alice._device.example.com": alice.name}
    home = AtHome(tmp_path, own_mosquitto, device, names)
    with home.start("the bridge") as bridge, home.start("the sender service"):
        bridge.wait_for_log(SUBSCRIBED)
        with home.start("watching") as watching:
            watching.wait_for_message("messenger/status online")
            assert alice.send(device, "The kettle is on.").status == 0
            line = watching.wait_for_message("messenger/in/")
        bridge.wait_for_message("The kettle is on.")
        topic, _, shown = line.partition(" ")
        assert topic == f"messenger/in/{alice.name}"
        documented = block(HOME, "what mosquitto_sub shows").splitlines()[1].partition(" ")[2].partition("…")[0]
        assert shown.startswith(documented.replace("alice._device.example.com", alice.name))
        assert json.loads(shown)["message"] == "The kettle is on."
        with home.start("sending from home") as sending:
            assert sending.wait_for_end() == 0
        line = bob_receiver.wait_for_message(device.name)
        assert line == f'"{device.name} says: The kettle is on."'
