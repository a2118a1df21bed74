"""What becomes of the sessions at the broker when receivers of a group die, are stopped, and are started again."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from idlib.settings import MqttVersion
from idlib.transport import Broker
from idlib.transport.inquiry import Inquiry
from testbed.daemons.postgresql import Postgresql
from testbed.lab import Lab, wait_until
from testbed.programs import RECEIVER, Device, Program
from testbed.scripted_broker import LOOPBACK, Peer, ScriptedBroker, connack
from tests.integration.test_faults import log_lines

_LEFT = "The receiver has left its group, and its session at the broker has ended"


def _has_session(lab: Lab, client_id: str) -> bool:
    """Return whether the broker has a session; if not, none is left behind."""
    with Inquiry(
        Broker(lab.mosquitto.host, lab.mosquitto.port, MqttVersion.V5, session_expiry=600), client_id, 5
    ) as inquiry:
        is_present = inquiry.ask()
        if not is_present:
            inquiry.end()
    assert is_present is not None
    return is_present


def _client_ids(postgresql: Postgresql, device: Device) -> list[str]:
    return postgresql.run("SELECT client_id FROM receiver ORDER BY client_id", device.settings["STORE"]).split()


def _printed(receivers: Sequence[Program]) -> list[str]:
    return sorted(line for receiver in receivers for line in receiver.stdout)


def _lines(sender: Device, texts: Sequence[str]) -> list[str]:
    return [f'"{sender.name} says: {text}"' for text in texts]


@pytest.fixture
def group(lab: Lab, postgresql: Postgresql, request: pytest.FixtureRequest) -> Device:
    """Return a device whose receivers are a group, with a database of its own."""
    label = f"group{abs(hash(request.node.name)) % 10**6}"
    return lab.published_device(label).with_settings(STORE=postgresql.new_database(), RECEIVER_GROUP="on")


@pytest.fixture
def other(group: Device, tmp_path: Path) -> Device:
    """Return the device as its second receiver has it."""
    return group.with_settings(DATA_PATH=str(tmp_path))


def test_messages_that_wait_for_a_killed_receiver_are_printed_by_another(
    lab: Lab, alice: Device, postgresql: Postgresql, group: Device, other: Device
) -> None:
    texts = [f"message {number:02}" for number in range(20)]
    with group.receiver() as first:
        (dead,) = _client_ids(postgresql, group)
        with other.receiver() as second:
            first.kill()
            assert alice.send(group, "--lines", stdin="\n".join(texts)).status == 0
            second.wait_for("its share", lambda: len(second.stdout) == 10)
            # As after 15 s.
            postgresql.run(
                f"UPDATE receiver SET expires_at = now() WHERE client_id = '{dead}'", group.settings["STORE"]
            )
            second.wait_for_log("The session of a receiver that is gone is drained")
            assert _printed([second]) == _lines(alice, texts)
            assert dead not in _client_ids(postgresql, group)
            assert not _has_session(lab, dead)
            assert second.stop(5) == 0
            (stopped,) = log_lines(second, "Stopped: ")
            assert "received=20 printed=20 refused=0" in stopped
            assert not log_lines(second, "Traceback")


def test_a_receiver_that_is_stopped_leaves_nothing_at_the_broker_and_the_last_keeps_its_session(
    lab: Lab, alice: Device, postgresql: Postgresql, group: Device, other: Device
) -> None:
    texts = [f"message {number:03}" for number in range(120)]
    with group.receiver() as first:
        (stopped,) = _client_ids(postgresql, group)
        with other.receiver() as second:
            both = [first, second]
            wait_until(
                lambda: "t\nt" in postgresql.run("SELECT is_subscribed FROM receiver", group.settings["STORE"]),
                "two subscriptions",
            )
            sending = threading.Thread(target=alice.send, args=(group, "--lines"), kwargs={"stdin": "\n".join(texts)})
            sending.start()
            first.wait_for("a message", lambda: bool(first.stdout))
            assert first.stop(5) == 0
            sending.join(30)
            assert log_lines(first, _LEFT)
            assert not _has_session(lab, stopped)
            wait_until(lambda: len(_printed(both)) >= len(texts), "all messages")
            assert _printed(both) == _lines(alice, texts)
            (kept,) = _client_ids(postgresql, group)
            assert second.stop(5) == 0
            assert log_lines(second, "No other receiver stays: the session at the broker is kept for the next start")
    assert alice.send(group, "while none runs").status == 0
    with group.receiver() as third:
        third.wait_for_message("while none runs")
        assert _client_ids(postgresql, group) == [kept]
        assert third.stdout == _lines(alice, ["while none runs"])


def test_a_broker_without_shared_subscriptions_ends_the_receiver_with_one_line(group: Device) -> None:
    def script(peer: Peer) -> None:
        peer.accept(connack(b"\x2a\0"))
        peer.wait_for_end()

    with ScriptedBroker(script) as broker:
        result = group.with_settings(MQTT_HOST=LOOPBACK, MQTT_PORT=str(broker.address.port)).run(RECEIVER)
    assert result.status == 3
    assert result.stderr.splitlines()[-1].endswith(
        f"the broker {broker.address} has no shared subscriptions; set SUBSCRIPTION to what the broker has in place of"
        " shared subscriptions, such as a queue, or use another broker (docs/brokers.md)"
    )
    assert "Traceback" not in result.stderr


def test_a_broker_without_mqtt_5_is_one_line_that_does_not_ask_for_another_version(group: Device) -> None:
    def script(peer: Peer) -> None:
        # Unacceptable protocol level (MQTT 3.1.1, section 3.2.2.3).
        peer.accept(b"\x20\x02\x00\x01")

    with (
        ScriptedBroker(script) as broker,
        group.with_settings(MQTT_HOST=LOOPBACK, MQTT_PORT=str(broker.address.port)).start(RECEIVER) as receiver,
    ):
        receiver.wait_for_log("Unsupported protocol version; RECEIVER_GROUP=on needs a broker that speaks MQTT 5")


def test_a_subscription_to_another_topic_than_the_devices_ends_the_receiver_with_one_line(group: Device) -> None:
    result = group.with_settings(SUBSCRIPTION=f"$share/collectors/{group.name}s").run(RECEIVER)
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith(
        f"SUBSCRIPTION is a shared subscription to '{group.name}s', and messages to this device have the topic"
        f" '{group.name}': set it to $share/GROUP/{group.name}, or unset it"
    )
    # Anyone who knows it could take messages away.
    assert "collectors" not in line


def test_a_subscription_to_the_devices_topic_receives_and_for_a_queue_the_log_names_that_topic(
    alice: Device, group: Device
) -> None:
    with group.with_settings(SUBSCRIPTION=f"$share/collectors/{group.name}").receiver() as receiver:
        assert alice.send(group, "hello").status == 0
        receiver.wait_for_message("hello")
        assert not log_lines(receiver, "must put")
    with group.with_settings(SUBSCRIPTION="$queue/collectors").receiver() as receiver:
        (line,) = log_lines(receiver, "must put")
    assert line.endswith(
        f"The broker must put messages to the topic '{group.name}' into what SUBSCRIPTION names; this cannot be checked"
    )
