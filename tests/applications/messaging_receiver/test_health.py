"""The receiver's answers to `--health`."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.errors import StoreError
from messaging_receiver import health
from messaging_receiver.health import HealthService, main


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return a function that asks the receiver of this test as `--health` does; it returns the status and the line."""
    monkeypatch.setenv("IDENTITY_NAME", "bob.example")
    monkeypatch.setenv("DATA_PATH", str(tmp_path))
    return lambda: f"{main()} {capsys.readouterr().out}"


def test_a_healthy_receiver_reports_ok(ask: Callable[[], str], tmp_path: Path) -> None:
    HealthService(tmp_path, lambda: None)
    assert ask() == "0 ok: connected, subscribed, threads moving, own record in DNS\n"


def test_without_a_receiver_the_answer_is_that_none_is_running(ask: Callable[[], str]) -> None:
    assert ask() == "1 the receiver is not running\n"


@pytest.mark.parametrize("path", ["relative", "/" + "x" * 300])
def test_bad_settings_are_reported_in_one_line_of_at_most_100_characters(
    path: str, ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PATH", path)
    monkeypatch.setenv("MQTT_PORT", "none")
    said = ask()
    assert said.startswith("1 ")
    assert "MQTT_PORT" in said or "DATA_PATH" in said
    assert said.count("\n") == 1
    assert len(said) <= 103


def test_a_missing_setting_is_named(ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDENTITY_NAME")
    assert ask() == "1 Missing essential configuration env var: IDENTITY_NAME\n"


def test_an_internal_error_does_not_end_the_health_service(
    ask: Callable[[], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> str | None:
        raise ZeroDivisionError("an error of ours")

    service = HealthService(tmp_path, fail)
    for _ in range(2):
        assert ask() == "1 internal error in the receiver while checking its health\n"
    assert "an error of ours" in caplog.text
    service.problem = lambda: "not subscribed"
    assert ask() == "1 not subscribed\n"


def test_a_lack_of_file_descriptors_does_not_end_the_health_service(
    ask: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 0.1)
    accept, listen = socket.socket.accept, socket.socket.listen
    # The sockets of other tests are still listening.
    ours: list[socket.socket] = []
    failures: list[float] = []
    lasts = threading.Event()
    lasts.set()

    def listen_and_note(self: socket.socket) -> None:
        ours.append(self)
        listen(self)

    def fail(self: socket.socket) -> tuple[socket.socket, object]:
        if lasts.is_set() and self in ours:
            failures.append(time.monotonic())
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail)
    monkeypatch.setattr(socket.socket, "listen", listen_and_note)
    HealthService(tmp_path, lambda: None)
    time.sleep(0.5)
    assert 2 <= len(failures) <= 6
    assert caplog.messages == ["Health requests cannot be accepted: Too many open files"]
    lasts.clear()
    assert ask().startswith("0 ok: ")


def test_the_error_for_a_socket_that_cannot_be_created_names_its_path(tmp_path: Path) -> None:
    (tmp_path / " no directory").touch()
    with pytest.raises(StoreError, match=r"^'[^']*/ no directory/health\.socket' cannot be created: Not a directory; "):
        HealthService(tmp_path / " no directory", lambda: None)
