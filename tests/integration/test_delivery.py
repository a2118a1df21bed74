"""Every acknowledged message is printed, whichever program is stopped, restarted or killed in between."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK
from testbed.lab import Lab
from testbed.programs import RECEIVER, SEND_MESSAGE, Device, Program

_GROUP = 32


def _numbered(count: int) -> list[str]:
    return [f"message {number:04}" for number in range(count)]


def _send_all(sender: Device, recipient: Device, texts: list[str]) -> None:
    result = sender.send(recipient, "--lines", stdin="".join(f"{text}\n" for text in texts))
    assert result.status == 0, result


def _texts(sender: Device, *receivers: Program) -> Counter[str]:
    prefix = f"{sender.name} says: "
    return Counter(json.loads(line).removeprefix(prefix) for receiver in receivers for line in receiver.stdout)


def test_a_message_waits_for_a_receiver_that_is_away(
    lab: Lab, alice: Device, receiver_of: Callable[[Device], Program]
) -> None:
    recipient = lab.published_device("traveller")
    assert receiver_of(recipient).stop() == 0
    assert alice.send(recipient, "welcome home").status == 0
    receiver_of(recipient).wait_for_message("welcome home")


def test_the_receiver_reconnects_to_a_restarted_broker(
    lab: Lab, alice: Device, own_mosquitto: Mosquitto, receiver_of: Callable[[Device], Program]
) -> None:
    there = {"MQTT_PORT": str(own_mosquitto.port)}
    sender, recipient = alice.with_settings(**there), lab.published_device("loyal").with_settings(**there)
    receiver = receiver_of(recipient)
    own_mosquitto.stop()
    assert sender.send(recipient, "into the void").status == 3
    own_mosquitto.start()
    assert sender.send(recipient, "after the restart").status == 0
    receiver.wait_for_message("after the restart", timeout=30)
    assert not any("into the void" in line for line in receiver.stdout)


def test_a_restarted_broker_still_has_what_it_acknowledged(
    lab: Lab, alice: Device, own_mosquitto: Mosquitto, receiver_of: Callable[[Device], Program]
) -> None:
    there = {"MQTT_PORT": str(own_mosquitto.port)}
    sender, recipient = alice.with_settings(**there), lab.published_device("patient").with_settings(**there)
    assert receiver_of(recipient).stop() == 0
    assert sender.send(recipient, "kept by the broker").status == 0
    own_mosquitto.stop()
    own_mosquitto.start()
    receiver_of(recipient).wait_for_message("kept by the broker")


def test_a_receiver_waits_for_a_broker_that_is_not_running_yet(
    lab: Lab, alice: Device, own_mosquitto: Mosquitto
) -> None:
    own_mosquitto.stop()
    there = {"MQTT_PORT": str(own_mosquitto.port)}
    recipient = lab.published_device("first").with_settings(**there)
    with recipient.start(RECEIVER) as receiver:
        receiver.wait_for_log("broker")
        own_mosquitto.start()
        receiver.wait_for_log("MQTT subscription active.", timeout=30)
        assert alice.with_settings(**there).send(recipient, "at last").status == 0
        receiver.wait_for_message("at last")


def test_sigterm_while_messages_arrive_loses_and_repeats_none(
    lab: Lab, alice: Device, receiver_of: Callable[[Device], Program]
) -> None:
    recipient, texts = lab.published_device("stopped"), _numbered(500)
    first = receiver_of(recipient)
    with alice.start(SEND_MESSAGE, recipient.name, "--lines") as sender:
        sender.write_all("".join(f"{text}\n" for text in texts))
        first.wait_for("flow of messages", lambda: len(first.stdout) >= 50)
        assert first.stop(5) == 0
        assert sender.wait_for_end(60) == 0
    second = receiver_of(recipient)
    second.wait_for("rest of the messages", lambda: len(_texts(alice, first, second)) == len(texts))
    assert _texts(alice, first, second) == Counter(texts)
    assert len(first.stdout) < len(texts), "it had printed all before it was stopped"


def test_sigkill_while_messages_arrive_loses_none(
    lab: Lab, alice: Device, receiver_of: Callable[[Device], Program]
) -> None:
    recipient, texts = lab.published_device("killed"), _numbered(500)
    first = receiver_of(recipient)
    with alice.start(SEND_MESSAGE, recipient.name, "--lines") as sender:
        sender.write_all("".join(f"{text}\n" for text in texts))
        first.wait_for("flow of messages", lambda: len(first.stdout) >= 50)
        first.kill()
        assert sender.wait_for_end(60) == 0
    second = receiver_of(recipient)
    second.wait_for("rest of the messages", lambda: len(_texts(alice, first, second)) == len(texts))
    _send_all(alice, recipient, ["the end"])
    second.wait_for_message("the end")
    printed = _texts(alice, first, second)
    assert set(printed) == {*texts, "the end"}
    assert printed.total() - len(printed) <= _GROUP
    assert len(first.stdout) < len(texts), "it had printed all before it was killed"


def test_a_burst_from_an_unknown_sender_is_not_lost_while_dns_is_slow(
    lab: Lab, receiver_of: Callable[[Device], Program]
) -> None:
    sender, recipient, texts = lab.published_device("eager"), lab.published_device("far"), _numbered(200)
    with _slow_resolver(lab, 1.0) as address:
        receiver = receiver_of(recipient.with_settings(DNS_RESOLVER=address))
        _send_all(sender, recipient, texts)
        receiver.wait_for("all messages", lambda: len(receiver.stdout) >= len(texts), 40)
    assert _texts(sender, receiver) == Counter(texts)
    assert not any("refused reason=" in line for line in receiver.stderr)


@contextmanager
def _slow_resolver(lab: Lab, delay: float) -> Iterator[str]:
    """Pass queries over UDP on to the lab's resolver, and each answer back after a delay in seconds."""
    with socket.socket(type=socket.SOCK_DGRAM) as front, socket.socket(type=socket.SOCK_DGRAM) as back:
        front.bind((LOOPBACK, 0))
        front.settimeout(0.1)
        back.settimeout(5)
        stopping = threading.Event()

        def pass_on() -> None:
            while not stopping.is_set():
                try:
                    query, client = front.recvfrom(65535)
                except TimeoutError:
                    continue
                back.sendto(query, (lab.unbound.host, lab.unbound.port))
                answer = back.recv(65535)
                stopping.wait(delay)
                front.sendto(answer, client)

        thread = threading.Thread(target=pass_on)
        thread.start()
        try:
            yield f"{LOOPBACK}:{front.getsockname()[1]}"
        finally:
            stopping.set()
            thread.join()
