"""A zone whose servers never answer does not affect others, however many messages come from it."""

import json
import secrets
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jwcrypto.common import base64url_encode
from jwcrypto.jwe import JWE

from testbed.daemons.process import LOOPBACK
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, authorities, trusted_keys, wait_until
from testbed.messages import BrokerClient, encrypted, public_jwk, signed, uri
from testbed.programs import SEND_MESSAGE, Device, Program

_DEAD_ZONE = "dead.test"
_DEAD_MESSAGES = 1000
_MESSAGES_BEFORE = 10
_MESSAGES_DURING = 40
_SECONDS_BETWEEN_MESSAGES = 0.15
_PROMISED_SECONDS = 0.1
# Less than a third of the duration of a look-up in the dead zone, and more than the pauses on a busy machine.
_ANSWERLESS_SECONDS = 2


@pytest.fixture
def resolver_with_a_dead_zone(lab: Lab, tmp_path: Path) -> Iterator[Unbound]:
    (tmp_path / "unbound").mkdir()
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        dead = {_DEAD_ZONE: silent.getsockname()[1]}
        with Unbound(tmp_path / "unbound", authorities(lab.knot) | dead, trusted_keys(lab.knot)) as unbound:
            yield unbound


def _from_the_dead_zone(recipient: Device) -> list[str]:
    """Return a message from each name, and as many again from one; their signatures are never checked."""
    key = public_jwk(recipient)
    outer = json.dumps({"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "typ": "JWE", "x5u": uri(recipient)})
    messages = []
    for number in range(_DEAD_MESSAGES):
        sender = f"device-{number}.{_DEAD_ZONE}" if number % 2 else f"device.{_DEAD_ZONE}"
        binding = {"aud": recipient.name, "iat": int(time.time()), "jti": secrets.token_urlsafe(16)}
        protected = {"alg": "RS256", "x5u": f"dns://{sender}?type=TLSA", **binding}
        inner = {
            "payload": base64url_encode("never to be seen"),
            "protected": base64url_encode(json.dumps(protected)),
            "signature": base64url_encode(bytes(256)),
        }
        token = JWE(json.dumps(inner).encode(), protected=outer)
        token.add_recipient(key)
        messages.append(str(token.serialize()))
    return messages


def _good(sender: Device, recipient: Device, label: str, number: int) -> dict[str, str]:
    """Return a few messages by their texts."""
    texts = [f"{label} {position}." for position in range(number)]
    return {text: encrypted(signed(text, sender, recipient), recipient) for text in texts}


def _latencies(messages: dict[str, str], recipient: Device, receiver: Program, client: BrokerClient) -> list[float]:
    """Return for each message the seconds from the broker's acknowledgement to the printed line."""
    latencies = []
    for text, message in messages.items():
        client.publish(recipient, message)
        acknowledged = time.monotonic()
        receiver.wait_for_message(text)
        latencies.append(time.monotonic() - acknowledged)
        time.sleep(_SECONDS_BETWEEN_MESSAGES)
    return latencies


def test_a_thousand_messages_from_a_dead_zone_do_not_delay_others(
    lab: Lab,
    resolver_with_a_dead_zone: Unbound,
    anybody: BrokerClient,
    receiver_of: Callable[[Device], Program],
) -> None:
    # Its record expires every few seconds, so that it is looked up again while the others' look-ups hang.
    sender = lab.published_device("steady", ttl=1)
    recipient = lab.published_device("besieged").with_settings(DNS_RESOLVER=resolver_with_a_dead_zone.address)
    dead = _from_the_dead_zone(recipient)
    before = _good(sender, recipient, "before", _MESSAGES_BEFORE)
    during = _good(sender, recipient, "during", _MESSAGES_DURING)
    receiver = receiver_of(recipient)
    undisturbed = _latencies(before, recipient, receiver, anybody)
    asked_before = resolver_with_a_dead_zone.queries(sender.name)

    def besiege() -> None:
        enemy = BrokerClient(lab.mosquitto)
        for message in dead:
            enemy.publish(recipient, message)
            # Spread over the time of the others, to measure the wait for DNS, not the speed of decryption.
            time.sleep(_MESSAGES_DURING * _SECONDS_BETWEEN_MESSAGES / _DEAD_MESSAGES)
        enemy.close()

    siege = threading.Thread(target=besiege)
    siege.start()
    disturbed = _latencies(during, recipient, receiver, anybody)
    siege.join()
    # The median, because the worst delay depends on the other load on this machine.
    assert statistics.median(disturbed) - statistics.median(undisturbed) < _PROMISED_SECONDS
    assert max(disturbed) < _ANSWERLESS_SECONDS
    assert resolver_with_a_dead_zone.queries(sender.name) > asked_before
    assert any(f"waiting sender=device.{_DEAD_ZONE} " in line for line in receiver.stderr)
    assert not any("never to be seen" in line for line in receiver.stdout)


def test_a_line_is_reported_although_a_signal_comes_while_the_senders_own_record_is_looked_up(
    lab: Lab, resolver_with_a_dead_zone: Unbound, bob: Device, bob_receiver: Program
) -> None:
    sender = lab.device_with_key("unknown", _DEAD_ZONE).with_settings(DNS_RESOLVER=resolver_with_a_dead_zone.address)
    with sender.start(SEND_MESSAGE, bob.name, "--lines", "--json") as program:
        program.write("one\n")
        wait_until(lambda: resolver_with_a_dead_zone.queries(sender.name) > 0, "look-up of the sender's own record")
        # The broker has acknowledged the line by then; the program waits 3 s for the look-up.
        time.sleep(1)
        program.signal(signal.SIGINT)
        assert program.wait_for_end(10) == 130
    assert [json.loads(line)["result"] for line in program.stdout] == ["acknowledged"]
    assert any(f"acknowledged 1 message to {bob.name}: line 1" in line for line in program.stderr)
