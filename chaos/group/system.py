"""The system with several receivers of one name, and what can go wrong with it."""

import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from chaos.group.publisher import Publisher
from chaos.group.receivers import Receivers
from chaos.proxy import Proxy
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
from testbed.daemons.postgresql import Postgresql
from testbed.lab import Lab

RECEIVERS: Final = 4
DATABASE: Final = "database"
# Longer than the lease of a receiver, 15 s.
_LONG_SECONDS: Final = 16.0
_SAVE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class GroupSystem:
    """The system in which faults are injected.

    Args:
        lab: The broker and the resolver.
        postgresql: The server of the database.
        proxy: The proxy between receivers and broker.
        receivers: The receivers.
        publisher: Publishes the messages.
        generator: Decides which receivers a fault affects.
        broker_kills: When the broker was killed, in seconds since the epoch.
    """

    lab: Lab
    postgresql: Postgresql
    proxy: Proxy
    receivers: Receivers
    publisher: Publisher
    generator: random.Random
    broker_kills: list[float] = field(default_factory=list)


def _kill_receivers(system: GroupSystem) -> None:
    system.receivers.kill_some(system.generator)


def _halt_receiver(system: GroupSystem) -> None:
    system.receivers.halt_one(system.generator)


def _let_receiver_go_on(system: GroupSystem) -> None:
    time.sleep(_LONG_SECONDS)
    system.receivers.go_on()


def _scale_in(system: GroupSystem) -> None:
    system.receivers.ask_to_leave(staying=1)


def _scale_out(system: GroupSystem) -> None:
    system.receivers.fill(RECEIVERS)


def _kill_database(system: GroupSystem) -> None:
    system.receivers.begin_outage()
    system.postgresql.kill()


def _start_database(system: GroupSystem) -> None:
    system.receivers.end_outage()
    system.postgresql.start()


def _start_database_late(system: GroupSystem) -> None:
    time.sleep(_LONG_SECONDS)
    _start_database(system)


def _kill_broker(system: GroupSystem) -> None:
    """Kill the broker just after it has written its state to the disk: by itself, Mosquitto rarely does."""
    mosquitto, written = system.lab.mosquitto, system.lab.mosquitto.last_written()
    saved_at = time.monotonic()
    mosquitto.send_signal(signal.SIGUSR1)
    while mosquitto.last_written() == written and time.monotonic() < saved_at + _SAVE_SECONDS:
        time.sleep(_POLL_SECONDS)
    mosquitto.kill()
    system.broker_kills.append(time.time())
    system.publisher.publish_again_since(saved_at)


RESOLVER: Final = "resolver"
_RECEIVERS_KILLED: Final = Fault("some receivers killed", _kill_receivers, _scale_out)
_DATABASE_KILLED: Final = Fault("database killed", _kill_database, _start_database)
HALTED: Final = Fault("a receiver halted for longer than its lease", _halt_receiver, _let_receiver_go_on)
# By the subject that they affect: two faults of one subject exclude each other.
GROUP_FAULTS: Final[Mapping[str, tuple[Fault[GroupSystem], ...]]] = MappingProxyType(
    {
        # Twice, because the other one takes so long.
        "receivers": (_RECEIVERS_KILLED, _RECEIVERS_KILLED, HALTED),
        "scale": (Fault("scaled to 1 and back", _scale_in, _scale_out),),
        DATABASE: (
            _DATABASE_KILLED,
            _DATABASE_KILLED,
            Fault("database killed for longer than a lease", _kill_database, _start_database_late),
        ),
        "broker": (
            Fault("broker killed", _kill_broker, start_broker),
            Fault("broker stopped", stop_broker, start_broker),
        ),
        "connections": (
            Fault("connections cut", cut_connections, nothing),
            Fault("connections stalled", hold_connections, release_connections),
        ),
        RESOLVER: (Fault("resolver stopped", stop_resolver, start_resolver),),
    }
)
