"""The system, and the faults that are injected in an order that a seed decides."""

import contextlib
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from chaos.delivery_report import DeliveryReport
from chaos.distance import Distance
from chaos.faults import FAULTS, RESOLVER, System
from chaos.home import Home
from chaos.home_report import HomeReport
from chaos.kinds import KINDS, Kind
from chaos.line_sender import LineSender
from chaos.message_sender import MessageSender
from chaos.proxy import Proxy
from chaos.receiver import Receiver
from chaos.replayer import Replayer
from chaos.reports import Promise
from chaos.resident_senders import ResidentSenders
from chaos.senders import Senders
from chaos.stranger import Stranger
from chaos.striking import Fault, Strikes
from testbed.daemons.process import free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, authorities, open_lab, trusted_keys
from testbed.programs import Device

_TTL_SECONDS: Final = 3600
# The delay of an answer from the name server.
_DNS_SECONDS: Final = (0.05, 0.15)
_DELIVERY_SECONDS: Final = 60.0
_CALM_SECONDS: Final = 90.0
# Mosquitto saves when it ends, and each half hour. With these it saves after each change, but acknowledges before that:
# the proxy loses acknowledgements of what a killed broker had no time to save.
SAVE_OFTEN: Final = "autosave_on_changes true\nautosave_interval 1\n"


class FaultInjector:
    """Injects faults into a system.

    Args:
        system: The system.
        generator: Decides what happens.
        faults: The possible faults, by the subject that they affect.
    """

    def __init__(
        self, system: System, generator: random.Random, faults: Mapping[str, tuple[Fault[System], ...]] = FAULTS
    ) -> None:
        self._system = system
        self._strikes = Strikes(system, generator, faults, rare=RESOLVER)

    @property
    def events(self) -> Counter[str]:
        """What happened, and how often."""
        parts = (self._system.receiver, self._system.resident_senders, self._system.senders)
        return sum((part.events for part in parts), self._strikes.events)

    @property
    def refusals(self) -> Counter[str]:
        """How many messages the receiver refused, by reason."""
        return self._system.receiver.refusals

    def strike(self) -> None:
        """Inject one fault, or several in turn and overlapping, or all at once, and correct them."""
        self._system.senders.check()
        self._strikes.strike()

    def settle(self, home: Home) -> tuple[DeliveryReport, HomeReport]:
        """Send nothing more, wait for the messages in transit, and return the reports.

        Args:
            home: The local broker of the receiver.
        """
        system = self._system
        home.speaker.close()
        system.senders.finish()
        system.resident_senders.wait_until_nothing_waits(_DELIVERY_SECONDS)
        promises = system.senders.promises | home.speaker.promises | system.resident_senders.send_last(system.recipient)
        # After a restart it looks up the senders of waiting messages at once.
        system.receiver.end(signal.SIGTERM)
        system.receiver.start()
        deadline = time.monotonic() + _CALM_SECONDS
        while time.monotonic() < deadline and self._report(promises, home).lost:
            time.sleep(0.5)
        # What is queued by `out/` from now on would show a loop.
        system.resident_senders.wait_until_nothing_waits(_DELIVERY_SECONDS)
        system.receiver.end(signal.SIGTERM)
        return self._report(promises, home), home.report(promises, self._strikes.events)

    def _report(self, promises: frozenset[Promise], home: Home) -> DeliveryReport:
        return DeliveryReport(promises, self._system.receiver.runs, home.speaker.published)


@contextlib.contextmanager
def open_fault_injector(seed: int) -> Iterator[tuple[FaultInjector, Replayer, Home]]:
    """Yield a fault injector, an eavesdropper and the local broker; everything is removed afterwards.

    Args:
        seed: Decides what happens.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        lab = _far_from_dns(stack, stack.enter_context(open_lab(directory)), directory, seed)
        lab.mosquitto.stop()
        lab.mosquitto.configure(SAVE_OFTEN)
        lab.mosquitto.start()
        proxy = stack.enter_context(Proxy(lab.mosquitto.port))
        home_directory = directory / "home"
        home_directory.mkdir()
        home = stack.enter_context(Home(home_directory, SAVE_OFTEN))
        recipient = home.bridged(_published(lab, proxy, "recipient"))
        devices = {kind: [_published(lab, proxy, "sender") for _ in range(kind.devices)] for kind in KINDS}
        receiver = Receiver(recipient)
        stack.callback(receiver.close)
        with_outbox = [device for kind in KINDS if kind.has_outbox for device in devices[kind]]
        resident_senders = ResidentSenders([*with_outbox, recipient])
        stack.callback(resident_senders.close)
        senders = Senders([_sender(kind, device, recipient, seed) for kind in KINDS for device in devices[kind]])
        stack.callback(senders.close)
        system = System(lab, proxy, recipient, receiver, senders, resident_senders, random.Random(f"{seed} whom"))
        names = [device.name for kind in KINDS for device in devices[kind]]
        stranger = Stranger(lab.mosquitto.port, recipient, names, random.Random(f"{seed} stranger"))
        stack.callback(stranger.close)
        home.speak(recipient)
        injector = FaultInjector(system, random.Random(f"{seed} what"), {**FAULTS, **home.faults()})
        yield injector, Replayer(lab.mosquitto, recipient, random.Random(f"{seed} replay")), home


def _far_from_dns(stack: contextlib.ExitStack, lab: Lab, directory: Path, seed: int) -> Lab:
    """Return the lab with a resolver that gets answers of the name server with the delay of the Internet."""
    generator = random.Random(f"{seed} distance")
    relay = Distance(lab.knot.port, free_port(), lambda: generator.uniform(*_DNS_SECONDS))
    stack.enter_context(relay)
    place = directory / "far-unbound"
    place.mkdir()
    unbound = Unbound(place, dict.fromkeys(authorities(lab.knot), relay.port), trusted_keys(lab.knot))
    return replace(lab, unbound=stack.enter_context(unbound))


def _published(lab: Lab, proxy: Proxy, label: str) -> Device:
    return lab.published_device(label, ttl=_TTL_SECONDS).with_settings(MQTT_PORT=str(proxy.port))


def _sender(kind: Kind, device: Device, recipient: Device, seed: int) -> LineSender | MessageSender:
    label, _, _ = device.name.partition(".")
    generator = random.Random(f"{seed} {label}")
    sender = LineSender if kind.sends_lines else MessageSender
    return sender(kind, device, recipient, label, generator)
