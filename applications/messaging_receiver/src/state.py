"""What the receiver keeps under DATA_PATH, opened together and closed together."""

import contextlib
import threading
import time
from collections.abc import Iterator

from context import Context, Standings

from idlib.discovery import Discovery
from idlib.envelope import parse
from idlib.errors import Refusal
from idlib.settings import Settings
from idlib.storage import ReplayEntry
from idlib.storage.migration import migrate
from idlib.storage.replay import ReplayMemory
from idlib.storage.values import IDENTIFIER_BYTES
from idlib.storage.waiting import WaitingMessages
from idlib.timekeeping import Timekeeper
from idlib.trust import PolicySource, replay_entry


@contextlib.contextmanager
def open_state(settings: Settings, stopping: threading.Event) -> Iterator[Context]:
    """Yield what the stages share, over the files under DATA_PATH.

    Args:
        settings: What the environment says.
        stopping: Set when the receiver is told to stop.

    Raises:
        StoreError: The files cannot be used, or another process holds them.
        ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
    """
    migrate(settings.data_path, int(time.time()), _identify)
    with ReplayMemory(settings.data_path) as memory, WaitingMessages(settings.data_path) as waiting:
        policies = PolicySource(settings)
        standings = Standings(memory, policies)
        discovery = Discovery.from_settings(settings, standings.is_surely_trusted)
        yield Context(settings, memory, waiting, policies, standings, discovery, Timekeeper(memory), stopping)


def _identify(sender: str, signed: str, digest: bytes) -> ReplayEntry:
    """Return how a stored message is recognized; one that cannot be read is refused later, so any value will do."""
    try:
        return replay_entry(parse(signed), digest)
    except Refusal:
        return ReplayEntry(sender, digest[:IDENTIFIER_BYTES], None)
