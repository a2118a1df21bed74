"""Helpers of the tests of the subscriber: a broker that sends packets, and a running subscription."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from idlib.settings import MqttVersion
from idlib.transport import Broker, Delivery, Subscription
from idlib.transport.session_notes import SessionMemory
from testbed.scripted_broker import CONNACK, CONNACK_311, Peer

MAX_MESSAGE = 1000


@dataclass
class Running:
    subscription: Subscription
    delivered: list[Delivery]

    def settle_all(self) -> None:
        for delivery in self.delivered:
            self.subscription.settle([delivery.packet])


@contextlib.contextmanager
def running(
    address: Broker,
    memory: SessionMemory | None = None,
    client_id: Callable[[], str | None] = lambda: "client",
    topic_filter: str = "topic",
) -> Iterator[Running]:
    delivered: list[Delivery] = []
    run = Running(Subscription(address, client_id, topic_filter, 600, MAX_MESSAGE, delivered.append, memory), delivered)
    stopping = threading.Event()
    thread = threading.Thread(target=run.subscription.run, args=(stopping,), daemon=True)
    thread.start()
    try:
        yield run
    finally:
        stopping.set()
        run.subscription.wake()
        thread.join(10)
        assert not thread.is_alive()


def saying(*packets: bytes, version: MqttVersion = MqttVersion.V5) -> Callable[[Peer], None]:
    """Return a script that accepts a subscription and sends packets."""

    def script(peer: Peer) -> None:
        peer.accept(CONNACK if version is MqttVersion.V5 else CONNACK_311)
        peer.grant(b"\0\1" if version is MqttVersion.V5 else b"\1")
        for each in packets:
            peer.send(each)
        peer.wait_for_end()

    return script


class Notes:
    """What is stored across restarts."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text

    def recall(self) -> str | None:
        return self.text

    def note(self, text: str) -> None:
        self.text = text
