"""What the resident sender tells a service manager when its thread ends."""

import signal
import threading
from pathlib import Path

from idlib.settings import Settings, load
from idlib.system.service_manager import ServiceManager
from messaging_sender.application import _status, _tell_until_ended


def settings_of(directory: Path) -> Settings:
    return load({"IDENTITY_NAME": "alice.example", "DATA_PATH": str(directory)})


def test_a_sender_whose_thread_has_ended_ends_too_so_that_it_is_started_again(tmp_path: Path) -> None:
    worker = threading.Thread(target=tmp_path.exists)
    worker.start()
    worker.join()
    assert _tell_until_ended(ServiceManager(), {signal.SIGTERM}, worker, settings_of(tmp_path))


def test_a_sender_that_does_not_watch_its_outbox_yet_is_not_healthy(tmp_path: Path) -> None:
    assert _status(settings_of(tmp_path)) == "the settings or DATA_PATH cannot be used yet: look at the log"
