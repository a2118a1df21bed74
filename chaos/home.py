"""The user's own broker, to which the receiver under test passes messages on, and what can go wrong with it."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chaos.faults import System
from chaos.home_listener import HomeListener
from chaos.home_report import HomeReport
from chaos.home_speaker import HomeSpeaker
from chaos.proxy import Proxy
from chaos.reports import Promise
from chaos.striking import Fault
from testbed.daemons.mosquitto import Mosquitto
from testbed.programs import Device

PREFIX: Final = "messenger"
# As in a home. The broker needs less than the second one to save its few messages, see chaos/proxy.py.
_DELAYS_SECONDS: Final = (0.0, 0.1)
_SILENCE_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 20.0
# Each of these can make the bridge or the broker repeat what is in transit.
_REPEATING: Final = frozenset(
    {
        "receiver killed",
        "receiver stopped",
        "local broker killed",
        "local broker stopped",
        "local connections cut",
        "local connections stalled",
    }
)


class Home:
    """A local broker behind a proxy, and its clients: one that records everything, and one that sends by `out/`.

    Args:
        directory: An existing directory for the broker's files.
        extra: Further lines of the broker's configuration.
    """

    def __init__(self, directory: Path, extra: str) -> None:
        self._stack = contextlib.ExitStack()
        self._directory = directory
        self._extra = extra

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._broker = stack.enter_context(Mosquitto(self._directory, extra=self._extra))
            self._proxy = stack.enter_context(Proxy(self._broker.port, *_DELAYS_SECONDS))
            self.listener = HomeListener(self._broker, PREFIX)
            stack.callback(self.listener.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def bridged(self, device: Device) -> Device:
        """Return the device with this broker as its local one.

        Args:
            device: Its receiver is the bridge.
        """
        return device.with_settings(LOCAL_MQTT_URL=f"mqtt://{self._broker.host}:{self._proxy.port}")

    def speak(self, recipient: Device) -> None:
        """Start to send messages by `out/`; the bridge must have subscribed.

        Args:
            recipient: To whom.
        """
        self.speaker = HomeSpeaker(self._broker.host, self._proxy.port, f"{PREFIX}/out/{recipient.name}")
        self._stack.callback(self.speaker.close)

    def report(self, promises: frozenset[Promise], strikes: Mapping[str, int]) -> HomeReport:
        """Return what has arrived here, after waiting for what is in transit.

        Args:
            promises: What must have arrived.
            strikes: How often each fault was injected.
        """
        self.listener.wait_for_silence(_SILENCE_SECONDS, _PATIENCE_SECONDS)
        faults = sum(number for name, number in strikes.items() if name in _REPEATING)
        return HomeReport(promises, self.listener.arrivals, self.speaker.published, PREFIX, faults)

    def faults(self) -> Mapping[str, tuple[Fault[System], ...]]:
        """Return what can go wrong here, by the subject that it affects."""
        return {
            "local broker": (
                Fault("local broker killed", self._kill_broker, self._start_broker),
                Fault("local broker stopped", self._stop_broker, self._start_broker),
            ),
            "local connections": (
                Fault("local connections cut", self._cut_connections, _nothing),
                Fault("local connections stalled", self._hold_connections, self._release_connections),
            ),
        }

    def _kill_broker(self, _: System) -> None:
        self._broker.kill()
        self._proxy.lose()

    def _stop_broker(self, _: System) -> None:
        self._broker.stop()

    def _start_broker(self, _: System) -> None:
        self._broker.start()

    def _cut_connections(self, _: System) -> None:
        self._proxy.cut()

    def _hold_connections(self, _: System) -> None:
        self._proxy.hold()

    def _release_connections(self, _: System) -> None:
        self._proxy.release()


def _nothing(_: System) -> None:
    """End a fault that is over by itself."""
