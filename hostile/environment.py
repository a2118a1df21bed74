"""The world of the attack: daemons at realistic distances, known senders, strangers, and the receiver in its cage."""

import contextlib
import random
import signal
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from chaos.distance import Distance
from chaos.faults import System
from chaos.proxy import Proxy
from chaos.resident_senders import ResidentSenders
from chaos.senders import Senders
from hostile.cage import Cage, CageError
from hostile.known import KnownSenders
from hostile.tricks import CHEAP_NAMES, cheap_messages
from hostile.victim import Victim
from hostile.zones import CHEAP, DEAD, SECOND, zones
from idlib.algorithms import PrivateKey
from idlib.keys import read_private_key
from idlib.storage.replay import FILE_NAME
from idlib.timekeeping import COMMAND_FILE_NAME, leave_command
from testbed.daemons.knot import Knot
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import BOGUS, SECURE, Lab, another_key, wait_until
from testbed.paced_client import PacedClient
from testbed.programs import Device
from testbed.shifted_clock import ShiftedClock
from testbed.strangers import Strangers

DNS_SECONDS: Final = 0.15
_LISTED: Final = 4
_PROVEN_IN: Final = (SECURE, SECURE, SECOND, SECOND)
# Half of the records expire while the attack lasts, so that known senders are looked up while strangers are.
_TTLS: Final = (10, 3600)
# A proven name has had three messages printed, the first more than an hour ago.
_PROVING_MESSAGES: Final = 3
_LONG_AGO_SECONDS: Final = 2 * 3600
_PROVING_PATIENCE_SECONDS: Final = 60.0
# A real resolver caches that a name is absent for as long as the zone allows.
_UNBOUND: Final = "server:\n    cache-max-negative-ttl: 3600\n    log-queries: no\n"


@dataclass(frozen=True, slots=True)
class AttackEnvironment:
    """Everything that takes part.

    Args:
        lab: The daemons.
        proxy: The proxy in front of the broker, for known senders while the broker is killed.
        victim: The receiver.
        recipient: Its device.
        known: The known senders.
        strangers: The attackers.
        cheap_zone: In front of the name server of a zone whose names are proven and cost nothing.
        clock: The receiver's clock.
        system: The same, in the form for the faults of `make chaos`.
        obstacle: Why the receiver is not under its container's limits; empty if it is.
        cage: The limits; None if there are none.
    """

    lab: Lab
    proxy: Proxy
    victim: Victim
    recipient: Device
    known: KnownSenders
    strangers: Strangers
    cheap_zone: Distance
    clock: ShiftedClock
    system: System
    obstacle: str
    cage: Cage | None


@contextlib.contextmanager
def open_world(seed: int) -> Iterator[AttackEnvironment]:
    """Yield the world with a receiver that runs and knows its senders; everything is removed afterwards.

    Args:
        seed: Decides what happens.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
        lab, cheap_zone = _open_daemons(stack, directory, key)
        proxy = stack.enter_context(Proxy(lab.mosquitto.port))
        cage, obstacle = _open_cage(stack)
        (directory / "clock").mkdir()
        clock = ShiftedClock(directory / "clock")
        listed = [lab.published_device("listed", ttl=_TTLS[number % 2]) for number in range(_LISTED)]
        proven = [lab.published_device("proven", zone, _TTLS[n % 2]) for n, zone in enumerate(_PROVEN_IN)]
        allowed = ",".join([*(device.name for device in listed), "*"])
        # As in a container with the limit of the cage, also if there is no cage.
        settings = {"ALLOWED_SENDERS": allowed, "RECEIVER_WORKERS": "0"}
        recipient = lab.published_device("recipient", ttl=3600, settings=settings)
        recipient = replace(recipient.with_settings(**clock.settings), entrance=cage.entrance if cage else ())
        recipient_key = read_private_key(recipient.key_path).public
        everybody = listed + proven
        names = [device.name for device in everybody]
        strangers = Strangers(recipient.name, recipient_key, key, names, random.Random(f"{seed} strangers"))

        def known(devices: list[Device], label: str, ago: float = 0.0) -> KnownSenders:
            senders = KnownSenders(
                devices, recipient.name, recipient_key, strangers.overheard, label, lambda: time.time() - ago
            )
            stack.callback(senders.close)
            return senders

        clock.shift(-_LONG_AGO_SECONDS)
        victim = Victim(recipient)
        stack.callback(victim.close)
        _print(lab, victim, known(proven, "long ago", _LONG_AGO_SECONDS), strangers, _PROVING_MESSAGES)
        victim.end(signal.SIGTERM)
        clock.shift(0)
        # The boot clock shows that two hours have not passed; the operator's command overrides that.
        leave_command(Path(recipient.settings["DATA_PATH"]))
        victim.start()
        command = Path(recipient.settings["DATA_PATH"]) / COMMAND_FILE_NAME
        wait_until(lambda: not command.exists(), "the clock is trusted by command")
        _print(lab, victim, known(proven, "proof"), strangers, 1)
        victim.end(signal.SIGTERM)
        _assert_proven(recipient, {device.name for device in proven} | set(CHEAP_NAMES))
        victim.start()
        generator = random.Random(f"{seed} whom")
        senders, resident_senders = Senders([]), ResidentSenders([])
        stack.callback(senders.close)
        yield AttackEnvironment(
            lab,
            proxy,
            victim,
            recipient,
            known(everybody, "known"),
            strangers,
            cheap_zone,
            clock,
            System(lab, proxy, recipient, victim, senders, resident_senders, generator),
            obstacle,
            cage,
        )


def _open_daemons(stack: contextlib.ExitStack, directory: Path, key: PrivateKey) -> tuple[Lab, Distance]:
    places = {name: directory / name for name in ("knot", "unbound", "mosquitto", "devices")}
    for place in places.values():
        place.mkdir()
    knot = stack.enter_context(Knot(places["knot"], zones(key.public)))
    far = stack.enter_context(Distance(knot.port, free_port(), lambda: DNS_SECONDS))
    cheap_zone = stack.enter_context(Distance(knot.port, free_port(), lambda: DNS_SECONDS))
    dead = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    dead.bind((LOOPBACK, 0))
    authorities = {zone.name: far.port for zone in knot.zones} | {
        CHEAP: cheap_zone.port,
        DEAD: int(dead.getsockname()[1]),
    }
    anchors = [another_key(knot.ds(BOGUS)), *(knot.ds(zone.name) for zone in knot.zones if zone.name != BOGUS)]
    unbound = Unbound(places["unbound"], authorities, anchors)
    with (places["unbound"] / "unbound.conf").open("a") as configuration:
        configuration.write(_UNBOUND)
    stack.enter_context(unbound)
    mosquitto = stack.enter_context(Mosquitto(places["mosquitto"]))
    return Lab(places["devices"], mosquitto, knot, unbound), cheap_zone


def _open_cage(stack: contextlib.ExitStack) -> tuple[Cage | None, str]:
    try:
        return stack.enter_context(Cage()), ""
    except CageError as error:
        return None, str(error)


def _print(lab: Lab, victim: Victim, senders: KnownSenders, strangers: Strangers, number: int) -> None:
    """Let the receiver print this many messages of each name that must be proven."""
    senders.connect(lab.mosquitto.port)
    texts = senders.send(number * len(_PROVEN_IN))
    cheap = cheap_messages(strangers, number, iat=int(senders.now()))
    with PacedClient(lab.mosquitto.port) as client:
        client.publish_all(strangers.recipient, tuple(cheap.values()))
    for proofs in (texts, tuple(cheap)):
        assert victim.wait_until_printed(proofs, _PROVING_PATIENCE_SECONDS), "what proves names is not printed"
    senders.disconnect(1.0)


def _assert_proven(recipient: Device, names: set[str]) -> None:
    path = Path(recipient.settings["DATA_PATH"]) / FILE_NAME
    with contextlib.closing(sqlite3.connect(path)) as connection:
        proven = {name for (name,) in connection.execute("SELECT name FROM sender WHERE proven_at IS NOT NULL")}
    assert proven == names, f"proven: {sorted(proven)}"
