"""One message to several recipients: each gets its own, and one that fails does not stop the others."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, authorities, trusted_keys, wait_until
from testbed.outbox import waiting
from testbed.programs import SEND_MESSAGE, SENDER, Device, Program, Result
from testbed.raw_mqtt import packet
from testbed.scripted_broker import Peer, ScriptedBroker, connack

GROUP = 3


@pytest.fixture(scope="module")
def group(lab: Lab) -> Iterator[list[tuple[Device, Program]]]:
    """Yield devices with their receivers, which print objects."""
    devices = [lab.published_device(f"member{number}").with_settings(OUTPUT_FORMAT="json") for number in range(GROUP)]
    receivers = [device.receiver() for device in devices]
    yield list(zip(devices, receivers, strict=True))
    for receiver in receivers:
        receiver.close()


def to(*names: str) -> list[str]:
    return [word for name in names for word in ("--to", name)]


def send(sender: Device, *arguments: str, stdin: str | bytes = b"") -> Result:
    """Run send_message.py without RECIPIENT."""
    return sender.run(SEND_MESSAGE, *arguments, stdin=stdin)


def reports(result: Result | Program) -> dict[str, dict[str, Any]]:
    lines = result.stdout.splitlines() if isinstance(result.stdout, str) else result.stdout
    read = [json.loads(line) for line in lines]
    by_recipient = {one["recipient"]: one for one in read}
    assert len(by_recipient) == len(read)
    return by_recipient


def test_each_recipient_gets_a_message_of_its_own(alice: Device, group: list[tuple[Device, Program]]) -> None:
    names = [device.name for device, _ in group]
    sent = send(alice, *to(*names, names[0].upper()), "to all of you", "--json", "--content-type", "text/plain")
    assert sent.status == 0, sent
    told = reports(sent)
    assert set(told) == set(names)
    assert len({one["id"] for one in told.values()}) == GROUP
    for device, receiver in group:
        receiver.wait_for_message(told[device.name]["id"])
        (line,) = [json.loads(line) for line in receiver.stdout if told[device.name]["id"] in line]
        assert (line["message"], line["content_type"]) == ("to all of you", "text/plain")
    assert sent.stderr.splitlines()[-1].endswith("Sent to 3 recipients: 3 acknowledged")


def test_2_a_recipient_without_a_record_does_not_stop_the_others(
    alice: Device, group: list[tuple[Device, Program]], tmp_path: Path
) -> None:
    names = [device.name for device, _ in group]
    nowhere = f"nobody.{names[0].partition('.')[2]}"
    path = tmp_path / "names"
    path.write_text(f"# the group\n{nowhere}\n\n{names[0]}  # first\n{names[1]}\n{names[0]}\n")
    sent = send(alice, "-", "--to-file", str(path), *to(names[2]), "--json", stdin="although one is missing")
    assert sent.status == 2, sent
    told = reports(sent)
    assert {name: one["result"] for name, one in told.items()} == {
        nowhere: "failed",
        **dict.fromkeys(names, "acknowledged"),
    }
    assert "does not exist in DNS" in told[nowhere]["reason"]
    assert f"The message to {nowhere} was not sent: " in sent.stderr
    for device, receiver in group:
        receiver.wait_for_message(told[device.name]["id"])


def test_7_a_recipient_without_a_receiver_is_reported(
    alice: Device, group: list[tuple[Device, Program]], lab: Lab
) -> None:
    absent, name = lab.published_device("absent").name, group[0][0].name
    sent = send(alice, *to(absent, name), "hello", "--json")
    assert (sent.status, reports(sent)[absent]["result"], reports(sent)[name]["result"]) == (
        7,
        "no-subscriber",
        "acknowledged",
    )
    both = send(alice, *to(absent, f"nobody.{name.partition('.')[2]}"), "hello")
    assert both.status == 2, both


def test_5_a_wrong_line_is_shown_and_nothing_is_sent(
    alice: Device, group: list[tuple[Device, Program]], tmp_path: Path
) -> None:
    path = tmp_path / "names"
    path.write_text(f"{group[0][0].name}\nbob\n")
    sent = send(alice, "never sent", "--to-file", str(path), "--json")
    assert (sent.status, sent.stdout) == (5, "")
    assert f"Error: '{path}', line 2: 'bob' is not a device name; " in sent.stderr
    piped = send(alice, "never sent", "--to-file", "-", stdin="\n# no one\n")
    assert (piped.status, "stdin names no recipient" in piped.stderr) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bob.example.test", "hello", "--to", "carol.example.test"), "give either RECIPIENT or --to and --to-file"),
        (("--to", "bob", "hello"), "argument --to: 'bob' is not a device name"),
        (("--to", "bob.example.test"), "give a MESSAGE, - to read it from stdin, or --file PATH"),
        (("--to", "bob.example.test", "hello", "--file", "x"), "give either MESSAGE or --file, not both"),
        (("--to", "bob.example.test", "hello", "--receipt"), "--receipt and --lines cannot be used with --to"),
        (("--to", "bob.example.test", "--lines"), "--receipt and --lines cannot be used with --to"),
        (("--to-file", "-", "-"), "stdin can be MESSAGE or --to-file, not both"),
        ((), "the following arguments are required: RECIPIENT"),
    ],
)
def test_64_contradicting_arguments_are_rejected(arguments: tuple[str, ...], said: str, alice: Device) -> None:
    rejected = send(alice, *arguments)
    assert (rejected.status, len(rejected.stderr.splitlines())) == (64, 1), rejected
    assert said in rejected.stderr


def test_3_without_a_broker_each_recipient_is_reported(alice: Device, group: list[tuple[Device, Program]]) -> None:
    names = [device.name for device, _ in group]
    sent = send(alice.with_settings(MQTT_PORT=str(free_port())), *to(*names), "hello", "--json", "--timeout", "2")
    assert sent.status == 3, sent
    assert {name: one["result"] for name, one in reports(sent).items()} == dict.fromkeys(names, "failed")
    assert sent.stderr.splitlines()[-1].endswith("Sent to 3 recipients: 3 failed")


def test_queued_messages_to_several_are_delivered_after_an_outage(
    sender: Device, recipient: Device, receiver: Program, lab: Lab, own_mosquitto: Mosquitto
) -> None:
    other = lab.published_device("other").with_settings(MQTT_PORT=str(own_mosquitto.port))
    with other.receiver() as second:
        own_mosquitto.stop()
        names = [recipient.name, other.name]
        nowhere = f"nobody.{names[0].partition('.')[2]}"
        queued = send(sender, *to(*names), "to both later", "--queue", "--timeout", "2", "--json")
        assert queued.status == 0, queued
        assert [one["result"] for one in reports(queued).values()] == ["queued", "queued"]
        assert queued.stderr.count("is queued, and those to other recipients may be") == 1
        # The broker is the first to fail, so whether this one has a record shows later.
        assert send(sender, *to(nowhere), "hello", "--queue", "--timeout", "2").status == 0
        own_mosquitto.start()
        # Later messages must not overtake those that are queued.
        after = send(sender, *to(*names), "to both after that", "--queue", "--json")
        assert [one["result"] for one in reports(after).values()] == ["queued", "queued"]
        with sender.start(SENDER):
            for program in (receiver, second):
                program.wait_for_message("to both after that", timeout=60)
        for program in (receiver, second):
            assert [line.split("says: ")[1] for line in program.stdout] == ['to both later"', 'to both after that"']
        wait_until(lambda: waiting(sender) == 1, "an outbox with only the message to no one")


@pytest.fixture
def resolver_with_a_dead_zone(lab: Lab, tmp_path: Path) -> Iterator[Unbound]:
    (tmp_path / "resolver").mkdir()
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        dead = {"dead.test": silent.getsockname()[1]}
        with Unbound(tmp_path / "resolver", authorities(lab.knot) | dead, trusted_keys(lab.knot)) as unbound:
            yield unbound


def test_a_dead_zone_delays_only_its_own_names(
    alice: Device, group: list[tuple[Device, Program]], resolver_with_a_dead_zone: Unbound, tmp_path: Path
) -> None:
    dead = [f"device{number}.dead.test" for number in range(10)]
    names = [device.name for device, _ in group]
    path = tmp_path / "names"
    path.write_text("\n".join([*dead, *names]))
    there = alice.with_settings(DNS_RESOLVER=resolver_with_a_dead_zone.address)
    sent = send(there, "hello", "--to-file", str(path), "--json")
    assert sent.status == 2, sent
    order = [json.loads(line)["recipient"] for line in sent.stdout.splitlines()]
    # Without a rule, the last of the dead names would be asked for before the others.
    assert set(order[-2:]) <= set(dead)
    assert {name: one["result"] for name, one in reports(sent).items()} == {
        **dict.fromkeys(dead, "failed"),
        **dict.fromkeys(names, "acknowledged"),
    }


def test_130_after_ctrl_c_each_recipient_has_a_report(alice: Device, silent_resolver: str) -> None:
    names = [f"device{number}.dead.test" for number in range(20)]
    there = alice.with_settings(DNS_RESOLVER=silent_resolver)
    with there.start(SEND_MESSAGE, *to(*names), "hello", "--json") as program:
        program.wait_for("a first result", lambda: bool(program.stdout))
        program.signal(signal.SIGINT)
        assert program.wait_for_end(20) == 130
    told = reports(program)
    assert set(told) == set(names)
    assert {one["result"] for one in told.values()} == {"failed"}
    assert told[names[-1]]["reason"] == "interrupted"
    assert any(f"The message to {names[-1]} was not sent: interrupted" in line for line in program.stderr)
    assert "Sent to 20 recipients: 20 failed" in program.stderr[-2]
    assert program.stderr[-1] == "Interrupted."


def test_143_messages_that_sigterm_left_unacknowledged_have_a_reason(
    alice: Device, group: list[tuple[Device, Program]]
) -> None:
    names = [device.name for device, _ in group]
    published: list[int] = []

    def serve(peer: Peer) -> None:
        peer.accept(connack(b""))
        while kind := peer.read()[0]:
            published.append(kind)

    with (
        ScriptedBroker(serve) as broker,
        alice.with_settings(MQTT_PORT=str(broker.address.port)).start(
            SEND_MESSAGE, *to(*names), "hello", "--json"
        ) as program,
    ):
        wait_until(lambda: len(published) >= GROUP, "messages")
        program.signal(signal.SIGTERM)
        assert program.wait_for_end(20) == -signal.SIGTERM
    told = [(one["result"], one["reason"]) for one in reports(program).values()]
    assert told == GROUP * [("unacknowledged", "terminated")]


def test_3_a_message_that_the_broker_never_answers_does_not_stop_the_others(
    alice: Device, group: list[tuple[Device, Program]], resolver_with_a_dead_zone: Unbound, tmp_path: Path
) -> None:
    names = [device.name for device, _ in group]
    # Looking them up takes longer than the time for the broker, so the last recipient comes after that.
    dead = [f"device{number}.dead.test" for number in range(8)]
    held: list[bytes] = []

    def serve(peer: Peer) -> None:
        peer.accept(connack(b""))
        while True:
            kind, body = peer.read()
            if not kind:
                return
            if kind & 0xF0 != 0x30:
                continue
            length = int.from_bytes(body[:2])
            if not held and body[2 : 2 + length] == names[0].encode():
                held.append(body)
                continue
            peer.send(packet(0x40, body[2 + length : 4 + length]))

    path = tmp_path / "names"
    path.write_text("\n".join([*names[:-1], *dead, names[-1]]))
    with ScriptedBroker(serve) as broker:
        there = alice.with_settings(MQTT_PORT=str(broker.address.port), DNS_RESOLVER=resolver_with_a_dead_zone.address)
        sent = send(there, "hello", "--to-file", str(path), "--json", "--timeout", "4")
    assert sent.status == 3, sent
    told = {name: one["result"] for name, one in reports(sent).items()}
    assert told == {
        names[0]: "unacknowledged",
        **dict.fromkeys(names[1:], "acknowledged"),
        **dict.fromkeys(dead, "failed"),
    }


def test_a_hundred_recipients_are_each_reported(
    alice: Device, group: list[tuple[Device, Program]], tmp_path: Path
) -> None:
    name = group[0][0].name
    names = [f"missing{number}.{name.partition('.')[2]}" for number in range(100)]
    path = tmp_path / "names"
    path.write_text("\n".join([*names, name]))
    sent = send(alice, "hello", "--to-file", str(path), "--json")
    assert sent.status == 2
    told = reports(sent)
    assert len(told) == 101
    assert told[name]["result"] == "acknowledged"
    assert sent.stderr.splitlines()[-1].endswith("Sent to 101 recipients: 1 acknowledged, 100 failed")
