"""The phases of an attack, each a few seconds long, and their results."""

import contextlib
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chaos.delivery_report import DeliveryReport
from chaos.fault_injector import SAVE_OFTEN, FaultInjector
from chaos.faults import FAULTS, RESOLVER
from chaos.reports import Promise
from hostile.bounds import DELAY_SECONDS
from hostile.environment import AttackEnvironment
from hostile.evidence import Evidence, Measurement, balance_of
from hostile.tricks import BLOWS, CHEAP_NAMES, TRICKS, Blow, Trick, cheap_messages
from hostile.zones import STRANGERS
from testbed.paced_client import PacedClient, Publication

_KNOWN_RATE: Final = 60.0
_KNOWN_RATE_DURING_FAULTS: Final = 10.0
_FEW: Final = 100
_MORE: Final = 1000
# A burst that is handled sooner shows little about the rate.
_SHORT_SECONDS: Final = 0.15
_MAX_RATE: Final = 1500.0
_MAX_RATE_DURING_FAULTS: Final = 400.0
_PATIENCE_SECONDS: Final = 10.0
# Senders whose zone was silent are looked up once a minute.
_DELIVERY_SECONDS: Final = 90.0
# Other load on this machine can spoil one measurement, but not three.
_REPETITIONS: Final = 2
_REST_SECONDS: Final = 2.0
# Names of dead domains are looked up for as long as their messages wait.
_REST_SHARE: Final = 0.05
_NEW_NAMES_A_SECOND: Final = 500
_NEW_NAMES_SECONDS: Final = 10.0
# With DNS that far away, only the number of printed messages is checked, not the delay.
_NEW_NAMES_PATIENCE_SECONDS: Final = 400.0
# From this length on, every phase has its full size.
_WHOLE_SECONDS: Final = 600.0
_CHEAP_RATE: Final = 100.0
_MAX_OVERLOAD: Final = 16_000
_OVERLOAD: Final = 3.0
# In addition to forgeries in known names.
_OVERLOADS: Final = 2
_FORGED_KNOWN: Final = "bad signature, known names"
_RECEIPTS: Final = "genuine, receipts asked for"
_AHEAD_SECONDS: Final = 20 * 365 * 24 * 3600
# What may be published while faults are injected: the larger ones would be written to the broker's disk at each change.
_BLOWS_DURING_FAULTS: Final = BLOWS[:4]


class Attack:
    """Attacks a world for some time, phase by phase.

    Args:
        world: The world.
        seconds: How long, approximately, without the time for waiting.
        seed: Decides what happens.
        tricks: The kinds of junk.
    """

    def __init__(self, world: AttackEnvironment, seconds: float, seed: int, tricks: Sequence[Trick] = TRICKS) -> None:
        self.evidence = Evidence(DeliveryReport(frozenset(), ()), is_caged=not world.obstacle)
        self._world = world
        self._victim = world.victim
        self._known = world.known
        self._topic = world.recipient.name
        self._port = world.lab.mosquitto.port
        self._seconds = seconds
        self._seed = seed
        self._generator = random.Random(f"{seed} what")
        self._tricks = tricks
        self._capacities: dict[str, float] = {}
        self._cheap_texts: set[str] = set()
        self._started_at = time.monotonic()

    def run(self) -> Evidence:
        """Run all phases and return their results."""
        self._known.connect(self._port)
        self._expect_known("the beginning")
        share = min(1.0, self._seconds / _WHOLE_SECONDS)
        # Fewer of them in a short run, because DNS that far away takes long for each.
        self._send_new_names(_NEW_NAMES_SECONDS * share**1.5)
        for trick in self._tricks:
            self._measure(trick, max(0.6, 0.35 * self._seconds / len(self._tricks)))
        self._silence_cheap_names(max(1.0, 0.02 * self._seconds))
        self._overload(max(0.4, 0.01 * self._seconds))
        for blow in BLOWS:
            self._strike(blow)
        self._balance()
        self._known.disconnect(_PATIENCE_SECONDS)
        self._inject_faults(0.2 * self._seconds)
        self._confirm_wrong_clock()
        self.settle()
        return self.evidence

    def _say(self, text: str) -> None:
        memory, elapsed = self._victim.peak_memory / 1e6, time.monotonic() - self._started_at
        print(f"{elapsed:7.1f} s  {memory:5.1f} MB  {text}", file=sys.stderr, flush=True)

    def _expect_known(self, after: str) -> bool:
        """Let each known sender send a message, which must be printed."""
        texts = self._known.send(len(self._world.strangers.known_names))
        is_printed = self._victim.wait_until_printed(texts, _PATIENCE_SECONDS)
        if not is_printed:
            self.evidence.stuck.append(after)
        return is_printed

    @contextlib.contextmanager
    def _known_flow(self, rate: float) -> Iterator[Callable[[], tuple[float, ...]]]:
        """Let known senders send meanwhile, and yield a function that returns their messages' delays afterwards."""
        before = set(self._known.acknowledged_at)
        self._known.rate = rate

        def delays() -> tuple[float, ...]:
            self._known.wait_until_acknowledged(_PATIENCE_SECONDS)
            texts = [text for text in self._known.acknowledged_at.copy() if text not in before]
            self._victim.wait_until_printed(texts, _PATIENCE_SECONDS)
            acknowledged, printed = self._known.acknowledged_at, self._victim.printed_at
            return tuple(max(0.0, printed.get(text, math.inf) - acknowledged[text]) for text in texts)

        try:
            yield delays
        finally:
            self._known.rate = 0.0

    def _publish(self, publications: Sequence[Publication], rate: float | None = None) -> None:
        with PacedClient(self._port) as client:
            client.publish_all(self._topic, publications, rate)

    def _write(self, trick: Trick, number: int) -> Sequence[Publication]:
        return trick.write(self._world.strangers, number)

    def _send_new_names(self, seconds: float) -> None:
        strangers, number = self._world.strangers, int(_NEW_NAMES_A_SECOND * seconds)
        publications = [
            Publication(strangers.genuine(f"{strangers.new_label()}.{STRANGERS}", f"new name {index}"))
            for index in range(number)
        ]
        with self._known_flow(_KNOWN_RATE) as delays:
            self._publish(publications, _NEW_NAMES_A_SECOND)
        delays()
        texts = [f"new name {index}" for index in range(number)]
        begun_at = time.monotonic()
        self._victim.wait_until_printed(texts, _NEW_NAMES_PATIENCE_SECONDS)
        printed = sum(text in self._victim.printed_at for text in texts)
        waited = time.monotonic() - begun_at
        self.evidence.new_names = number, printed
        self._say(f"{number} new names of one zone: {printed} printed, the last after {waited:.1f} s")

    def _capacity(self, trick: Trick) -> float | None:
        """Return how many messages a second the receiver handles, measured with a queued burst."""
        rate = self._burst_rate(trick, _FEW)
        if rate is None or _FEW / rate >= _SHORT_SECONDS:
            return rate
        return self._burst_rate(trick, min(_MORE, int(rate * 2 * _SHORT_SECONDS))) or rate

    def _burst_rate(self, trick: Trick, number: int) -> float | None:
        publications = self._write(trick, number)
        self._victim.send_signal(signal.SIGSTOP)
        try:
            self._publish(publications)
            texts = self._known.send(len(self._world.strangers.known_names))
            self._known.wait_until_acknowledged(_PATIENCE_SECONDS)
        finally:
            begun_at = time.monotonic()
            self._victim.send_signal(signal.SIGCONT)
        ended_at = self._victim.wait_for_first(texts, _PATIENCE_SECONDS)
        return None if ended_at is None or not publications else len(publications) / max(ended_at - begun_at, 0.001)

    def _measure(self, trick: Trick, seconds: float) -> None:
        capacity = self._capacity(trick)
        if capacity is None:
            self.evidence.stuck.append(f"{_FEW} x {trick.name}")
            self._say(f"{trick.name}: not all handled")
            return
        self._capacities[trick.name] = capacity
        rate = min(capacity / 2, _MAX_RATE)
        if trick.name == _RECEIPTS:
            self._known.asking.set()
        measured = self._delays(trick, capacity, rate, seconds)
        for _ in range(_REPETITIONS):
            if measured.high >= DELAY_SECONDS:
                measured = min(measured, self._delays(trick, capacity, rate, seconds), key=_high)
        self._known.asking.clear()
        self.evidence.measurements.append(measured)
        self._say(
            f"{trick.name}: {capacity:.0f}/s handled; at {rate:.0f}/s {len(measured.delays)} known,"
            f" p50 {measured.median:.3f} s, p99 {measured.high:.3f} s"
        )

    def _delays(self, trick: Trick, capacity: float, rate: float, seconds: float) -> Measurement:
        publications = self._write(trick, max(1, int(rate * seconds)))
        with self._known_flow(_KNOWN_RATE) as delays:
            self._publish(publications, rate)
        return Measurement(trick.name, capacity, rate, delays())

    def _silence_cheap_names(self, seconds: float) -> None:
        """Silence a zone whose names are proven while they send: they compete only with each other."""
        number = max(1, int(seconds * _CHEAP_RATE / len(CHEAP_NAMES)))
        messages = cheap_messages(self._world.strangers, number)
        self._world.cheap_zone.fall_silent()
        try:
            with self._known_flow(_KNOWN_RATE) as delays:
                self._publish(tuple(messages.values()), _CHEAP_RATE)
                self._cheap_texts |= messages.keys()
            measured = Measurement("proven names of a silent zone", None, _CHEAP_RATE, delays())
        finally:
            self._world.cheap_zone.speak()
        self.evidence.measurements.append(measured)
        self._say(f"{measured.name}: p50 {measured.median:.3f} s, p99 {measured.high:.3f} s")

    def _overload(self, seconds: float) -> None:
        """Publish more than the receiver can handle: delays grow, and no message of known senders is lost."""
        others = [trick for trick in self._tricks if trick.name in self._capacities and trick.name != _FORGED_KNOWN]
        drawn = self._generator.sample(others, min(_OVERLOADS, len(others)))
        for trick in (*(trick for trick in self._tricks if trick.name == _FORGED_KNOWN), *drawn):
            capacity = self._capacities.get(trick.name, float(_FEW))
            number = min(_MAX_OVERLOAD, int(_OVERLOAD * capacity * seconds))
            publications = self._write(trick, number)
            begun_at = time.monotonic()
            with self._known_flow(_KNOWN_RATE / 3) as delays:
                self._publish(publications)
                time.sleep(max(0.0, begun_at + seconds - time.monotonic()))
            measured = delays()
            self._say(
                f"{number} x {trick.name} at once: {len(measured)} known, at most {max(measured, default=0):.3f} s"
            )
            self._expect_known(f"{number} x {trick.name} at once")

    def _strike(self, blow: Blow) -> None:
        with contextlib.suppress(OSError):
            self._publish([blow.publication()])
        if self._expect_known(blow.name):
            self._say(f"{blow.name}: survived")
        else:
            self._say(f"{blow.name}: known senders' messages are not printed any more")

    def _balance(self) -> None:
        """End the receiver's run cleanly, and check what it has counted."""
        self._wait_for_rest(_PATIENCE_SECONDS)
        runs = len(self._victim.runs)
        self._end_undecided()
        self.evidence.balances.append(balance_of(self._victim.counted, 0))
        self._victim.start()
        self._say(f"counted by run {runs}: {self.evidence.balances[-1]}")

    def _end_undecided(self) -> None:
        """End the receiver while DNS is out: no waiting message is decided meanwhile, so that all can be counted."""
        self._world.lab.unbound.stop()
        time.sleep(_REST_SECONDS)
        self._victim.end(signal.SIGTERM)
        self._world.lab.unbound.start()

    def _wait_for_rest(self, patience: float) -> float:
        """Wait until the receiver uses almost no processor time, and return its last share of a processor."""
        deadline = time.monotonic() + patience
        share = 1.0
        while share > _REST_SHARE and time.monotonic() < deadline:
            process_id, before = self._victim.process_id, self._victim.cpu_seconds()
            time.sleep(_REST_SECONDS)
            if process_id == self._victim.process_id:
                share = (self._victim.cpu_seconds() - before) / _REST_SECONDS
        return share

    def _inject_faults(self, seconds: float) -> None:
        """Kill receiver and broker and stop DNS while strangers publish all kinds of junk, at moderate rates."""
        mosquitto = self._world.lab.mosquitto
        mosquitto.stop()
        mosquitto.configure(SAVE_OFTEN)
        mosquitto.start()
        self._known.connect(self._world.proxy.port)
        injector = FaultInjector(
            self._world.system, self._generator, {name: FAULTS[name] for name in ("receiver", "broker", RESOLVER)}
        )
        stopping = threading.Event()
        strangers = threading.Thread(target=self._pester, args=(stopping,), daemon=True)
        strangers.start()
        self._known.rate = _KNOWN_RATE_DURING_FAULTS
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                injector.strike()
        finally:
            self._known.rate = 0.0
            stopping.set()
            strangers.join()
        self._say(", ".join(f"{number} x {name}" for name, number in sorted(injector.events.items())))

    def _pester(self, stopping: threading.Event) -> None:
        generator = random.Random(f"{self._seed} pester")
        while not stopping.wait(0.2):
            trick = generator.choice(self._tricks)
            rate = min(
                _MAX_RATE_DURING_FAULTS, generator.uniform(0.3, 1.5) * self._capacities.get(trick.name, float(_FEW))
            )
            publications = list(self._write(trick, int(rate)))
            if generator.random() < 1 / 6:
                publications.append(generator.choice(_BLOWS_DURING_FAULTS).publication())
            # The broker may be stopped; strangers ignore that.
            with contextlib.suppress(OSError):
                self._publish(publications, rate)

    def _confirm_wrong_clock(self) -> None:
        """Set the clock ahead by years for a moment, while strangers send messages that are valid at that time."""
        strangers = self._world.strangers
        self._world.clock.shift(_AHEAD_SECONDS)
        try:
            time.sleep(0.2)
            ahead = int(time.time()) + _AHEAD_SECONDS
            names = [f"clock{number}.{STRANGERS}" for number in range(3)]
            self._publish([Publication(strangers.genuine(name, iat=ahead)) for name in names for _ in range(5)])
            time.sleep(1.5)
        finally:
            self._world.clock.shift(0)
        self._expect_known("strangers' messages of a wrong clock's time")

    def settle(self) -> None:
        """Wait for the messages in transit, and complete the evidence."""
        victim, known, evidence = self._victim, self._known, self.evidence
        known.disconnect(2 * _PATIENCE_SECONDS)
        self._wait_for_rest(_PATIENCE_SECONDS)
        self._end_undecided()
        before = victim.counted["waiting"]
        # After a restart it looks up the senders of waiting messages at once.
        victim.start()
        cheap = frozenset(Promise(text, "a cheap name", "acknowledged") for text in self._cheap_texts)
        promises = known.promises | cheap
        victim.wait_until_printed([promise.text for promise in promises], _DELIVERY_SECONDS)
        evidence.idle_share = self._wait_for_rest(2 * _PATIENCE_SECONDS)
        self._end_undecided()
        evidence.balances.append(balance_of(victim.counted, before))
        evidence.delivery = DeliveryReport(promises, victim.runs)
        evidence.receipts = known.asked, known.confirmed
        evidence.unexpected_ends = list(victim.unexpected_ends)
        evidence.memory_kills = self._world.cage.kills if self._world.cage else 0
        evidence.peak_memory, evidence.peak_disk = victim.peak_memory, victim.peak_disk
        evidence.peak_log_rate = victim.peak_log_rate


def _high(measurement: Measurement) -> float:
    return measurement.high
