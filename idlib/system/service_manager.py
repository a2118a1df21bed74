"""Tells the service manager, systemd, that this process is ready, how it is, and that it still works.

It imports very little, because resident services stay in memory as long as the device runs.
Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Final

_MAX_ADDRESS_BYTES: Final = 107
_MAX_STATUS_CHARACTERS: Final = 200
# A fraction of the time after which systemd ends a service that says nothing, so that one datagram may come late.
_BEATS: Final = 3
_SENDING_SECONDS: Final = 0.5
_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """The service manager that has started this process; without one, every call does nothing.

    Args:
        address: The path of its socket; a name that begins with @ is in the abstract namespace. None if there is none.
        watchdog_seconds: How long this process may be silent before it is ended; None for any time.
        now: Returns a time in seconds that never goes back.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_seconds: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._pause = None if watchdog_seconds is None else watchdog_seconds / _BEATS
        self._now = now
        self._next_beat = now()
        self._status = ""
        self._is_ready = False

    @property
    def is_there(self) -> bool:
        """Whether there is a service manager to tell anything."""
        return self._address is not None

    @property
    def pause(self) -> float | None:
        """After how many seconds `beat` is to be called again; None if it need not be."""
        return self._pause

    def ready(self) -> None:
        """Say that the service has started; once that has succeeded, further calls do nothing."""
        self._is_ready = self._is_ready or self._send("READY=1")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """Give the line that `systemctl status` shows, if it is another one than before.

        Args:
            line: A few words; whatever is not printable ASCII is replaced.
        """
        shown = "".join(one if one.isascii() and one.isprintable() else "?" for one in line)[:_MAX_STATUS_CHARACTERS]
        if shown != self._status and self._send(f"STATUS={shown}"):
            self._status = shown

    def beat(self) -> None:
        """Say that the service works, if it is time to: not calling this has the service killed and started again."""
        if self._pause is not None and self._now() >= self._next_beat:
            self._next_beat = self._now() + self._pause
            self._send("WATCHDOG=1")

    def wait(self, signals: Collection[signal.Signals], seconds: float) -> signal.struct_siginfo | None:
        """Wait for blocked signals, and say meanwhile that the service works; return the one that has come, or None.

        Args:
            signals: The signals.
            seconds: How long to wait at most.
        """
        deadline = self._now() + seconds
        while True:
            self.beat()
            left = max(0.0, deadline - self._now())
            arrived = signal.sigtimedwait(signals, left if self._pause is None else min(left, self._pause))
            if arrived is not None or self._now() >= deadline:
                return arrived

    def _send(self, state: str) -> bool:
        """Send a datagram, and return whether it was sent."""
        if self._address is None:
            return True
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.settimeout(_SENDING_SECONDS)
                connection.sendto(state.encode("ascii"), address)
        except OSError:
            # The service works without a service manager, which may have gone, or be restarting.
            return False
        return True


def take_service_manager(environment: MutableMapping[str, str]) -> ServiceManager:
    """Return the service manager that the environment names, and remove it there.

    Without the variables, nothing that this process starts can speak in its name.

    Args:
        environment: Usually `os.environ`.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", str(os.getpid()))
    if not address.startswith(("/", "@")) or not 1 < len(os.fsencode(address)) <= _MAX_ADDRESS_BYTES:
        return ServiceManager()
    is_watched = microseconds.isdecimal() and len(microseconds) <= len(str(2**63)) and int(microseconds) > 0
    is_meant = process == str(os.getpid())
    return ServiceManager(address, int(microseconds) / _MICROSECONDS if is_watched and is_meant else None)
