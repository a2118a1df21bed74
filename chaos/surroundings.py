"""Faults of what every system under test has: its broker, its connections and its resolver."""

from typing import Protocol

from chaos.proxy import Proxy
from testbed.lab import Lab


class Surroundings(Protocol):
    """A system with daemons, whose connections to the broker go through a proxy."""

    @property
    def lab(self) -> Lab:
        """The daemons."""

    @property
    def proxy(self) -> Proxy:
        """What the connections go through."""


def stop_broker(system: Surroundings) -> None:
    """Stop the broker cleanly."""
    system.lab.mosquitto.stop()


def start_broker(system: Surroundings) -> None:
    """Start the broker."""
    system.lab.mosquitto.start()


def cut_connections(system: Surroundings) -> None:
    """End the connections to the broker."""
    system.proxy.cut()


def hold_connections(system: Surroundings) -> None:
    """Pass nothing on."""
    system.proxy.hold()


def release_connections(system: Surroundings) -> None:
    """Pass on what was held."""
    system.proxy.release()


def stop_resolver(system: Surroundings) -> None:
    """Stop the resolver."""
    system.lab.unbound.stop()


def start_resolver(system: Surroundings) -> None:
    """Start the resolver."""
    system.lab.unbound.start()


def nothing(_: Surroundings) -> None:
    """End a fault that is over by itself."""
