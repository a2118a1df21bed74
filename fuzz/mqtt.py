"""Target: what a broker sends, including packets of strangers, given to our client through a socket.

An input is one byte that selects what the rest is, and a stream of MQTT packets.
"""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from paho.mqtt import _packet
from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket

from fuzz.target import MutateOctets, Target, check_harmless
from idlib.errors import MalformedPacketError
from idlib.settings import MqttVersion
from idlib.transport.client import Handlers, PacketClient, UnreadablePackets
from idlib.transport.packets import Connack, Packet, PacketReader, PacketType, Publish, read_publish
from idlib.transport.session import Grant
from testbed.raw_mqtt import packet, publish_packet, text, user_property, variable

_IS_VERSION_3_1_1: Final = 1
# The stream starts after a good CONNACK.
_IS_ACCEPTED: Final = 2
_MAX_PUBLISH_OCTETS: Final = 2000
_MAX_LOOPS: Final = 10_000
_FEFF: Final = "\ufeff".encode()
_CONNACKS: Final = {MqttVersion.V5: packet(0x20, b"\0\0\0"), MqttVersion.V311: packet(0x20, b"\0\0")}
_PROPERTIES: Final = (
    b"",
    user_property(b"a", _FEFF),
    user_property(_FEFF, b""),
    user_property(b"", b"") * 300,
    b"\x08" + text(_FEFF) + b"\x09" + text(b"\xff\0") + b"\x03" + text(b""),
    b"\x01\x01\x02\0\0\0\x05\x0b\x80\x01\x23\0\x01",
)
_OF_CONNACK: Final = (
    b"\x11\0\0\0\x3c\x21\0\x0a\x24\0\x25\0\x27\0\0\0\x64\x12" + text(b"another") + b"\x13\0\x05",
    b"\x1f" + text(_FEFF) + user_property(_FEFF, _FEFF) + b"\x28\0\x29\0\x2a\0\x22\0\x05",
    user_property(b"", b"") * 300,
    b"\x12" + text(b"\x1b[2J\xff"),
)
_MARKS: Final = (*_PROPERTIES, *_OF_CONNACK, b"\xff\xff\xff\x7f", b"\xff\xff", b"\x80", b"\0")


@dataclass
class _Heard:
    """What the client read from a stream."""

    published: list[Publish] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def _seeds() -> list[bytes]:
    streams = [
        (_IS_ACCEPTED, publish_packet("topic", b"payload", qos, 7, properties))
        for properties in _PROPERTIES
        for qos in (0, 1, 2)
    ]
    streams += [
        (_IS_ACCEPTED | _IS_VERSION_3_1_1, publish_packet("topic", b"payload", 1, 7, None)),
        (_IS_ACCEPTED, publish_packet("topic", bytes(3000))),
        (_IS_ACCEPTED, packet(0x32, text(b"topic") + b"\0\7\x7f")),
        (_IS_ACCEPTED, packet(0x32, b"\xff\xfftopic") + publish_packet("topic", b"payload")),
        (_IS_ACCEPTED, packet(0x90, b"\0\1\0\1") + packet(0xD0, b"") + packet(0x62, b"\0\7")),
        (_IS_ACCEPTED, packet(0x90, b"\0\1" + variable(9) + user_property(b"a", _FEFF) + b"\x87")),
        (_IS_ACCEPTED, packet(0x40, b"\0\1\x97" + variable(9) + user_property(b"a", _FEFF))),
        (_IS_ACCEPTED, packet(0xE0, b"\x8b" + variable(6) + b"\x1f" + text(_FEFF))),
        (_IS_ACCEPTED, packet(0xE0, b"\x9d" + variable(9) + b"\x1c" + text(b"\x1b[2J\xff\0"))),
        (0, packet(0x20, b"\0\x9d" + variable(7) + b"\x1f" + text(b"a") + b"\x1c" + text(b"")[:2] + b"\0")),
        (0, packet(0x20, b"\0\x87") + b"\0"),
        (_IS_VERSION_3_1_1, packet(0x20, b"\1\0") + packet(0x90, b"\0\1\1")),
        (0, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ]
    streams += [(0, packet(0x20, b"\1\0" + variable(len(section)) + section)) for section in _OF_CONNACK]
    return [bytes([form]) + stream for form, stream in streams]


def _check(octets: bytes) -> str:
    form, stream = octets[0] if octets else 0, octets[1:]
    version = MqttVersion.V311 if form & _IS_VERSION_3_1_1 else MqttVersion.V5
    if form & _IS_ACCEPTED:
        stream = _CONNACKS[version] + stream
    unreadable = UnreadablePackets()
    first, failure = _hear(stream, version, unreadable)
    if failure.startswith("a PUBLISH "):
        again, _ = _hear(stream, version, unreadable)
        assert len(again.published) > len(first.published), "what cannot be read is passed over when it comes again"
    for each in _packets(stream):
        if each.type == PacketType.PUBLISH and not each.is_oversized:
            _check_publish(each, version)
    return " ".join(sorted(set(first.events))) or "nothing"


def _hear(stream: bytes, version: MqttVersion, unreadable: UnreadablePackets) -> tuple[_Heard, str]:
    """Return what a client reads from a stream, and why its connection ended."""
    heard = _Heard()

    def connected(connack: Connack) -> None:
        check_harmless(str(Grant.from_connack(version, 60, connack.properties, is_kept=connack.is_session_present)))
        heard.events.append("connected")

    def subscribed(codes: tuple[int, ...]) -> None:
        assert codes, "a subscription has an answer"
        heard.events.append("subscribed")

    def unsubscribed(_codes: tuple[int, ...]) -> None:
        heard.events.append("unsubscribed")

    def published(message: Publish) -> None:
        heard.published.append(message)
        heard.events.append(f"refused-{message.refusal.reason}" if message.refusal else "published")
        if message.qos:
            client.acknowledge(message.packet_id, message.qos)

    own_end, broker_end = socket.socketpair()
    client = PacketClient(
        version,
        "client",
        Handlers(connected, subscribed, published, lambda *_: heard.events.append("acknowledged"), unsubscribed),
        is_session_kept=True,
        max_publish_size=_MAX_PUBLISH_OCTETS,
        unreadable=unreadable,
        dial=lambda: own_end,
    )
    client.connect("broker")
    with broker_end as broker:
        broker.sendall(stream)
        broker.shutdown(socket.SHUT_WR)
        for _ in range(_MAX_LOOPS):
            if client.loop(0.01) != MQTT_ERR_SUCCESS:
                break
        else:
            raise AssertionError("a stream has an end")
    client.close()
    assert client.failure, "it is known why a connection ended"
    check_harmless(client.failure)
    check_harmless(str(client.remarks))
    return heard, client.failure


def _check_publish(publish: Packet, version: MqttVersion) -> None:
    """Check that we read whatever the library reads, with the same result."""
    protocol = MQTTProtocolVersion.MQTTv5 if version is MqttVersion.V5 else MQTTProtocolVersion.MQTTv311
    try:
        theirs = _packet.decode_publish(publish.header, publish.body, protocol)
    except MalformedPacket:
        return
    except Exception:  # noqa: BLE001  # what it lets escape at a stranger's packet is why it is not used
        return
    if theirs.qos > 2 or (theirs.qos and not theirs.mid):
        return
    ours = read_publish(publish, version)
    assert (ours.qos, ours.packet_id) == (theirs.qos, theirs.mid), "a packet has its number"
    if ours.refusal is None:
        assert ours.payload == theirs.payload, "a payload is what was published"
    else:
        # The library lets the last property end with the packet, whatever its length says.
        assert ours.refusal.fact == "its properties are longer than its packet"
        assert not theirs.payload, "a payload after these properties is refused"


def _packets(stream: bytes) -> list[Packet]:
    """Return the packets of a stream, up to the first invalid one."""
    found = []
    with contextlib.suppress(MalformedPacketError):
        for each in PacketReader(_MAX_PUBLISH_OCTETS).feed(stream):
            found.append(each)  # noqa: PERF402  # what comes before an error counts
    return found


def _mutate(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    form, stream = octets[:1] or b"\0", octets[1:]
    if generator.random() < 0.05:
        form = bytes([generator.randrange(4)])
    packets = [each for each in _packets(stream) if not each.is_oversized]
    if not packets or generator.random() < 0.2:
        return form + mutate_octets(stream, len(stream) + 64)
    return form + _written(packets, generator, mutate_octets)


def _written(packets: Sequence[Packet], generator: Random, mutate_octets: MutateOctets) -> bytes:
    """Return the packets with one changed after its length field, and sometimes one of them twice."""
    chosen = generator.randrange(len(packets))
    written = []
    for number, each in enumerate(packets):
        header, body = each.header, each.body
        if number == chosen:
            place = generator.randrange(len(body) + 1)
            match generator.randrange(4):
                case 0:
                    body = body[:place] + generator.choice(_MARKS) + body[place:]
                case 1:
                    header = generator.choice((*PacketType, header ^ 1 << generator.randrange(8)))
                case 2:
                    body = body[:place]
                case _:
                    body = mutate_octets(body, len(body) + 64)
        written += [packet(header & 0xFF, body)] * generator.choice((1, 1, 1, 2))
    return b"".join(written)


TARGET: Final = Target(_seeds, _check, _mutate)
