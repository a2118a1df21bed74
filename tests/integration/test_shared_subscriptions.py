"""What Mosquitto does with messages for a shared subscription: the facts in docs/brokers.md that a group relies on."""

import base64
import hashlib
import json
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testbed.daemons.mosquitto import Mosquitto

_PATIENCE: Final = 20.0
_TOPIC: Final = "topic"
_FILTER: Final = f"$share/group/{_TOPIC}"
_MAX_QUEUED: Final = 10
_PASSWORD: Final = "secret"


class Subscriber:
    """A session with the shared subscription, and a connection to it.

    Args:
        broker: The broker.
        client_id: The session's name.
        receive_maximum: How many unacknowledged messages the broker may send.
        acknowledges: Whether it acknowledges messages.
        login: Its user name, with the password of all.
    """

    def __init__(
        self,
        broker: Mosquitto,
        client_id: str,
        *,
        receive_maximum: int = 100,
        acknowledges: bool = True,
        login: str | None = None,
    ) -> None:
        self.received: queue.Queue[str] = queue.Queue()
        self._answers: queue.Queue[object] = queue.Queue()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=not acknowledges,
        )
        self._client.on_message = lambda _client, _data, message: self.received.put(message.payload.decode())
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *answer: self._answers.put(not answer[3][0].is_failure)
        if login is not None:
            self._client.username_pw_set(login, _PASSWORD)
        self._client.on_unsubscribe = lambda *_: self._answers.put(None)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 600
        properties.ReceiveMaximum = receive_maximum
        self._client.connect(broker.host, broker.port, clean_start=False, properties=properties)
        self._client.loop_start()
        self.is_session_present = bool(self._answers.get(timeout=_PATIENCE))

    def subscribe(self) -> bool:
        """Subscribe, and return whether the broker has accepted that."""
        self._client.subscribe(_FILTER, 1)
        return bool(self._answers.get(timeout=_PATIENCE))

    def publish(self, number: int) -> None:
        """Publish messages to the topic."""
        for message in range(number):
            self._client.publish(_TOPIC, str(message), 1).wait_for_publish(_PATIENCE)

    def unsubscribe(self) -> None:
        """Unsubscribe, and wait for the answer."""
        self._client.unsubscribe(_FILTER)
        self._answers.get(timeout=_PATIENCE)

    def leave(self, *, ends_session: bool = False) -> None:
        """Disconnect."""
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        if ends_session:
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_stop()
        self._client.on_message = self._client.on_connect = None
        self._client.on_subscribe = self._client.on_unsubscribe = None

    def take(self, number: int) -> list[str]:
        """Return the next messages."""
        return [self.received.get(timeout=_PATIENCE) for _ in range(number)]

    def so_far(self) -> int:
        """Return how many messages have come until the broker has answered one more request."""
        self.unsubscribe()
        return self.received.qsize()

    def _on_connect(self, _client: Client, _data: object, flags: ConnectFlags, *_: object) -> None:
        self._answers.put(flags.session_present)


Join = Callable[..., Subscriber]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, extra=f"max_queued_messages {_MAX_QUEUED}\nmax_inflight_messages 0\n") as broker:
        yield broker


@pytest.fixture
def join(broker: Mosquitto) -> Iterator[Join]:
    with ExitStack() as stack:

        def join(client_id: str, *, acknowledges: bool = True, receive_maximum: int = 100) -> Subscriber:
            subscriber = Subscriber(broker, client_id, receive_maximum=receive_maximum, acknowledges=acknowledges)
            stack.callback(subscriber.leave)
            return subscriber

        yield join


@pytest.fixture
def publish(broker: Mosquitto) -> Iterator[Callable[[int], None]]:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(broker.host, broker.port)
    client.loop_start()

    def publish(number: int) -> None:
        for message in range(number):
            client.publish(_TOPIC, str(message), 1).wait_for_publish(_PATIENCE)

    yield publish
    client.disconnect()
    client.loop_stop()


def test_sessions_take_turns_also_those_whose_receiver_is_away(join: Join, publish: Callable[[int], None]) -> None:
    away, present = join("away"), join("present")
    for each in (away, present):
        each.subscribe()
    away.leave()
    publish(8)
    assert len(present.take(4)) == 4
    assert present.so_far() == 0
    back = join("away")
    assert back.is_session_present
    assert len(back.take(4)) == 4


def test_the_share_of_a_receiver_that_does_not_acknowledge_waits_for_it(
    join: Join, publish: Callable[[int], None]
) -> None:
    slow, present = join("slow", acknowledges=False, receive_maximum=1), join("present")
    for each in (slow, present):
        each.subscribe()
    publish(8)
    assert len(present.take(4)) == 4
    assert len(slow.take(1)) == 1
    assert (present.so_far(), slow.so_far()) == (0, 0)


def test_what_exceeds_the_limit_of_a_session_is_dropped_although_another_receiver_is_there(
    join: Join, publish: Callable[[int], None]
) -> None:
    away, present = join("away"), join("present")
    for each in (away, present):
        each.subscribe()
    away.leave()
    publish(4 * _MAX_QUEUED)
    assert len(present.take(2 * _MAX_QUEUED)) == 2 * _MAX_QUEUED
    back = join("away")
    assert len(back.take(_MAX_QUEUED)) == _MAX_QUEUED
    assert (present.so_far(), back.so_far()) == (0, 0)


def test_what_is_in_a_session_is_delivered_after_unsubscribing_and_new_messages_go_to_others(
    join: Join, publish: Callable[[int], None]
) -> None:
    away, present = join("away"), join("present")
    for each in (away, present):
        each.subscribe()
    away.leave()
    publish(8)
    back = join("away")
    back.unsubscribe()
    assert len(back.take(4)) == 4
    publish(8)
    assert len(present.take(12)) == 12
    assert back.so_far() == 0


def test_what_is_in_a_session_when_it_ends_is_given_to_no_one(join: Join, publish: Callable[[int], None]) -> None:
    slow, present = join("slow", acknowledges=False), join("present")
    for each in (slow, present):
        each.subscribe()
    publish(8)
    assert len(slow.take(4)) == 4
    slow.leave(ends_session=True)
    assert len(present.take(4)) == 4
    assert present.so_far() == 0
    assert not join("slow").is_session_present


def test_a_login_that_may_not_read_the_topic_takes_its_share_away_with_an_acl_file(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text(f"user receiver\ntopic readwrite {_TOPIC}\nuser stranger\ntopic read other\n")
    with Mosquitto(tmp_path, extra=f"acl_file {rights}\n") as broker:
        receiver, stranger = (Subscriber(broker, login, login=login) for login in ("receiver", "stranger"))
        assert receiver.subscribe()
        assert stranger.subscribe()
        receiver.publish(8)
        assert len(receiver.take(4)) == 4
        assert (receiver.so_far(), stranger.so_far()) == (0, 0)
        for each in (receiver, stranger):
            each.leave()


def test_the_dynamic_security_plugin_keeps_other_logins_out_of_the_group(tmp_path: Path) -> None:
    salt, iterations = b"salt of 12 b", 101
    login = {
        "password": base64.b64encode(hashlib.pbkdf2_hmac("sha512", _PASSWORD.encode(), salt, iterations)).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": iterations,
    }
    right = {"acltype": "subscribePattern", "topic": f"$share/+/{_TOPIC}", "priority": 0, "allow": True}
    rights = tmp_path / "dynamic-security.json"
    rights.write_text(
        json.dumps(
            {
                "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True, "subscribe": False},
                "clients": [
                    {"username": "receiver", "roles": [{"rolename": "receiver"}], **login},
                    {"username": "stranger", "roles": [], **login},
                ],
                "groups": [],
                "roles": [{"rolename": "receiver", "acls": [right]}],
            }
        )
    )
    (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    extra = f"plugin {plugin}\nplugin_opt_config_file {rights}\n"
    with Mosquitto(tmp_path, extra=extra, anonymous=False) as broker:
        receiver, stranger = (Subscriber(broker, login, login=login) for login in ("receiver", "stranger"))
        assert receiver.subscribe()
        assert not stranger.subscribe()
        receiver.publish(8)
        assert len(receiver.take(8)) == 8
        for each in (receiver, stranger):
            each.leave()
