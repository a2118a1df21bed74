"""The bridge to the user's own broker at home, between two real brokers."""

import json
import queue
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import find, free_port
from testbed.lab import Lab, wait_until
from testbed.metrics import page, samples
from testbed.programs import RECEIVER, SENDER, Device, Program
from tests.integration.kept_session import device_with_session
from tests.integration.test_tls import Authority

_PATIENCE = 20.0
# So that a broker that is killed still has what it has acknowledged.
_SAVED = "autosave_on_changes true\nautosave_interval 1\n"
CONNECTED = "Connected to the local broker"


class Home:
    """A client at the local broker with a session that outlives its connection."""

    def __init__(self, broker: Mosquitto, *topics: str, user: str | None = None, password: str = "") -> None:
        self.messages: queue.Queue[MQTTMessage] = queue.Queue()
        self._subscribed: queue.Queue[object] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, "home", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.on_message = lambda _client, _data, message: self.messages.put(message)
        self._client.on_subscribe = lambda *_: self._subscribed.put(None)
        self._client.on_connect = self._subscribe
        self._topics = topics
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        expiry.SessionExpiryInterval = 3600
        self._client.connect(broker.host, broker.port, clean_start=False, properties=expiry)
        self._client.loop_start()
        self._subscribed.get(timeout=_PATIENCE)

    def publish(self, topic: str, payload: str | bytes, *, qos: int = 1, retain: bool = False) -> None:
        wait_until(self._client.is_connected, "the connection of the client at home")
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(_PATIENCE)

    def publish_all(self, topic: str, payloads: list[bytes]) -> None:
        wait_until(self._client.is_connected, "the connection of the client at home")
        sent = [self._client.publish(topic, payload, qos=1) for payload in payloads]
        sent[-1].wait_for_publish(60)

    def _subscribe(self, *_: object) -> None:
        self._client.subscribe([(topic, 1) for topic in self._topics])

    def next(self) -> MQTTMessage:
        return self.messages.get(timeout=_PATIENCE)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "local").mkdir()
    with Mosquitto(tmp_path / "local", extra=_SAVED) as mosquitto:
        yield mosquitto


@pytest.fixture
def home(broker: Mosquitto) -> Iterator[Home]:
    client = Home(broker, "messenger/#")
    yield client
    client.close()


@pytest.fixture
def bridged(lab: Lab, broker: Mosquitto, tmp_path: Path) -> Device:
    """Return a device with a local broker, for which messages are kept at the public one."""
    device = device_with_session(lab, "bridged", tmp_path / "data")
    return device.with_settings(LOCAL_MQTT_URL=f"mqtt://127.0.0.1:{broker.port}", OUTPUT_FORMAT="json")


def outbox(device: Device) -> list[tuple[str, str | bytes]]:
    """Return the recipients and texts in a device's outbox."""
    path = Path(device.settings["DATA_PATH"]) / "outbox.sqlite3"
    with suppress(sqlite3.OperationalError):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT recipient, text FROM outgoing ORDER BY number").fetchall()
        finally:
            connection.close()
    return []


def texts_in(home: Home, number: int) -> list[str]:
    """Return the texts of the next messages below messenger/in."""
    texts: list[str] = []
    while len(texts) < number:
        message = home.next()
        if message.topic.startswith("messenger/in/"):
            texts.append(json.loads(message.payload)["message"])
    return texts


def health(device: Device) -> str:
    return device.run(RECEIVER, "--health").stdout.strip()


def started(device: Device, *arguments: str) -> Program:
    program = device.start(RECEIVER, *arguments)
    try:
        program.wait_for_log(CONNECTED)
    except BaseException:
        program.close()
        raise
    return program


def test_messages_go_both_ways_and_the_status_shows_the_connection(
    alice: Device, bridged: Device, home: Home, bob: Device, bob_receiver: Program
) -> None:
    assert alice.send(bridged, "for the kitchen").status == 0
    measured = free_port()
    with started(bridged.with_settings(METRICS_ADDRESS=str(measured))) as receiver, bridged.start(SENDER) as sender:
        printed = receiver.wait_for_message("for the kitchen")
        status, message = home.next(), home.next()
        assert (status.topic, status.payload) == ("messenger/status", b"online")
        assert (message.topic, message.retain) == (f"messenger/in/{alice.name}", False)
        assert json.loads(message.payload) == json.loads(printed)
        sender.wait_for_log("")
        home.publish(f"messenger/out/{bob.name}", "from the kitchen, grüezi")
        bob_receiver.wait_for_message(f"{bridged.name} says: from the kitchen, grüezi")
        assert health(bridged) == "ok: connected, subscribed, threads moving, own record in DNS"
        read = samples(page(measured))
        names = ("connected", "published_total", "taken_total")
        assert [read[f"local_broker_{name}", ()] for name in names] == [1, 1, 1]
        assert receiver.stop() == 0
    own = [home.next(), home.next()]
    assert [(message.topic, message.payload) for message in own] == [
        (f"messenger/out/{bob.name}", "from the kitchen, grüezi".encode()),
        ("messenger/status", b"offline"),
    ]


def test_nothing_is_acknowledged_outside_while_the_local_broker_is_away(
    alice: Device, bridged: Device, home: Home, broker: Mosquitto
) -> None:
    with started(bridged) as receiver:
        broker.kill()
        receiver.wait_for_log("The connection to the local broker")
        texts = [f"number {number}" for number in range(5)]
        assert alice.send(bridged, "--lines", stdin="\n".join(texts)).status == 0
        receiver.wait_for_log("cannot be reached")
        assert "local broker" in health(bridged)
        before = time.monotonic()
        assert receiver.stop() == 0
        assert time.monotonic() - before < 5
        assert receiver.stdout == []
    broker.start()
    with started(bridged) as receiver:
        assert texts_in(home, 5) == texts
        receiver.wait_for_message("number 4")
        assert [json.loads(line)["message"] for line in receiver.stdout] == texts


def test_a_receiver_that_is_killed_loses_nothing_and_repeats_at_most_one_group(
    alice: Device, bridged: Device, home: Home
) -> None:
    texts = [f"number {number}" for number in range(60)]
    assert alice.send(bridged, "--lines", stdin="\n".join(texts)).status == 0
    with started(bridged) as receiver:
        receiver.wait_for_message("number 7")
        receiver.kill()
    with started(bridged) as receiver:
        receiver.wait_for_message("number 59")
    got: list[str] = []
    while "number 59" not in got:
        got += texts_in(home, 1)
    assert list(dict.fromkeys(got)) == texts
    assert len(got) - len(texts) <= 32


def test_what_is_published_while_the_receiver_or_the_broker_is_killed_gets_into_the_outbox(
    bridged: Device, home: Home, broker: Mosquitto
) -> None:
    started(bridged).close()
    texts = [f"number {number}" for number in range(40)]
    home.publish_all("messenger/out/bob.example.com", [text.encode() for text in texts[:30]])
    with started(bridged) as receiver:
        wait_until(lambda: len(outbox(bridged)) >= 5, "the first messages")
        broker.kill()
        receiver.wait_for_log("The connection to the local broker")
        broker.start()
        wait_until(lambda: len({text for _, text in outbox(bridged)}) == 30, "the messages after the broker")
        receiver.kill()
    home.publish_all("messenger/out/bob.example.com", [text.encode() for text in texts[30:]])
    with started(bridged):
        wait_until(lambda: len({text for _, text in outbox(bridged)}) == 40, "the messages after the receiver")
    stored = [text for _, text in outbox(bridged)]
    assert list(dict.fromkeys(stored)) == texts


def test_the_local_broker_alone_gets_messages_if_that_is_wanted(alice: Device, bridged: Device, home: Home) -> None:
    only = bridged.with_settings(LOCAL_MQTT_ONLY="on")
    assert alice.send(bridged, "secret of the house").status == 0
    with only.start(RECEIVER, "-C", "1") as receiver:
        assert receiver.wait_for_end() == 0
        assert receiver.stdout == []
    assert texts_in(home, 1) == ["secret of the house"]
    ended = only.run(RECEIVER, "--exec", "cat")
    assert (ended.status, ended.stderr) == (
        1,
        "Error: LOCAL_MQTT_ONLY=on sends messages to the local broker only, so --exec would get none; unset one\n",
    )


def test_a_command_runs_besides_the_local_broker(alice: Device, bridged: Device, home: Home) -> None:
    assert alice.send(bridged, "to both").status == 0
    with bridged.start(RECEIVER, "--exec", "cat", "-C", "1") as receiver:
        assert receiver.wait_for_end() == 0
        assert receiver.stdout == ["to both"]
    assert texts_in(home, 1) == ["to both"]


@pytest.mark.parametrize("only", ["off", "on"])
def test_a_message_that_the_local_broker_refuses_does_not_block_others(
    alice: Device, bridged: Device, tmp_path: Path, only: str
) -> None:
    (tmp_path / "forbidding").mkdir()
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite messenger/status\ntopic read messenger/out/#\n")
    with Mosquitto(tmp_path / "forbidding", extra=f"acl_file {rules}\n") as broker:
        device = bridged.with_settings(LOCAL_MQTT_URL=f"mqtt://127.0.0.1:{broker.port}", LOCAL_MQTT_ONLY=only)
        assert alice.send(bridged, "forbidden").status == 0
        with started(device) as receiver:
            receiver.wait_for_log("The local broker does not accept the message")
            if only == "on":
                receiver.wait_for_log("Set aside the message")
                (kept,) = (tmp_path / "data/set-aside").iterdir()
                assert json.loads(kept.read_text())["message"] == "forbidden"
            else:
                receiver.wait_for_message("forbidden")
            assert any("Not authorized" in line for line in receiver.stderr)


def errors_in(home: Home, number: int) -> list[dict[str, str]]:
    """Return the next reports below messenger/error."""
    reports: list[dict[str, str]] = []
    while len(reports) < number:
        message = home.next()
        if message.topic == "messenger/error":
            reports.append(json.loads(message.payload))
    return reports


def test_what_cannot_be_sent_is_reported_and_blocks_nothing(bridged: Device, home: Home, broker: Mosquitto) -> None:
    name = "bob.example.com"
    home.publish(f"messenger/out/{name}", "kept for ever", retain=True)
    with started(bridged) as receiver:
        home.publish("messenger/out/bob\u202e", "to no name")
        home.publish("messenger/out/localhost", "to one label")
        home.publish(f"messenger/out/{name}", "")
        home.publish(f"messenger/out/{name}", b"x" * 5_000_000)
        home.publish(f"messenger/out/{name}", b"\xff\xfe")
        home.publish(f"messenger/out/{name}", "last")
        wait_until(lambda: len(outbox(bridged)) == 2, "the good messages")
        assert outbox(bridged) == [(name, b"application/octet-stream\0\xff\xfe"), (name, "last")]
        reports = errors_in(home, 5)
        assert [report["topic"] for report in reports] == [
            f"messenger/out/{name}",
            "messenger/out/bob\u202e",
            "messenger/out/localhost",
            f"messenger/out/{name}",
            f"messenger/out/{name}",
        ]
        assert "retained" in reports[0]["error"]
        assert "5000" in reports[4]["error"] or "more than any message" in reports[4]["error"]
        receiver.wait_for_log("What was published to 'messenger/out/bob\\u202e' at the local broker is not sent")
        assert any("deliver is not running" in line or "is not running" in line for line in receiver.stderr)
        assert not any("\u202e" in line for line in receiver.stderr)


def test_a_flood_from_the_local_broker_is_held_back_and_arrives(bridged: Device, home: Home) -> None:
    texts = [b"%d" % number for number in range(300)]
    with started(bridged) as receiver:
        home.publish_all("messenger/out/bob.example.com", texts)
        wait_until(lambda: len(outbox(bridged)) == len(texts), "the whole flood", 60)
        assert [text for _, text in outbox(bridged)] == [text.decode() for text in texts]
        assert receiver.is_running


def test_a_login_over_tls_and_a_wrong_password(alice: Device, bridged: Device, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("home")
    passwords, password = tmp_path / "passwords", tmp_path / "password"
    subprocess.run([find("mosquitto_passwd"), "-b", "-c", str(passwords), "device", "right"], check=True)
    password.write_text("right\n")
    extra = f"certfile {certificate}\nkeyfile {key}\npassword_file {passwords}\n"
    (tmp_path / "protected").mkdir()
    with Mosquitto(tmp_path / "protected", anonymous=False, extra=extra) as broker:
        device = bridged.with_settings(
            LOCAL_MQTT_URL=f"mqtts://device@127.0.0.1:{broker.port}",
            LOCAL_MQTT_CA_FILE=str(authority.file),
            LOCAL_MQTT_PASSWORD_FILE=str(password),
        )
        assert alice.send(bridged, "protected").status == 0
        with started(device) as receiver:
            receiver.wait_for_message("protected")
        password.write_text("wrong-Xq81\n")
        with device.start(RECEIVER) as receiver:
            receiver.wait_for_log(
                "check the user name in LOCAL_MQTT_URL and the first line of LOCAL_MQTT_PASSWORD_FILE"
            )
            assert "refuses the connection: Not authorized" in health(device)
            assert not any("Xq81" in line for line in receiver.stderr)
        with device.without_setting("LOCAL_MQTT_CA_FILE").start(RECEIVER) as receiver:
            receiver.wait_for_log("set LOCAL_MQTT_CA_FILE to the file of its CA")


def test_the_public_broker_is_refused_by_name_and_by_address(lab: Lab, bridged: Device) -> None:
    port = lab.mosquitto.port
    ended = bridged.with_settings(LOCAL_MQTT_URL=f"mqtt://localhost:{port}").run(RECEIVER)
    assert (ended.status, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith(f"LOCAL_MQTT_URL names the broker 127.0.0.1:{port}, through which devices reach")
    # Only the look-up of this name shows that both are one.
    device = bridged.with_settings(MQTT_HOST="127.1", LOCAL_MQTT_URL=f"mqtt://127.0.0.1:{port}")
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log(f"The local broker 127.0.0.1:{port} has the address of the broker 127.1:{port}")
        receiver.wait_for_log("MQTT subscription active.")
        assert health(device).startswith(f"The local broker 127.0.0.1:{port} has the address of the broker")


def test_settings_of_the_local_broker_alone_are_refused(bridged: Device) -> None:
    ended = bridged.without_setting("LOCAL_MQTT_URL").with_settings(LOCAL_MQTT_PREFIX="home").run(RECEIVER)
    assert (ended.status, ended.stderr) == (
        1,
        "LOCAL_MQTT_PREFIX is set, and LOCAL_MQTT_URL is not: set LOCAL_MQTT_URL, or unset LOCAL_MQTT_PREFIX\n",
    )
