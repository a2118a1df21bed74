"""The thread that keeps the epoch keys goes on whatever happens, and looks at once when a message waits for a key."""

import logging
import threading
from collections.abc import Callable

import pytest

from idlib.algorithms import PrivateKey
from messaging_receiver import epoch_threads
from messaging_receiver.epoch_threads import EpochKeeping
from messaging_receiver.own_epochs import NoOwnEpochs
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS


class Epochs(NoOwnEpochs):
    """Epoch keys that note with which identity key they are kept."""

    def __init__(self) -> None:
        self.kept: list[PrivateKey] = []
        self.changed = threading.Condition()
        self.fails = False

    def keep(self, identity_key: PrivateKey) -> None:
        with self.changed:
            self.kept.append(identity_key)
            self.changed.notify_all()
        if self.fails:
            raise RuntimeError("reason")

    def wait(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.kept) >= number, 20)


def running(epochs: Epochs, key: Callable[[], PrivateKey], stopping: threading.Event) -> EpochKeeping:
    keeping = EpochKeeping(epochs, key, stopping)
    threading.Thread(target=keeping.run, daemon=True).start()
    return keeping


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_threads, "_LOOK_SECONDS", 0.01)


@pytest.mark.usefixtures("fast")
def test_the_keys_are_kept_with_the_present_identity_key_at_once_if_a_message_waits() -> None:
    epochs, stopping, identity = Epochs(), threading.Event(), [KEYS[BOB]]
    keeping = running(epochs, lambda: identity[0], stopping)
    keeping.look()
    epochs.wait(1)
    identity[0] = KEYS[ALICE]
    keeping.look()
    epochs.wait(2)
    stopping.set()
    assert epochs.kept == [KEYS[BOB], KEYS[ALICE]]


@pytest.mark.usefixtures("fast")
def test_the_keys_are_kept_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_threads, "KEEPING_SECONDS", 0.02)
    epochs, stopping = Epochs(), threading.Event()
    running(epochs, lambda: KEYS[BOB], stopping)
    epochs.wait(3)
    stopping.set()


@pytest.mark.usefixtures("fast")
def test_an_internal_error_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    epochs, stopping = Epochs(), threading.Event()
    epochs.fails = True
    keeping = running(epochs, lambda: KEYS[BOB], stopping)
    with caplog.at_level(logging.ERROR):
        for number in (1, 2):
            keeping.look()
            epochs.wait(number)
    stopping.set()
    assert "Internal error while keeping the epoch keys" in caplog.text
