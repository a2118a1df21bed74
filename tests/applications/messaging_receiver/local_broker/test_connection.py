"""The connection to a local broker that speaks only MQTT 3.1.1."""

import socket
import threading

import pytest

from idlib.local_broker.place import LocalBroker, Topics
from idlib.settings import MqttVersion
from idlib.transport import Broker
from messaging_receiver.local_broker.connection import LocalConnection

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
