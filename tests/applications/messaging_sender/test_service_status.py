"""What the resident sender tells a service manager when its thread ends."""

import signal
import threading
from pathlib import Path

from idlib.system.service_manager import ServiceManager
from messaging_sender.application import _status, _tell_until_ended


def test_a_sender_whose_thread_has_ended_ends_too_so_that_it_is_started_again(tmp_path: Path) -> None:
    worker = threading.Thread(target=tmp_path.exists)
    worker.start()
    worker.join()
    assert _tell_until_ended(ServiceManager(), {signal.SIGTERM}, worker, tmp_path)


def test_a_sender_that_does_not_watch_its_outbox_yet_is_not_healthy(tmp_path: Path) -> None:
    assert _status(tmp_path) == "the settings or DATA_PATH cannot be used yet: look at the log"
