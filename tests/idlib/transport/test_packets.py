"""Packets that brokers and strangers can write, read by our own reader."""

import itertools
import time
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import MalformedPacketError, Reason
from idlib.settings import MqttVersion
from idlib.transport.packets import (
    MAX_CONTROL_BYTES,
    Packet,
    PacketReader,
    read_acknowledgement,
    read_connack,
    read_properties,
    read_publish,
    read_suback,
    read_unsuback,
)
from idlib.transport.session import ConnackProperty
from testbed.raw_mqtt import packet, publish_packet, text, user_property, variable

LIMIT = 1000
V5, V311 = MqttVersion.V5, MqttVersion.V311


def packets(octets: bytes, limit: int = LIMIT) -> list[Packet]:
    return list(PacketReader(limit).feed(octets))


def one(octets: bytes, limit: int = LIMIT) -> Packet:
    (found,) = packets(octets, limit)
    return found


def portions(octets: bytes, cuts: Iterable[int]) -> Sequence[bytes]:
    edges = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    return [octets[begin:end] for begin, end in itertools.pairwise(edges)]


@given(
    bodies=st.lists(st.tuples(st.sampled_from([0x20, 0x32, 0x40, 0xD0]), st.binary(max_size=300)), max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
)
def test_packets_are_the_same_however_the_stream_is_divided(bodies: list[tuple[int, bytes]], cuts: list[int]) -> None:
    octets = b"".join(packet(header, body) for header, body in bodies)
    reader = PacketReader(LIMIT)
    found = [each for portion in portions(octets, cuts) for each in reader.feed(portion)]
    assert [(each.header, each.body, each.size) for each in found] == [
        (header, body, len(body)) for header, body in bodies
    ]


@given(octets=st.binary(max_size=400), version=st.sampled_from(MqttVersion))
def test_any_bytes_are_packets_or_malformed(octets: bytes, version: MqttVersion) -> None:
    try:
        for each in PacketReader(64).feed(octets):
            for read in (read_publish, read_connack, read_suback, read_unsuback):
                try:
                    read(each, version)
                except MalformedPacketError as error:
                    assert error.fact
    except MalformedPacketError as error:
        assert error.fact


@given(
    topic=st.text(max_size=30).filter(lambda topic: len(topic.encode()) < 200),
    payload=st.binary(max_size=300),
    qos=st.integers(0, 2),
    packet_id=st.integers(1, 65535),
    properties=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=5),
    retain=st.booleans(),
)
def test_a_publish_is_read_whatever_its_properties(
    topic: str, payload: bytes, qos: int, packet_id: int, properties: list[tuple[bytes, bytes]], *, retain: bool
) -> None:
    written = b"".join(user_property(name, value) for name, value in properties)
    for version, section in ((V5, written), (V311, None)):
        found = read_publish(one(publish_packet(topic, payload, qos, packet_id, section, retain=retain)), version)
        assert (found.qos, found.payload, found.refusal) == (qos, payload, None)
        assert found.packet_id == (packet_id if qos else 0)


def test_the_topic_has_no_effect() -> None:
    body = text(b"\xff\x00\xfe") + b"\0\7" + b"\0" + b"payload"
    assert read_publish(one(packet(0x32, body)), V5).payload == b"payload"


@pytest.mark.parametrize(
    ("section", "fact"),
    [
        (b"\x05ab", "its properties are longer than its packet"),
        (b"\xff\xff\xff\xff\x01", "a length is malformed"),
        (b"\x80", "a length is malformed"),
        (b"", "a length is malformed"),
    ],
)
def test_an_unreadable_publish_is_refused_by_its_packet_id(section: bytes, fact: str) -> None:
    found = read_publish(one(packet(0x32, text(b"topic") + b"\1\2" + section)), V5)
    assert (found.packet_id, found.qos, found.payload) == (0x102, 1, b"")
    assert found.refusal is not None
    assert (found.refusal.reason, found.refusal.fact) == (Reason.TRANSPORT_MALFORMED, fact)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\5abc", b"\0\1a", b"\0\1a\0", b"\0\1a\0\0", b"\xff\xff"])
def test_a_publish_that_cannot_be_acknowledged_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPacketError, match="PUBLISH"):
        read_publish(one(packet(0x32, body)), V311)


def test_qos_3_is_refused_and_can_be_acknowledged() -> None:
    found = read_publish(one(publish_packet("topic", b"x", 3, 7)), V5)
    assert (found.packet_id, found.qos) == (7, 1)
    assert found.refusal is not None
    assert found.refusal.reason is Reason.TRANSPORT_MALFORMED


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("size", [LIMIT, 70_000, 3_000_000])
def test_an_oversized_publish_is_refused_by_its_packet_id(qos: int, size: int) -> None:
    found = read_publish(one(publish_packet("topic", bytes(size), qos, 7)), V5)
    assert (found.qos, found.packet_id, found.payload) == (qos, 7 if qos else 0, b"")
    assert found.refusal is not None
    assert found.refusal.reason is Reason.OVERSIZED


def test_a_packet_of_the_announced_size_is_accepted() -> None:
    octets = publish_packet("topic", bytes(LIMIT - 3 - 7 - 2 - 1), 1, 7)
    assert len(octets) == LIMIT
    assert read_publish(one(octets), V5).refusal is None
    assert one(publish_packet("topic", bytes(LIMIT - 3 - 7 - 2), 1, 7)).is_oversized


def test_the_packet_id_of_an_oversized_publish_is_read_after_the_longest_topic() -> None:
    found = read_publish(one(publish_packet("t" * 65535, bytes(100_000), 1, 7)), V5)
    assert found.packet_id == 7


def test_an_oversized_packet_is_not_held_in_memory() -> None:
    reader, portion = PacketReader(LIMIT), bytes(65536)
    size = 200_000_000
    tracemalloc.start()
    try:
        assert not list(reader.feed(b"\x32" + variable(size) + text(b"topic") + b"\0\7"))
        left = size - 9
        found: list[Packet] = []
        while left:
            found += reader.feed(portion[:left])
            left -= min(left, len(portion))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert [(each.size, each.is_oversized) for each in found] == [(size, True)]


@pytest.mark.parametrize("kind", [0x20, 0x40, 0x62, 0x90, 0xE0])
def test_another_oversized_packet_is_refused_by_its_length(kind: int) -> None:
    with pytest.raises(MalformedPacketError, match="268435455 bytes"):
        packets(bytes([kind]) + variable(268_435_455))
    assert packets(packet(kind, bytes(MAX_CONTROL_BYTES)))


@pytest.mark.parametrize("octet", [0x00, 0x10, 0x21, 0x48, 0x60, 0x82, 0xC0, 0xF0, 0xFF])
def test_another_protocol_is_recognized_by_its_first_byte(octet: int) -> None:
    with pytest.raises(MalformedPacketError, match=f"begins with the byte {octet:#04x}"):
        packets(bytes([octet]))


def test_a_length_has_four_bytes() -> None:
    with pytest.raises(MalformedPacketError, match="length"):
        packets(b"\x30\xff\xff\xff\xff")


def test_the_digest_is_the_same_at_each_delivery() -> None:
    first, again = one(b"\x32\x02ab"), one(b"\x3a\x02ab")
    assert first.digest == again.digest
    assert first.digest != one(b"\x32\x02ac").digest


# CONNACK and the rest

_FEFF = "\ufeff".encode()


def connack(properties: bytes, code: int = 0) -> Packet:
    return one(packet(0x20, bytes([1, code]) + variable(len(properties)) + properties), 300_000)


def test_a_connack_has_the_limits_that_we_obey() -> None:
    properties = (
        b"\x11\0\0\0\x3c\x21\0\x0a\x24\0\x25\0\x27\0\0\0\x01\x12"
        + text(b"another")
        + b"\x22\0\5\x1f"
        + text(_FEFF)
        + user_property(_FEFF, b"")
        + b"\x28\1\x29\1\x2a\1\x13\0\5\x1a"
        + text(b"info")
        + b"\x1c"
        + text(b"server")
        + b"\x15"
        + text(b"method")
        + b"\x16"
        + text(b"data")
    )
    found = read_connack(connack(properties), V5)
    assert (found.is_session_present, found.code) == (True, 0)
    assert found.properties == {
        ConnackProperty.SESSION_EXPIRY_INTERVAL: 60,
        ConnackProperty.RECEIVE_MAXIMUM: 10,
        ConnackProperty.MAXIMUM_QOS: 0,
        ConnackProperty.MAXIMUM_PACKET_SIZE: 1,
        ConnackProperty.ASSIGNED_CLIENT_IDENTIFIER: "another",
        ConnackProperty.SERVER_KEEP_ALIVE: 5,
        ConnackProperty.SHARED_SUBSCRIPTION_AVAILABLE: 1,
    }


def test_a_refusing_connack_needs_no_properties() -> None:
    assert read_connack(one(packet(0x20, b"\0\x87")), V5).code == 0x87
    assert read_connack(one(packet(0x20, b"\0\x87\xff")), V5).code == 0x87
    assert read_connack(one(packet(0x20, b"\0\5")), V311).code == 5
    assert read_connack(one(packet(0x20, b"\1\0")), V5).is_session_present


@pytest.mark.parametrize(
    "properties",
    [b"\x21\0\0", b"\x27\0\0\0\0", b"\x21\0\1\x21\0\1", b"\x7f\0", b"\x21\0", b"\x1f\0\5ab", b"\x26\0\1a", b"\x26\0"],
)
def test_a_connack_that_the_standard_forbids_is_malformed(properties: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        read_connack(connack(properties), V5)


def test_properties_with_a_wrong_length_are_malformed() -> None:
    with pytest.raises(MalformedPacketError):
        read_connack(one(packet(0x20, b"\0\0\x02\x21\0\1")), V5)


def test_many_properties_take_time_in_proportion_to_their_size() -> None:
    body = variable(250_000) + user_property(b"", b"") * 50_000
    started = time.monotonic()
    assert read_properties(body, 0) == {}
    assert time.monotonic() - started < 5


def test_subscription_identifiers_are_read() -> None:
    assert read_properties(b"\x03\x0b\x80\x01", 0) == {0x0B: 128}


def test_an_unsuback_has_its_codes_with_mqtt_5_only() -> None:
    assert read_unsuback(one(packet(0xB0, b"\0\1\0\x11")), V5) == (0x11,)
    assert read_unsuback(one(packet(0xB0, b"\0\1")), V311) == ()
    with pytest.raises(MalformedPacketError, match="longer than its packet"):
        read_unsuback(one(packet(0xB0, b"\0\1\x7f")), V5)


def test_a_suback_has_its_codes() -> None:
    assert read_suback(one(packet(0x90, b"\0\1\0\1")), V5) == (1,)
    assert read_suback(one(packet(0x90, b"\0\1" + variable(9) + user_property(b"a", _FEFF) + b"\x87")), V5) == (0x87,)
    assert read_suback(one(packet(0x90, b"\0\1\x80")), V311) == (0x80,)
    for body in (b"", b"\0\1", b"\0\1\0", b"\0\1\5a"):
        with pytest.raises(MalformedPacketError):
            read_suback(one(packet(0x90, body)), V5)


def test_an_acknowledgement_may_omit_its_code() -> None:
    assert read_acknowledgement(one(packet(0x40, b"\1\2"))) == (0x102, 0)
    assert read_acknowledgement(one(packet(0x40, b"\1\2\x97\0"))) == (0x102, 0x97)
    with pytest.raises(MalformedPacketError):
        read_acknowledgement(one(packet(0x40, b"\1")))
