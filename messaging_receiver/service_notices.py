"""What the receiver tells the service manager: that it has started, its health, and that its threads move."""

import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.system.service_manager import ServiceManager

# A broker, DNS or an own record that is missing must not keep the start of the system waiting, and a repair of a large
# file must not end in a restart: the receiver counts as started then.
READY_SECONDS: Final = 10.0
_STATUS_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.5
_STARTING: Final = "starting"


class Notices:
    """Tells the service manager how the receiver is; if there is none, it does nothing, and starts no thread.

    Until `beat` is called for the first time, a thread says that the process works: opening and repairing files takes
    its time. From then on, only `beat` says so.

    Args:
        manager: The service manager.
        stopping: Set when the receiver stops.
    """

    def __init__(self, manager: ServiceManager, stopping: threading.Event) -> None:
        self.health: Callable[[], str] = lambda: _STARTING
        self._manager = manager
        self._stopping = stopping
        self._is_supervised = False
        self._ready_at = time.monotonic() + READY_SECONDS
        if manager.is_there:
            threading.Thread(target=self._tell, name="Service-Manager", daemon=True).start()

    def beat(self, *, is_moving: bool, is_subscribed: bool) -> None:
        """Say that the receiver works, unless a restart would help; call this about once a second.

        Args:
            is_moving: Whether every thread moves.
            is_subscribed: Whether messages arrive; the receiver has started then, or after 10 s at the latest.
        """
        self._is_supervised = True
        if is_moving:
            self._manager.beat()
        if is_subscribed or time.monotonic() >= self._ready_at:
            self._manager.ready()

    def _tell(self) -> None:
        next_status = time.monotonic()
        while not self._stopping.wait(_POLL_SECONDS):
            if not self._is_supervised:
                self._manager.beat()
                if time.monotonic() >= self._ready_at:
                    self._manager.ready()
            if time.monotonic() >= next_status:
                next_status = time.monotonic() + _STATUS_SECONDS
                # May wait for DNS, which is why no other thread asks.
                self._manager.status(self.health())
        self._manager.stopping()
