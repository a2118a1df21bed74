"""Helpers of the tests of the publisher: brokers that acknowledge or refuse, and a function that sends."""

from collections.abc import Callable

from idlib.transport import Publisher
from testbed.raw_mqtt import packet
from testbed.scripted_broker import (
    Peer,
    connack,
)

TIMEOUT = 30.0
_AT_ONCE = 5.0


def packet_id_of(publish: bytes) -> bytes:
    begin = 2 + int.from_bytes(publish[:2])
    return publish[begin : begin + 2]


def acknowledging(properties: bytes = b"", code: bytes = b"") -> Callable[[Peer], None]:
    """Return a script that accepts the connection and acknowledges everything."""

    def script(peer: Peer) -> None:
        peer.accept(connack(properties))
        while True:
            header, body = peer.read()
            if header & 0xF0 == 0x30:
                peer.send(packet(0x40, packet_id_of(body) + code))
            elif not header:
                return

    return script


def send(publisher: Publisher, payload: bytes = b"payload") -> None:
    publisher.wait(publisher.publish("topic", payload, 60))


def refusing(answer: bytes, *, by_reset: bool = False) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.accept(answer)
        if by_reset:
            peer.reset()

    return script
