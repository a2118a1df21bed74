"""The three services under a service manager: a socket that listens as systemd does."""

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.lab import Lab
from testbed.programs import COMMAND, RECEIVER, SENDER, SUBSCRIBED, Device, descendants

WATCHDOG_USEC = "600000"


class Manager:
    """A service manager's socket, and what was said on it.

    Args:
        path: Where it listens.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    @property
    def variables(self) -> dict[str, str]:
        """What systemd adds to the environment of a service."""
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": WATCHDOG_USEC}

    def wait_for(self, text: str) -> None:
        """Wait until something that begins with a text has been said."""
        if not any(one.startswith(text) for one in self.heard):
            self.wait_for_next(text)

    def wait_for_next(self, text: str) -> None:
        """Wait until something that begins with a text is said from now on."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                self.heard.append(self._socket.recv(4096).decode())
                if self.heard[-1].startswith(text):
                    return
        raise AssertionError(f"no {text!r} in {self.heard}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.close()


def variables_of(process: int) -> set[str]:
    """Return the names of the variables that a process was started with."""
    entries = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return {entry.partition(b"=")[0].decode() for entry in entries}


def test_the_receiver_has_started_when_it_has_subscribed(lab: Lab, manager: Manager) -> None:
    bob = lab.published_device("managed").with_settings(**manager.variables)
    with bob.start(RECEIVER) as receiver:
        manager.wait_for("READY=1")
        assert any(SUBSCRIBED in line for line in receiver.stderr)
        manager.wait_for("STATUS=ok: connected, subscribed, threads moving, own record in DNS")
        manager.wait_for_next("WATCHDOG=1")
        receiver.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert receiver.wait_for_end(5) == 0


def test_a_receiver_that_cannot_be_used_yet_says_what_is_missing_and_is_not_ended(lab: Lab, manager: Manager) -> None:
    with lab.device_with_key("managed-early").with_settings(**manager.variables).start(RECEIVER):
        manager.wait_for("STATUS=own record is not in DNS yet")
        manager.wait_for_next("WATCHDOG=1")
        assert "READY=1" not in manager.heard


def test_a_wrong_setting_ends_a_sender_under_a_service_manager_before_it_has_started(
    lab: Lab, manager: Manager
) -> None:
    device = lab.device("managed-wrong").with_settings(**manager.variables, MQTT_PORT="0")
    result = device.run(SENDER)
    assert result.status == 1
    assert result.stderr.splitlines()[-1].startswith("Bad value of env var MQTT_PORT: '0'")
    assert manager.heard == []


def test_the_resident_sender_says_how_many_messages_wait(lab: Lab, alice: Device, manager: Manager) -> None:
    device = lab.device_with_key("managed-sender").with_settings(MQTT_PORT="1")
    with device.with_settings(**manager.variables).start(SENDER) as sender:
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=ok: waiting for commands")
        assert device.send(alice, "later", "--queue").status == 0
        manager.wait_for("STATUS=ok: messages waiting to be delivered: 1, since ")
        manager.wait_for_next("WATCHDOG=1")
        sender.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert sender.wait_for_end(5) == 0


@pytest.mark.parametrize("settings", [{}, {"DNS_PUBLISH": "command"}], ids=["idle", "publishing"])
def test_the_maintenance_says_that_it_works(settings: dict[str, str], lab: Lab, manager: Manager) -> None:
    device = lab.device("managed-maintenance").with_settings(**manager.variables, **settings)
    with device.start(COMMAND, "maintain") as service:
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=ok: ")
        for _ in range(3):
            manager.wait_for_next("WATCHDOG=1")
        service.signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert service.wait_for_end(5) == 0
        assert "To create an identity, run dane-messenger identity new; see --help." in service.stderr


def test_a_failed_check_is_the_status_of_the_maintenance_and_its_command_cannot_speak_for_it(
    lab: Lab, manager: Manager, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    device = lab.published_device("managed-check").with_settings(
        **manager.variables,
        DNS_PUBLISH="command",
        DNS_PUBLISH_COMMAND=f"env > {seen}; false",
        DNS_SERVER_PORT=str(lab.knot.port),
        RESTORE_RECORD="on",
        ROTATE_TEST_SPEED="100",
        CREDENTIALS_DIRECTORY=str(tmp_path),
    )
    lab.knot.remove_tlsa(device.name)
    with device.start(COMMAND, "maintain"):
        manager.wait_for("STATUS=the last identity check failed: look at the log")
        # A check runs in a process of its own; meanwhile the service must not be silent.
        manager.wait_for_next("WATCHDOG=1")
    assert "CREDENTIALS_DIRECTORY=" in seen.read_text()
    assert "NOTIFY_SOCKET" not in seen.read_text()
    assert "WATCHDOG_USEC" not in seen.read_text()


def test_the_services_run_without_a_service_manager_that_has_gone(lab: Lab, tmp_path: Path, alice: Device) -> None:
    bob = lab.published_device("managed-alone").with_settings(
        NOTIFY_SOCKET=str(tmp_path / "gone"), WATCHDOG_USEC=WATCHDOG_USEC
    )
    with bob.receiver() as receiver:
        assert alice.send(bob, "alone").status == 0
        receiver.wait_for_message("alone")
        assert descendants(receiver.pid)
