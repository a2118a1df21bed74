"""The connection to a local broker: one that speaks only MQTT 3.1.1, and what it publishes."""

import socket
import threading
import time

import pytest

from idlib.local_broker.place import LocalBroker, Topics
from idlib.settings import MqttVersion
from idlib.transport import Broker
from messaging_receiver.local_broker.connection import MAX_UNACKNOWLEDGED, LocalConnection, Taken

_PROTOCOL_LEVEL = 8
_REFUSAL = b"\x20\x02\x00\x01"


def answer_as_an_old_broker(server: socket.socket, levels: list[int], refusal: bytes) -> None:
    """Refuse MQTT 5, and accept a connection and a subscription of MQTT 3.1.1."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connect = connection.recv(4096)
            levels.append(connect[_PROTOCOL_LEVEL])
            if connect[_PROTOCOL_LEVEL] == 5:
                connection.sendall(refusal)
                continue
            connection.sendall(b"\x20\x02\x00\x00")
            subscribe = connection.recv(4096)
            connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x01")
            while connection.recv(4096):
                pass


def publish_packet(topic: bytes, payload: bytes) -> bytes:
    """Return a message at QoS 0 as a packet."""
    content = len(topic).to_bytes(2) + topic + payload
    return bytes([0x30, len(content)]) + content


def answer_with_messages(server: socket.socket, sent: bytes) -> None:
    """Accept a connection and a subscription of MQTT 3.1.1, and send messages."""
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"\x20\x02\x01\x00")
        subscribe = connection.recv(4096)
        connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x01" + sent)
        while connection.recv(4096):
            pass


def note_first_bytes(server: socket.socket, received: list[bytes]) -> None:
    """Note what comes first over each connection: nothing if it is closed before."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            received.append(connection.recv(4096))


@pytest.mark.parametrize(("refusal", "tries"), [(_REFUSAL, 1), (b"", 3)], ids=["refuses", "closes"])
def test_a_broker_without_mqtt_5_gets_mqtt_3(
    refusal: bytes, tries: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("messaging_receiver.local_broker.connection._SHORTEST_BACKOFF_SECONDS", 0.01)
    caplog.set_level("INFO")
    levels: list[int] = []
    connected = threading.Event()
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        old = threading.Thread(target=answer_as_an_old_broker, args=(server, levels, refusal), daemon=True)
        old.start()
        broker = Broker("127.0.0.1", server.getsockname()[1], MqttVersion.V5)
        public = Broker("192.0.2.1", 1883, MqttVersion.V5)
        connection = LocalConnection(LocalBroker(broker, Topics("home")), public, "id", 1000, lambda _: None)
        connection.on_connection(connected.set)
        runner = threading.Thread(target=connection.run, args=(stopping,))
        runner.start()
        assert connected.wait(20)
        assert connection.is_active
        stopping.set()
        connection.wake()
        runner.join()
    assert levels == [5] * tries + [4]
    assert caplog.messages[-1] == f"Connected to the local broker {broker}: topics start with home/"


def answer_everything_but_messages(server: socket.socket) -> None:
    """Accept a connection and a subscription of MQTT 5, and acknowledge nothing that is published."""
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"\x20\x03\x00\x00\x00")
        subscribe = connection.recv(4096)
        connection.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
        while connection.recv(4096):
            pass


def test_what_may_be_dropped_leaves_room_for_messages() -> None:
    connected = threading.Event()
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_everything_but_messages, args=(server,), daemon=True).start()
        broker = Broker("127.0.0.1", server.getsockname()[1], MqttVersion.V5)
        public = Broker("192.0.2.1", 1883, MqttVersion.V5)
        connection = LocalConnection(LocalBroker(broker, Topics("home")), public, "id", 1000, lambda _: None)
        connection.on_connection(connected.set)
        runner = threading.Thread(target=connection.run, args=(stopping,))
        runner.start()
        try:
            assert connected.wait(20)
            reports = [connection.publish("home/error", b"a report") for _ in range(MAX_UNACKNOWLEDGED)]
            assert reports[0]
            assert not reports[-1]
            assert connection.send("home/in/alice._device.example.test", b"a message") is not None
        finally:
            stopping.set()
            connection.wake()
            runner.join()


def test_what_an_earlier_subscription_of_the_session_still_brings_is_ignored() -> None:
    """The kept session stays subscribed to HOME_ASSISTANT_PREFIX/status when HOME_ASSISTANT is off."""
    taken: list[Taken] = []
    is_taken = threading.Event()
    stopping = threading.Event()

    def take(one: Taken) -> None:
        taken.append(one)
        is_taken.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        sent = publish_packet(b"homeassistant/status", b"online") + publish_packet(b"home/out/bob.example.com", b"hi")
        old = threading.Thread(target=answer_with_messages, args=(server, sent), daemon=True)
        old.start()
        broker = Broker("127.0.0.1", server.getsockname()[1], MqttVersion.V311)
        public = Broker("192.0.2.1", 1883, MqttVersion.V5)
        connection = LocalConnection(LocalBroker(broker, Topics("home")), public, "id", 1000, take)
        runner = threading.Thread(target=connection.run, args=(stopping,))
        runner.start()
        assert is_taken.wait(20)
        stopping.set()
        connection.wake()
        runner.join()
    assert [one.topic for one in taken] == [b"home/out/bob.example.com"]


def test_the_public_broker_gets_no_login(caplog: pytest.LogCaptureFixture) -> None:
    received: list[bytes] = []
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=note_first_bytes, args=(server, received), daemon=True).start()
        same = Broker("127.0.0.1", port, MqttVersion.V311)
        connection = LocalConnection(LocalBroker(same, Topics("home")), same, "id", 1000, lambda _: None)
        runner = threading.Thread(target=connection.run, args=(stopping,))
        runner.start()
        deadline = time.monotonic() + 20
        while "has the address of the broker" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        stopping.set()
        connection.wake()
        runner.join()
    assert "has the address of the broker" in caplog.text
    assert set(received) <= {b""}
