"""A local broker, or a client of it, that misbehaves: nothing is lost, nothing ends, nothing loops."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from chaos.home_listener import HomeListener
from idlib.storage.outbox import MAX_OCTETS, Outbox
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, free_port
from testbed.lab import Lab, wait_until
from testbed.outbox import outbox_path, put, waiting
from testbed.paced_client import PacedClient, Publication
from testbed.programs import RECEIVER, SENDER, SUBSCRIBED, Device, Program
from testbed.raw_mqtt import packet, publish_packet, text
from testbed.scripted_broker import Peer, ScriptedBroker

PREFIX: Final = "messenger"
SESSION_KEPT: Final = packet(0x20, b"\1\0\0")
QUOTA_EXCEEDED: Final = 0x97
# More than fits into the rest of the outbox.
FLOOD_MESSAGES: Final = 200
FLOOD_BYTES: Final = 4000


def bridged(device: Device, port: int) -> Device:
    """Return the device with a broker on loopback as its local one."""
    return device.with_settings(LOCAL_MQTT_URL=f"mqtt://{LOOPBACK}:{port}")


@contextlib.contextmanager
def receiving(device: Device) -> Iterator[Program]:
    """Run the receiver until the end, whatever its local broker does; it must not end by itself or with a traceback."""
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log(SUBSCRIBED)
        yield receiver
        assert receiver.is_running
        assert receiver.stop() == 0
    assert not [line for line in receiver.stderr if "Traceback" in line]


def publish_id(body: bytes) -> tuple[str, bytes]:
    """Return topic and packet identifier of a PUBLISH with QoS 1."""
    length = int.from_bytes(body[:2])
    return body[2 : 2 + length].decode(), body[2 + length : 4 + length]


def serve(answer: Callable[[Peer, str, bytes], bool]) -> Callable[[Peer], None]:
    """Return a script that accepts a bridge, and then answers each PUBLISH.

    Args:
        answer: Gets the peer, topic and packet identifier; returns whether to go on.
    """

    def script(peer: Peer) -> None:
        peer.accept()
        converse(peer, answer)

    return script


def converse(peer: Peer, answer: Callable[[Peer, str, bytes], bool]) -> None:
    """Answer everything of a bridge that is connected, until the end of the connection or until `answer` returns False.

    Args:
        peer: The bridge.
        answer: As for `serve`.
    """
    while True:
        header, body = peer.read()
        match header & 0xF0:
            case 0x80:
                peer.send(packet(0x90, body[:2] + b"\0" + b"\1" * number_of_filters(body)))
            case 0x30:
                topic, identifier = publish_id(body)
                if not answer(peer, topic, identifier):
                    return
            case 0xC0:
                peer.send(b"\xd0\0")
            case 0 | 0xE0:
                return


def number_of_filters(body: bytes) -> int:
    """Return how many filters a SUBSCRIBE without properties has."""
    at, number = 3, 0
    while at < len(body):
        at += 3 + int.from_bytes(body[at : at + 2])
        number += 1
    return number


def is_inward(topic: str) -> bool:
    return topic.startswith(f"{PREFIX}/in/")


def acknowledge(peer: Peer, _topic: str, identifier: bytes) -> bool:
    """Answer as a good broker."""
    peer.send(packet(0x40, identifier))
    return True


def acknowledge_nothing_inward(peer: Peer, topic: str, identifier: bytes) -> bool:
    """Accept a message, and never say so."""
    return is_inward(topic) or acknowledge(peer, topic, identifier)


def end_at_each_message(peer: Peer, topic: str, identifier: bytes) -> bool:
    """Close the connection in place of an answer."""
    return not is_inward(topic) and acknowledge(peer, topic, identifier)


def refusing(code: int) -> Callable[[Peer, str, bytes], bool]:
    """Return an answer that refuses each message with a reason code."""

    def refuse(peer: Peer, topic: str, identifier: bytes) -> bool:
        peer.send(packet(0x40, identifier + bytes([code if is_inward(topic) else 0])))
        return True

    return refuse


@pytest.fixture
def device(lab: Lab) -> Device:
    return lab.published_device("attacked")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "local").mkdir()
    with Mosquitto(tmp_path / "local") as broker:
        yield broker


@pytest.fixture
def at_home(local: Mosquitto) -> Iterator[HomeListener]:
    """Yield a client of the local broker that records everything."""
    with contextlib.closing(HomeListener(local, PREFIX)) as listener:
        yield listener


def inward_texts(listener: HomeListener) -> list[str]:
    return [one.sender_and_text()[1] for one in listener.arrivals if is_inward(one.topic)]


# A local broker that never accepts a message


@pytest.mark.parametrize(
    "answer",
    [acknowledge_nothing_inward, end_at_each_message, refusing(QUOTA_EXCEEDED)],
    ids=["silent", "closes the connection", "quota exceeded"],
)
def test_what_the_local_broker_does_not_accept_stays_at_the_public_one(
    answer: Callable[[Peer, str, bytes], bool], device: Device, alice: Device, local: Mosquitto, at_home: HomeListener
) -> None:
    seen: list[str] = []

    def noting(peer: Peer, topic: str, identifier: bytes) -> bool:
        seen.append(topic)
        return answer(peer, topic, identifier)

    with ScriptedBroker(serve(noting)) as bad, receiving(bridged(device, bad.address.port)):
        assert alice.send(device, "must not be lost").status == 0
        wait_until(lambda: any(map(is_inward, seen)), "message at the bad broker")
        # It cannot count as received, neither now nor when the receiver ends.
        time.sleep(1)
    with receiving(bridged(device, local.port)) as receiver:
        receiver.wait_for_message("must not be lost")
        wait_until(lambda: bool(inward_texts(at_home)), "message at home")
    assert inward_texts(at_home) == ["must not be lost"]


def test_a_broker_that_recovers_gets_each_message_without_a_restart(device: Device, alice: Device) -> None:
    good: list[str] = []

    def noting(peer: Peer, topic: str, identifier: bytes) -> bool:
        if is_inward(topic):
            good.append(topic)
        return acknowledge(peer, topic, identifier)

    scripts = (serve(end_at_each_message), serve(end_at_each_message), serve(noting))
    with ScriptedBroker(*scripts) as broker, receiving(bridged(device, broker.address.port)) as receiver:
        for number in range(3):
            assert alice.send(device, f"recovered {number}").status == 0
        for number in range(3):
            receiver.wait_for_message(f"recovered {number}", timeout=40)
        assert len(receiver.stdout) == 3
    assert len(good) == 3


# A local broker that sends what no broker sends


# Each of these breaks the connection, or may.
GARBAGE: Final[dict[str, bytes]] = {
    "noise": bytes(range(255, 0, -1)),
    "a length of five bytes": b"\x32\xff\xff\xff\xff\x01",
    "a second CONNACK": b"\x20\x03\0\0\0",
    "an empty acknowledgement": packet(0x40, b""),
    "a DISCONNECT": packet(0xE0, b"\x8b"),
    "a topic that is not UTF-8": packet(0x32, text(b"messenger/out/\xff") + b"\0\1\0hello"),
    "QoS 3": publish_packet("messenger/out/x._device.example.test", b"hello", qos=3),
}
# And none of these, but nothing of it may be sent.
UNSENDABLE: Final = (
    packet(0x40, b"\xff\xff"),
    packet(0x90, b"\0\1\0\1"),
    publish_packet("messenger/out/#", b"hello"),
    publish_packet("elsewhere", b"hello"),
    publish_packet("messenger/out/", b"hello"),
    publish_packet("messenger/out/no name\x1b[31m\n", b"hello"),
    publish_packet("messenger/out/x._device.example.test", b""),
    publish_packet("messenger/out/x._device.example.test", b"a" * 100_000),
    publish_packet("messenger/out/x._device.example.test", b"hello", retain=True),
    publish_packet("messenger/in/x._device.example.test", b"hello"),
)


@pytest.mark.parametrize("garbage", [*GARBAGE.values(), b"".join(UNSENDABLE)], ids=[*GARBAGE, "what can never be sent"])
def test_garbage_of_the_local_broker_ends_nothing_and_sends_nothing(
    garbage: bytes, device: Device, alice: Device
) -> None:
    has_sent = threading.Event()

    def send_garbage_once(peer: Peer, topic: str, identifier: bytes) -> bool:
        acknowledge(peer, topic, identifier)
        if not has_sent.is_set():
            has_sent.set()
            peer.send(garbage)
        return True

    with (
        ScriptedBroker(serve(send_garbage_once)) as broker,
        receiving(bridged(device, broker.address.port)) as receiver,
    ):
        wait_until(has_sent.is_set, "first message of the bridge")
        assert alice.send(device, "after garbage").status == 0
        receiver.wait_for_message("after garbage", timeout=40)
        assert all("\x1b" not in line for line in receiver.stderr)
    assert waiting(device) == 0


def test_a_packet_without_an_end_is_given_up_with_its_connection(device: Device, alice: Device) -> None:
    def endless(peer: Peer, _topic: str, _identifier: bytes) -> bool:
        peer.send(b"\x32\xff\xff\xff\x7f" + b"a" * 70_000)
        return False

    scripts = (serve(endless), serve(acknowledge))
    with ScriptedBroker(*scripts) as broker, receiving(bridged(device, broker.address.port)) as receiver:
        assert alice.send(device, "after the endless packet").status == 0
        receiver.wait_for_message("after the endless packet", timeout=40)
    assert waiting(device) == 0


# A client of the local broker that floods the bridge


# How long it may take to store 16 MB in small messages on a machine that is busy with other tests.
PATIENCE: Final = 120.0


def test_a_flood_of_messages_to_be_sent_fills_the_outbox_at_most_and_delays_nothing(
    device: Device, alice: Device, local: Mosquitto, at_home: HomeListener
) -> None:
    for _ in range(3):
        put(device, alice.name, "x" * (MAX_OCTETS // 3 - FLOOD_BYTES))
    flood = [Publication(b"x" * FLOOD_BYTES) for _ in range(FLOOD_MESSAGES)]
    with receiving(bridged(device, local.port)) as receiver:
        # Otherwise the broker drops what comes before the subscription.
        receiver.wait_for_log("Connected to the local broker")
        with PacedClient(local.port) as client:
            client.publish_all(f"{PREFIX}/out/{alice.name}", flood)
        receiver.wait_for_log("the outbox is full", PATIENCE)
        assert alice.send(device, "in spite of the flood").status == 0
        receiver.wait_for_message("in spite of the flood")
        wait_until(lambda: "in spite of the flood" in inward_texts(at_home), "message at home")
        # One line for all of them.
        assert len([line for line in receiver.stderr if "the outbox is full" in line]) == 1


def test_what_waits_for_a_full_outbox_is_sent_once_however_often_the_connection_breaks(
    device: Device, alice: Device, bob: Device
) -> None:
    connections: list[int] = []

    def break_twice(peer: Peer) -> None:
        peer.accept(SESSION_KEPT)
        connections.append(len(connections))
        is_last = len(connections) > 3

        def answer(peer: Peer, topic: str, identifier: bytes) -> bool:
            acknowledge(peer, topic, identifier)
            if topic == f"{PREFIX}/status":
                peer.send(publish_packet(f"{PREFIX}/out/{bob.name}", b"only once"))
                time.sleep(0.2)
            return is_last

        converse(peer, answer)

    for _ in range(3):
        put(device, alice.name, "x" * (MAX_OCTETS // 3 - 220))
    with ScriptedBroker(break_twice) as broker, receiving(bridged(device, broker.address.port)):
        wait_until(lambda: len(connections) > 3, "fourth connection")
        with Outbox(outbox_path(device).parent) as outbox:
            first = outbox.next_to(alice.name, 0)
            assert first is not None
            outbox.remove(first.number)
        wait_until(lambda: waiting(device) > 2, "message in the outbox", 90)
        # It would be followed by its copies at once.
        time.sleep(1)
    assert waiting(device) == 3


# A broker at home that is joined to the public one by its own configuration

JOINED: Final = """\
connection public
address {public}
cleansession false
{topics}
"""
TOPICS: Final = {
    "everything both ways": 'topic # both 1 "" ""',
    "what is to be sent goes to the public broker": f'topic + both 1 {PREFIX}/out/ ""',
}


def test_a_message_that_comes_back_from_the_local_broker_is_not_sent_again(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    port = free_port()
    # A broker that is joined to itself publishes each message that was received as one to be sent.
    extra = (
        f"connection itself\naddress {LOOPBACK}:{port}\ntopic + out 1 {PREFIX}/in/ {PREFIX}/out/\ntry_private false\n"
    )
    with Mosquitto(tmp_path / "home", port, extra=extra) as home:
        device = lab.published_device("echo")
        with (
            contextlib.closing(HomeListener(home, PREFIX)) as listener,
            device.start(SENDER),
            receiving(bridged(device, port)) as receiver,
        ):
            assert device.send(device, "to itself").status == 0
            receiver.wait_for_log("would be sent back")
            wait_until(lambda: any(one.topic == f"{PREFIX}/error" for one in listener.arrivals), "error at home")
        assert inward_texts(listener) == ["to itself"]
        assert waiting(device) == 0


@pytest.mark.parametrize("topics", TOPICS.values(), ids=TOPICS)
def test_a_broker_that_is_joined_to_the_public_one_makes_no_loop(topics: str, lab: Lab, tmp_path: Path) -> None:
    for name in ("home", "public"):
        (tmp_path / name).mkdir()
    with Mosquitto(tmp_path / "public") as public:
        extra = JOINED.format(public=public.address, topics=topics)
        with Mosquitto(tmp_path / "home", extra=extra) as home:
            there = {"MQTT_PORT": str(public.port)}
            device = lab.published_device("joined").with_settings(**there)
            sender = lab.published_device("sender").with_settings(**there)
            with (
                contextlib.closing(HomeListener(home, PREFIX)) as listener,
                device.start(SENDER),
                receiving(bridged(device, home.port)) as receiver,
            ):
                assert sender.send(device, "inward").status == 0
                receiver.wait_for_message("inward")
                with PacedClient(home.port) as client:
                    client.publish_all(f"{PREFIX}/out/{device.name}", [Publication(b"outward")])
                receiver.wait_for_message("outward")
                # Long enough for several turns.
                time.sleep(1)
                assert len(receiver.stdout) == 2, receiver.stdout
                assert len(listener.arrivals) < 12, listener.arrivals
