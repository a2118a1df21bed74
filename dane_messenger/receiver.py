"""Receives messages in a Python program."""

import threading
import weakref
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from dane_messenger.child import Child
from dane_messenger.configuration import SettingValue, environment_with
from dane_messenger.library_log import be_quiet_by_default
from dane_messenger.message import Message, message_of
from idlib.errors import ConfigurationError, IdlibError
from idlib.settings import RECEIVER_READS, Switch, load


class Receiver:
    """Receives messages for the device that the settings name. Use it as a context manager, or call `close`.

    It runs the program `dane-messenger receive` as a process of its own, which has the keys, opens and authenticates
    the messages, and ends together with this program. Its log goes to the logger `dane_messenger`.

    Each message comes at least once. It is acknowledged when the program asks for the next one, calls
    `Message.acknowledge`, or leaves the `with` statement without an exception. If an exception ends the program or the
    `with` statement before, the message comes again to the next receiver of this device.

    Use a receiver from one thread; only `close` may be called from any thread or signal handler.

    Args:
        settings: Settings that differ from those in the environment, under the names of the environment variables
            (docs/settings.md), such as `{"IDENTITY_NAME": "alice._device.example.com"}`.

    Raises:
        ConfigurationError: Settings are missing, unknown or have bad values; the error lists all of them.
    """

    def __init__(self, settings: Mapping[str, SettingValue] | None = None) -> None:
        be_quiet_by_default()
        self._environment = environment_with(settings)
        read = load(self._environment, RECEIVER_READS)
        if read.local_mqtt_only is Switch.ON:
            raise ConfigurationError(
                "LOCAL_MQTT_ONLY is on: messages would go to the local broker only, and this program would get none;"
                " unset it"
            )
        self._identity_name = str(read.identity_name)
        self._lock = threading.RLock()
        self._child: Child | None = None
        # Also if the program ends without closing the receiver.
        self._stop: weakref.finalize[[], Receiver] | None = None
        # The last message that was returned, unless it is certainly acknowledged or comes again.
        self._current: Message | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        """Start to receive.

        Raises:
            ReceiverError: The process cannot be started.
        """
        self._running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._current is not None and not self._is_closed:
                self._current.acknowledge()
        finally:
            self.close()

    def __iter__(self) -> Iterator[Message]:
        """Yield each message, and acknowledge it when the next one is asked for; end when the receiver is closed.

        A message that was not acknowledged, because the last loop was left by `break` or an exception, comes first.

        Raises:
            IdlibError: As `get` does.
        """
        message = self._current
        if message is None or message.is_acknowledged:
            message = self._next(None)
        while message is not None:
            yield message
            message = self._next(None)

    @property
    def identity_name(self) -> str:
        """The name of the device that receives."""
        return self._identity_name

    def get(self, timeout: float | None = None) -> Message:
        """Acknowledge the last message, and return the next one.

        Args:
            timeout: How many seconds to wait for it; None for any time.

        Raises:
            TimeoutError: There was none.
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
            StoreError: The files in DATA_PATH cannot be used, or another receiver uses them.
            ReceiverError: The process cannot be started, or has ended. The next call starts it again.
            RuntimeError: The `Receiver` is closed.
        """
        message = self._next(timeout)
        if message is None:
            raise RuntimeError("the receiver is closed")
        return message

    def close(self) -> None:
        """Stop receiving. This does not acknowledge the last message. A loop over this receiver ends."""
        with self._lock:
            self._is_closed = True
            stop = self._stop
        if stop is not None:
            stop()

    def _next(self, timeout: float | None) -> Message | None:
        """Acknowledge the last message, and return the next one; None if the receiver is closed."""
        try:
            if self._current is not None and not self._is_closed:
                self._current.acknowledge()
            child = self._running()
            line = None if child is None else child.read_line(timeout)
            self._current = None if child is None or line is None else message_of(line, child.confirm)
        except IdlibError:
            self._abandon()
            if self._is_closed:
                # Another thread closed it meanwhile.
                return None
            raise
        return self._current

    def _running(self) -> Child | None:
        """Return the process, started if necessary; None if the receiver is closed."""
        with self._lock:
            if self._is_closed:
                return None
            if self._child is None:
                self._child = Child(self._environment)
                self._stop = weakref.finalize(self, self._child.stop)
            return self._child

    def _abandon(self) -> None:
        with self._lock:
            stop, self._stop, self._child, self._current = self._stop, None, None, None
        if stop is not None:
            stop()
