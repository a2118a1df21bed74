"""The system under fire: its parts, and the faults that strike them in an order that a seed decides."""

import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chaos.books import Books, Life, texts_of
from chaos.proxy import Proxy
from tests.integration.daemons.mosquitto import Mosquitto
from tests.integration.lab import Lab, open_lab
from tests.integration.messages import BrokerClient
from tests.integration.programs import RECEIVER, Device, Program

_SENDER: Final = Path(__file__).with_name("sender.py")
_SENDERS: Final = 3
_IDENTITIES: Final = 4
# Of one name at most 16 messages wait for DNS: slow enough for the longest absence and outage together.
_SECONDS_A_MESSAGE: Final = 0.4
_RESOLVER_PAUSE_SECONDS: Final = 25.0
_TTL_SECONDS: Final = 3600
_CALM_SECONDS: Final = 90.0
# Mosquitto saves when it ends, and each half hour. With these it saves after each change, but acknowledges before that.
_SAVE_OFTEN: Final = "autosave_on_changes true\nautosave_interval 1\n"


class Storm:
    """A receiver and senders behind a proxy, and what strikes them.

    Args:
        lab: The daemons.
        proxy: In front of the broker.
        generator: Decides what happens.
        broker_signal: How the broker is ended.
    """

    def __init__(self, lab: Lab, proxy: Proxy, generator: random.Random, broker_signal: signal.Signals) -> None:
        self._lab = lab
        self._proxy = proxy
        self._generator = generator
        self._broker_signal = broker_signal
        self._started_at = time.monotonic()
        self._resolver_rests_until = 0.0
        self.recipient = self._published("recipient")
        self._identities = [[self._published("sender") for _ in range(_IDENTITIES)] for _ in range(_SENDERS)]
        self._lives: list[Life] = []
        self._acknowledged: set[str] = set()
        self._senders: list[Program] = []
        self._sender_lives = 0
        self._receiver = self.recipient.receiver()
        for number in range(_SENDERS):
            self._senders.append(self._start_sender(number))
        self.faults: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    def strike(self) -> None:
        """Let one fault happen, and its end."""
        faults = {
            "receiver killed": self._kill_receiver,
            "receiver stopped": self._stop_receiver,
            "sender killed": self._kill_sender,
            f"broker ended by {self._broker_signal.name}": self._restart_broker,
            "connections cut": self._cut,
            "connections held up": self._hold,
            "resolver stopped": self._stop_resolver,
            "all ended": self._end_all,
        }
        if time.monotonic() < self._resolver_rests_until:
            del faults["resolver stopped"]
        name = self._generator.choice(sorted(faults))
        print(f"{time.monotonic() - self._started_at:7.1f} s  {name}", file=sys.stderr, flush=True)
        self.faults[name] += 1
        faults[name]()

    def settle(self) -> Books:
        """End the senders, let what is under way arrive, and return the books."""
        for number in range(_SENDERS):
            self._end_sender(number)
        self._end_receiver(signal.SIGTERM)
        self._receiver = self.recipient.start(RECEIVER)
        deadline = time.monotonic() + _CALM_SECONDS
        while time.monotonic() < deadline and self._books(self._receiver.stdout).lost:
            time.sleep(0.5)
        self._end_receiver(signal.SIGTERM)
        return self._books([])

    def close(self) -> None:
        """End the programs, however it went."""
        for program in (self._receiver, *self._senders):
            program.close()

    def _books(self, lines: list[str]) -> Books:
        return Books(frozenset(self._acknowledged), (*self._lives, Life(texts_of(list(lines)), was_killed=False)))

    def _published(self, label: str) -> Device:
        device = self._lab.published_device(label, ttl=_TTL_SECONDS)
        return device.with_settings(MQTT_PORT=str(self._proxy.port))

    def _start_sender(self, number: int) -> Program:
        self._sender_lives += 1
        identities = self._identities[number]
        words = [f"{device.name}={device.crypto_path}" for device in identities]
        label = f"{number}.{self._sender_lives}"
        return identities[0].start(_SENDER, self.recipient.name, label, str(_SECONDS_A_MESSAGE), *words)

    def _end_sender(self, number: int) -> None:
        sender = self._senders[number]
        sender.kill()
        self._acknowledged |= set(sender.stdout)
        sender.close()

    def _end_receiver(self, number: signal.Signals) -> None:
        self._receiver.signal(number)
        self._receiver.wait_for_end()
        self._lives.append(Life(texts_of(self._receiver.stdout), number is signal.SIGKILL))
        for line in self._receiver.stderr:
            _, found, rest = line.partition("refused reason=")
            if found:
                self.refusals[rest.split()[0]] += 1
        self._receiver.close()

    def _wait(self, shortest: float, longest: float) -> None:
        time.sleep(self._generator.uniform(shortest, longest))

    def _kill_receiver(self) -> None:
        self._end_receiver(signal.SIGKILL)
        self._wait(0, 3)
        self._receiver = self.recipient.start(RECEIVER)

    def _stop_receiver(self) -> None:
        self._end_receiver(signal.SIGTERM)
        self._wait(0, 3)
        self._receiver = self.recipient.start(RECEIVER)

    def _kill_sender(self) -> None:
        number = self._generator.randrange(_SENDERS)
        self._end_sender(number)
        self._wait(0, 2)
        self._senders[number] = self._start_sender(number)

    def _restart_broker(self) -> None:
        self._end_broker()
        self._wait(0, 3)
        self._lab.mosquitto.start()

    def _end_broker(self) -> None:
        if self._broker_signal is signal.SIGKILL:
            self._lab.mosquitto.kill()
        else:
            self._lab.mosquitto.stop()

    def _cut(self) -> None:
        self._proxy.cut()

    def _hold(self) -> None:
        self._proxy.hold()
        self._wait(0.1, 4)
        self._proxy.release()

    def _stop_resolver(self) -> None:
        self._lab.unbound.stop()
        self._wait(0, 4)
        self._lab.unbound.start()
        self._resolver_rests_until = time.monotonic() + _RESOLVER_PAUSE_SECONDS

    def _end_all(self) -> None:
        self._end_receiver(signal.SIGKILL)
        self._end_broker()
        for number in range(_SENDERS):
            self._end_sender(number)
        self._lab.unbound.kill()
        self._wait(0, 1)
        self._lab.unbound.start()
        self._lab.mosquitto.start()
        self._receiver = self.recipient.start(RECEIVER)
        for number in range(_SENDERS):
            self._senders[number] = self._start_sender(number)


class Replayer:
    """An eavesdropper that publishes once more what it has heard.

    Args:
        broker: Where it listens; not through the proxy.
        generator: Decides what it repeats.
    """

    def __init__(self, broker: Mosquitto, generator: random.Random) -> None:
        self._broker = broker
        self._generator = generator
        self._heard: list[bytes] = []
        self.number_replayed = 0

    def listen_and_repeat(self, recipient: Device, seconds: float) -> None:
        """Listen for some time, then publish a few of all that it has heard so far."""
        with contextlib.suppress(OSError):
            client = BrokerClient(self._broker)
            try:
                client.listen(recipient)
                time.sleep(seconds)
                self._heard += client.payloads_so_far()
                for payload in self._generator.sample(self._heard, min(3, len(self._heard))):
                    client.publish(recipient, payload)
                    self.number_replayed += 1
            finally:
                client.close()


@contextlib.contextmanager
def open_storm(seed: int, broker_signal: signal.Signals) -> Iterator[tuple[Storm, Replayer, Device]]:
    """Yield the system, a replayer and the recipient; everything is gone afterwards.

    Args:
        seed: Decides what happens.
        broker_signal: How the broker is ended.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        lab = stack.enter_context(open_lab(directory))
        if broker_signal is signal.SIGKILL:
            lab.mosquitto.stop()
            with (directory / "mosquitto" / "mosquitto.conf").open("a") as configuration:
                configuration.write(_SAVE_OFTEN)
            lab.mosquitto.start()
        proxy = stack.enter_context(Proxy(lab.mosquitto.port))
        storm = Storm(lab, proxy, random.Random(seed), broker_signal)
        stack.callback(storm.close)
        yield storm, Replayer(lab.mosquitto, random.Random(seed + 1)), storm.recipient
