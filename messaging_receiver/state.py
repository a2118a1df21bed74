"""Opens and closes the receiver's files under DATA_PATH."""

import contextlib
import hashlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from idlib.discovery import Discovery
from idlib.envelope import parse
from idlib.errors import Refusal, StoreError, quoted
from idlib.files import read_regular, replace_durably
from idlib.settings import Settings
from idlib.storage import ReplayEntry, ReplayStore
from idlib.storage.migration import migrate
from idlib.storage.printing import SolePrinting
from idlib.storage.replay import ReplayMemory
from idlib.storage.values import IDENTIFIER_BYTES
from idlib.storage.waiting import WaitingMessages
from idlib.timekeeping import Timekeeper
from idlib.transport import new_client_id
from idlib.transport.session import LastSession
from idlib.trust import PolicySource, replay_entry
from messaging_receiver.context import Context, Standings

_LOG = logging.getLogger(__name__)

_CLIENT_ID_FILE: Final = "client_id"
_MAX_CLIENT_ID_BYTES: Final = 256
_CLIENT_ID: Final = re.compile("[0-9A-Za-z-]{1,128}")
_SESSION: Final = "session"
_DIGEST_DIGITS: Final = 16


@contextlib.contextmanager
def open_state(settings: Settings, stopping: threading.Event) -> Iterator[Context]:
    """Open the files under DATA_PATH, and yield the context that the stages share.

    Args:
        settings: The settings from the environment.
        stopping: Set to stop the receiver.

    Raises:
        StoreError: The files cannot be used, or another process is using them.
        ConfigurationError: The settings contradict each other, or a file that they name cannot be used.
    """
    migrate(settings.data_path, int(time.time()), _identify)
    with ReplayMemory(settings.data_path) as memory, WaitingMessages(settings.data_path) as waiting:
        policies = PolicySource(settings)
        standings = Standings(memory, policies)
        discovery = Discovery.from_settings(settings, standings.is_surely_trusted)
        timekeeper = Timekeeper(memory)
        try:
            yield Context(
                settings,
                memory,
                waiting,
                SolePrinting(memory, waiting),
                policies,
                standings,
                discovery,
                timekeeper,
                stopping,
            )
        finally:
            with contextlib.suppress(StoreError):
                timekeeper.finish()


def kept_client_id(context: Context) -> str:
    """Return the client id of our session at the broker; without it, the messages that the broker holds are lost.

    It is stored in the replay memory and in a file of its own, so that it survives damage to either.

    Args:
        context: What the stages share.
    """
    path = context.settings.data_path / _CLIENT_ID_FILE
    copy = _read_client_id(path)
    client_id = context.memory.fact("client_id", copy or new_client_id())
    if copy != client_id:
        _write_client_id(path, client_id)
    return client_id


def _read_client_id(path: Path) -> str | None:
    try:
        text = read_regular(path, _MAX_CLIENT_ID_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _CLIENT_ID.fullmatch(text) else None


def _write_client_id(path: Path, client_id: str) -> None:
    try:
        replace_durably(path, f"{client_id}\n".encode("ascii"))
    except OSError as error:
        _LOG.warning("The copy of the client id cannot be written to %s: %s", quoted(path), error.strerror)


class KeptSession:
    """Remembers in the store that there is a session at the broker; errors of the store are ignored.

    Args:
        memory: The store.
        client_id: The client id in MQTT_CLIENT_ID, each of which has its own session; None for the random one.
    """

    def __init__(self, memory: ReplayStore, client_id: str | None = None) -> None:
        self._memory = memory
        self._client_id = client_id
        # The id itself stays out of the store: anyone who knows it can take over the session.
        digest = "" if client_id is None else hashlib.sha256(client_id.encode()).hexdigest()[:_DIGEST_DIGITS]
        self._fact = _SESSION if client_id is None else f"{_SESSION} {digest}"

    def recall(self) -> str | None:
        """Return the text that was noted last, or None."""
        try:
            text = self._memory.fact(self._fact, "") or None
            if text is None and self._client_id is not None:
                self._tell_of_another_session()
        except StoreError:
            return None
        return text

    def _tell_of_another_session(self) -> None:
        last = LastSession.from_text(self._memory.get_fact(_SESSION) or "")
        if last is not None and last.should_exist(time.time()):
            _LOG.warning(
                "MQTT_CLIENT_ID begins a new session: what has come since the receiver last ran stays in the session of"
                " the random client id until the broker drops it; to receive it, run the receiver once without"
                " MQTT_CLIENT_ID"
            )

    def note(self, text: str) -> None:
        """Note a text in place of the one before.

        Args:
            text: At least one character.
        """
        # The session works without the note, so a failing disk must not end the connection.
        with contextlib.suppress(StoreError):
            self._memory.set_fact(self._fact, text)


def _identify(sender: str, signed: str, digest: bytes) -> ReplayEntry:
    """Return the replay entry of a stored message; an unreadable one is refused later, so its entry does not matter."""
    try:
        return replay_entry(parse(signed), digest)
    except Refusal:
        return ReplayEntry(sender, digest[:IDENTIFIER_BYTES], None)
