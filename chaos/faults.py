"""The faults that can be injected, each with a beginning and an end."""

import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from chaos.proxy import Proxy
from chaos.receiver import Receiver
from chaos.resident_senders import ResidentSenders
from chaos.senders import Senders
from chaos.striking import Fault
from chaos.surroundings import (
    cut_connections,
    hold_connections,
    nothing,
    release_connections,
    start_broker,
    start_resolver,
    stop_broker,
    stop_resolver,
)
from testbed.lab import Lab
from testbed.programs import Device


@dataclass(frozen=True, slots=True)
class System:
    """The system in which faults are injected.

    Args:
        lab: The daemons.
        proxy: The proxy in front of the broker.
        recipient: The recipient of all messages.
        receiver: The recipient's receiver.
        senders: All senders.
        resident_senders: The resident senders of the devices that queue messages.
        generator: Decides which senders a fault affects.
    """

    lab: Lab
    proxy: Proxy
    recipient: Device
    receiver: Receiver
    senders: Senders
    resident_senders: ResidentSenders
    generator: random.Random


def _kill_receiver(system: System) -> None:
    system.receiver.end(signal.SIGKILL)


def _stop_receiver(system: System) -> None:
    system.receiver.end(signal.SIGTERM)


def _start_receiver(system: System) -> None:
    system.receiver.start()


def _kill_resident_senders(system: System) -> None:
    system.resident_senders.end(signal.SIGKILL)


def _stop_resident_senders(system: System) -> None:
    system.resident_senders.end(signal.SIGTERM)


def _start_resident_senders(system: System) -> None:
    system.resident_senders.start()


def _kill_senders(system: System) -> None:
    system.senders.kill_some(system.generator)


def _kill_broker(system: System) -> None:
    system.lab.mosquitto.kill()
    system.proxy.lose()


def _slow_connections_down(system: System) -> None:
    system.proxy.slow_down()


def _speed_connections_up(system: System) -> None:
    system.proxy.speed_up()


RESOLVER: Final = "resolver"
# By the subject that they affect: two faults of one subject exclude each other.
FAULTS: Final[Mapping[str, tuple[Fault[System], ...]]] = MappingProxyType(
    {
        "receiver": (
            Fault("receiver killed", _kill_receiver, _start_receiver),
            Fault("receiver stopped", _stop_receiver, _start_receiver),
        ),
        "resident senders": (
            Fault("resident senders killed", _kill_resident_senders, _start_resident_senders),
            Fault("resident senders stopped", _stop_resident_senders, _start_resident_senders),
        ),
        "senders": (Fault("senders killed", _kill_senders, nothing),),
        "broker": (
            Fault("broker killed", _kill_broker, start_broker),
            Fault("broker stopped", stop_broker, start_broker),
        ),
        "connections": (
            Fault("connections cut", cut_connections, nothing),
            Fault("connections stalled", hold_connections, release_connections),
            Fault("connections slowed down", _slow_connections_down, _speed_connections_up),
        ),
        RESOLVER: (Fault("resolver stopped", stop_resolver, start_resolver),),
    }
)
