"""Well-formed messages that must be refused: for others, too old or too new, or from unauthenticated senders."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jwcrypto.jwk import JWK

from idlib.envelope import decrypt, encrypt
from idlib.keys import read_private_key
from idlib.names import IdentityName
from idlib.storage.replay import ReplayMemory
from testbed.forge import b64, compact, flattened, jws, unb64
from testbed.hostile import UNBOUND, Attack, attack_on, new_key
from testbed.lab import BOGUS, SECURE, UNSIGNED, Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import Device, Program

DAY = 24 * 3600


@pytest.fixture(scope="module", params=["rsa2048", "p256"])
def attack(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Attack]:
    with attack_on(lab, KEY_TYPE=request.param) as attack:
        yield attack


@pytest.fixture
def listener(lab: Lab) -> Iterator[BrokerClient]:
    client = BrokerClient(lab.mosquitto)
    yield client
    client.close()


def written(attack: Attack, **changes: Any) -> bytes:
    """Return a message with other parameters in its JWS protected header, rightly signed."""
    return flattened(attack.forge.message(reader=attack.kind, **changes))


def from_device(attack: Attack, sender: Device) -> bytes:
    """Return a message from another device to the recipient."""
    keys = {attack.kind: read_private_key(sender.key_path)}
    forge = dataclasses.replace(attack.forge, alice=IdentityName(sender.name), sender_keys=keys)
    return flattened(forge.message(sender=attack.kind, reader=attack.kind))


def sealed_again(payload: bytes, by: Device, to: Device) -> bytes:
    """Return a message that its recipient has encrypted again for a third device."""
    signed = decrypt(payload, IdentityName(by.name), [read_private_key(by.key_path)]).signed
    key = read_private_key(to.key_path).public
    return encrypt(signed, recipient=IdentityName(to.name), encryption_key=key)


# Seconds from now: when the message claims to be issued, and when it expires.
@pytest.mark.parametrize(
    ("issued", "expires", "reason"),
    [
        (-20, -10, "expired"),
        (-1, 0, "expired"),
        (-20 * DAY, -10 * DAY, "expired"),
        (-14 * DAY - 60, None, "too-old"),
        (-14 * DAY - 60, DAY, "too-old"),
        (-1_700_000_000, None, "too-old"),
        (5 * 60 + 30, None, "from-the-future"),
        (3600, 7200, "from-the-future"),
        (2**53 - 2 - 2_000_000_000, None, "from-the-future"),
    ],
)
def test_a_message_out_of_its_time(attack: Attack, issued: int, expires: int | None, reason: str) -> None:
    now = int(time.time())
    expiry = {} if expires is None else {"exp": now + expires}
    attack.expect_refusal(written(attack, iat=now + issued, **expiry), reason)


@pytest.mark.parametrize(("issued", "expires"), [(-14 * DAY + 60, None), (4 * 60, None), (-20, 60), (4 * 60, 5 * 60)])
def test_a_message_within_its_time(attack: Attack, issued: int, expires: int | None) -> None:
    now = int(time.time())
    expiry = {} if expires is None else {"exp": now + expires}
    text = f"written {issued} s from now"
    attack.expect_text(written(attack, text=text, iat=now + issued, **expiry), text)


def test_a_message_bound_to_another_recipient(attack: Attack) -> None:
    for audience in ("carol._device.example.test", f"x{attack.reader.name}", f"{attack.reader.name}.evil.test"):
        attack.expect_refusal(written(attack, aud=audience), "wrong-audience")


def test_a_name_is_the_same_in_any_case(attack: Attack) -> None:
    shouted = {"x5u": f"DNS:{attack.forge.alice.text.upper()}.?TYPE=tlsa", "aud": attack.reader.name.upper() + "."}
    attack.expect_text(written(attack, text="in capitals", jti="shouted", **shouted), "in capitals")
    attack.expect_refusal(written(attack, text="in small letters", jti="shouted"), "replay")


def test_a_signature_of_another_key(attack: Attack) -> None:
    for kind in ("RSA", "P-256"):
        forge = dataclasses.replace(attack.forge, sender_keys={kind: new_key(kind)})
        attack.expect_refusal(flattened(forge.message(sender=kind, reader=attack.kind)), "signature-invalid")
        # A recipient can also sign with its own key, whose public half is in DNS too.
        forge = dataclasses.replace(attack.forge, sender_keys={attack.kind: attack.forge.reader_keys[attack.kind]})
        forged = forge.message(sender=attack.kind, reader=attack.kind)
        attack.expect_refusal(flattened(forged), "signature-invalid")


def test_an_altered_message(attack: Attack) -> None:
    for member in ("encrypted_key", "iv", "ciphertext", "tag"):
        parts = attack.forge.message(reader=attack.kind)
        octets = unb64(parts[member])
        for altered in (bytes([octets[0] ^ 1]) + octets[1:], octets[:-1] + bytes([octets[-1] ^ 1])):
            attack.expect_refusal(flattened(parts, **{member: b64(altered)}), "decryption-failed")


def test_a_message_to_another_key(attack: Attack) -> None:
    forge = dataclasses.replace(attack.forge, reader_keys={attack.kind: new_key(attack.kind)})
    attack.expect_refusal(flattened(forge.message(reader=attack.kind)), "decryption-failed")


def test_a_sender_without_an_acceptable_record(attack: Attack, lab: Lab) -> None:
    unpublished = lab.device_with_key("unpublished")
    attack.client.publish(attack.reader, from_device(attack, unpublished))
    attack.expect_good()
    # Its owner may be about to publish the record.
    attack.receiver.wait_for_log(f"waiting sender={unpublished.name} again in 15 s: {unpublished.name} does not exist")
    attack.expect_refusal(from_device(attack, lab.published_device("plain", UNSIGNED)), "sender-not-secure")
    digest = lab.device_with_key("digest")
    lab.knot.add_tlsa(digest.name, f"3 0 1 {'ab' * 32}")
    attack.expect_refusal(from_device(attack, digest), "sender-without-usable-key")


def test_a_message_from_a_broken_zone_waits_and_delays_no_others(attack: Attack, lab: Lab) -> None:
    sender = lab.published_device("broken", BOGUS)
    attack.client.publish(attack.reader, from_device(attack, sender))
    attack.expect_good()
    attack.receiver.wait_for_log(f"waiting sender={sender.name} ")


# What an attacker can hide in a text: an escape sequence, a C1 control, a change of the writing direction, line ends.
ACTIVE = "\x1b[2J\x1b]0;pwned\x07\x9b31m\u202egnp.exe\u2066\u061c\u2028\r\n\x00\x7f\x85"
BIDIRECTIONAL = "\u202egnp.exe\u2066\u061c\u2028\x85\x9b31m"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x5u": f"dns:alice{ACTIVE}.example.test?type=TLSA"}, "sender-malformed"),
        ({"x5u": f"https://{ACTIVE}"}, "sender-malformed"),
        ({"x5u": f"dns://{ACTIVE}/alice.example.test?type=TLSA"}, "sender-malformed"),
        ({"x5u": "dns:alice%1b%5b2J.example.test?type=TLSA"}, "sender-malformed"),
        ({"alg": ACTIVE}, "inner-unsupported"),
        ({"typ": ACTIVE}, "inner-unsupported"),
        ({"aud": ACTIVE}, "binding-malformed"),
        ({"aud": f"bob.{BIDIRECTIONAL}"}, "binding-malformed"),
    ],
)
def test_control_characters_never_reach_the_log(attack: Attack, changes: dict[str, str], reason: str) -> None:
    header = {**attack.forge.inner_header(), **changes}
    key = attack.forge.sender_keys["RSA"]
    # Escaped in JSON, and the characters that JSON allows as they are.
    raw = json.dumps(header).replace("\\u202e", "\u202e").replace("\\u2028", "\u2028").replace("\\u009b", "\x9b")
    for text in (json.dumps(header), raw):
        inner = flattened(jws(key, text, b"hello"))
        attack.expect_refusal(flattened(attack.forge.outer(attack.kind, inner)), reason)


def test_control_characters_in_the_outer_layer_never_reach_the_log(attack: Attack) -> None:
    forge = attack.forge
    for name, reason in {"alg": "outer-unsupported", "enc": "outer-unsupported", "x5u": "outer-malformed"}.items():
        header = forge.outer_header(attack.kind, **{name: ACTIVE})
        attack.expect_refusal(flattened(forge.raw_outer(json.dumps(header), attack.kind)), reason)
    for payload in (ACTIVE.encode(), b"{" + ACTIVE.encode(), json.dumps({ACTIVE: ACTIVE}).encode()):
        attack.expect_refusal(payload, "outer-malformed")


def test_control_characters_are_printed_escaped(attack: Attack) -> None:
    # The sender chooses the characters of the text and of the identifier.
    attack.expect_text(written(attack, text=f"red {ACTIVE}", jti=ACTIVE), f"red {ACTIVE}")
    line = attack.receiver.stdout[-1]
    assert line.isprintable()
    assert "\\u202egnp.exe\\u2066\\u061c\\u2028" in line


@pytest.mark.parametrize("binding", [{}, UNBOUND], ids=["bound", "unbound"])
@pytest.mark.parametrize("sender", ["RSA", "P-256"])
def test_a_replay_in_any_serialization(attack: Attack, binding: dict[str, Any], sender: str) -> None:
    parts = attack.forge.message("only once", sender, attack.kind, **binding)
    attack.expect_text(flattened(parts), "only once")
    for copy in (
        flattened(parts),
        compact(parts),
        flattened(dict(reversed(parts.items()))),
        b" \n" + json.dumps({**parts, "unknown": [1]}, indent=8).encode() + b"\n",
    ):
        attack.expect_refusal(copy, "replay")


def test_a_bound_message_that_is_sealed_again_is_a_replay(attack: Attack) -> None:
    inner = flattened(attack.forge.inner(payload=b"sealed twice", jti="sealed twice"))
    attack.expect_text(flattened(attack.forge.outer(attack.kind, inner)), "sealed twice")
    attack.expect_refusal(flattened(attack.forge.outer(attack.kind, inner)), "replay")


def test_separate_messages_with_equal_texts_are_not_replays(attack: Attack) -> None:
    for _ in range(2):
        attack.expect_text(written(attack, text="twice the same", **UNBOUND), "twice the same")


def test_the_largest_message_and_one_byte_more(attack: Attack) -> None:
    large = written(attack, text="large")
    attack.expect_refusal(large[:-1] + b" " * (65537 - len(large)) + b"}", "oversized")
    attack.expect_refusal(b"[" * 100_000, "oversized")
    attack.expect_text(large[:-1] + b" " * (65536 - len(large)) + b"}", "large")


def test_messages_at_qos_0_are_checked_like_any_other(attack: Attack) -> None:
    publish = attack.client.publish
    attack.client.publish = lambda *arguments: publish(*arguments, qos=0)  # type: ignore[method-assign]
    try:
        attack.expect_refusal(b"rubbish", "outer-malformed")
        attack.expect_refusal(written(attack, aud="carol.example.test"), "wrong-audience")
    finally:
        attack.client.publish = publish  # type: ignore[method-assign]


def test_a_message_passed_on_by_its_recipient(attack: Attack, lab: Lab, listener: BrokerClient) -> None:
    alice, bob, carol = lab.published_device("alice"), lab.published_device("bob"), attack.reader
    listener.listen(bob)
    assert alice.send(bob, "for Bob alone").status == 0
    attack.expect_refusal(sealed_again(listener.next_payload(), bob, carol), "wrong-audience")


def test_an_unbound_message_can_be_passed_on_and_is_marked(attack: Attack, lab: Lab) -> None:
    bob = lab.published_device("bob")
    to_bob = dataclasses.replace(
        attack.forge, bob=IdentityName(bob.name), reader_keys={"RSA": read_private_key(bob.key_path)}
    )
    payload = flattened(to_bob.message("to nobody by name", **UNBOUND))
    attack.expect_text(sealed_again(payload, bob, attack.reader), "to nobody by name")
    attack.receiver.wait_for_log(f"unbound sender={attack.forge.alice} ")


def test_a_replay_of_a_message_from_send_message(attack: Attack, lab: Lab, listener: BrokerClient) -> None:
    listener.listen(attack.reader)
    alice = lab.published_device("alice")
    assert alice.send(attack.reader, "overheard").status == 0
    attack.receiver.wait_for_message(f"{alice.name} says: overheard")
    attack.expect_refusal(listener.next_payload(), "replay")


def test_unbound_messages_if_binding_is_required(lab: Lab) -> None:
    with attack_on(lab, REQUIRE_BINDING="all") as attack:
        attack.good_messages = ((f"bound {number}", written(attack, text=f"bound {number}")) for number in range(9))
        attack.expect_refusal(written(attack, **UNBOUND), "unbound")


def test_binding_is_required_only_of_the_listed_senders(lab: Lab) -> None:
    strict = lab.published_device("strict")
    keys = {"RSA": read_private_key(strict.key_path)}
    with attack_on(lab, REQUIRE_BINDING=f"nobody.example.test,{strict.name}") as attack:
        forge = dataclasses.replace(attack.forge, alice=IdentityName(strict.name), sender_keys=keys)
        attack.expect_refusal(flattened(forge.message(**UNBOUND)), "unbound")


def test_a_sender_that_is_not_allowed_is_never_looked_up(lab: Lab, tmp_path: Path) -> None:
    stranger, friend = lab.published_device("stranger"), lab.published_device("friend", f"friends.{SECURE}")
    allowed = tmp_path / "senders"
    allowed.write_text(f"# our own\n*.friends.{SECURE}, alice._device.example.com\n")
    with attack_on(lab, ALLOWED_SENDERS=f"@{allowed}") as attack:
        alice = dataclasses.replace(attack.forge, alice=IdentityName(friend.name))
        alice = dataclasses.replace(alice, sender_keys={"RSA": read_private_key(friend.key_path)})
        attack.forge = alice
        attack.good_messages = ((f"good {number}", flattened(alice.message(f"good {number}"))) for number in range(99))
        refused = [stranger.name, f"{friend.name}.evil.{SECURE}", f"friends.{SECURE}", f"notfriends.{SECURE}"]
        for name in refused:
            keys = {"RSA": read_private_key(stranger.key_path)}
            enemy = dataclasses.replace(attack.forge, alice=IdentityName(name), sender_keys=keys)
            attack.expect_refusal(flattened(enemy.message()), "sender-not-allowed")
            # Even an expired or unbound message of such a sender is not checked further.
            attack.expect_refusal(flattened(enemy.message(iat=1)), "sender-not-allowed")
            attack.expect_refusal(flattened(enemy.message(**UNBOUND)), "sender-not-allowed")
    wait_until(lambda: lab.unbound.queries(friend.name) > 0, "query of the friend's name in the resolver's log")
    assert [lab.unbound.queries(name) for name in refused] == [0] * len(refused)


def test_a_message_that_has_expired_on_the_way(
    lab: Lab, alice: Device, listener: BrokerClient, receiver_of: Callable[[Device], Program]
) -> None:
    recipient = lab.published_device("slow")
    listener.listen(recipient)
    assert alice.send(recipient, "soon stale", "--expires", "4").status == 0
    payload = listener.next_payload()
    receiver = receiver_of(recipient)
    time.sleep(4)
    listener.publish(recipient, payload)
    receiver.wait_for_refusal("expired")
    assert receiver.stdout == []


@pytest.mark.parametrize("binding", [{}, UNBOUND], ids=["bound", "unbound"])
def test_a_replay_after_a_restart(binding: dict[str, Any], lab: Lab, receiver_of: Callable[[Device], Program]) -> None:
    with attack_on(lab) as attack:
        parts = attack.forge.message("remembered", **binding)
        attack.expect_text(flattened(parts), "remembered")
    client = BrokerClient(lab.mosquitto)
    restarted = receiver_of(attack.reader)
    client.publish(attack.reader, flattened(parts))
    client.publish(attack.reader, compact(parts))
    client.close()
    restarted.wait_for("two refusals", lambda: sum("refused reason=replay" in line for line in restarted.stderr) == 2)
    assert restarted.stdout == []


def test_retained_messages_are_checked_like_any_other(
    lab: Lab, anybody: BrokerClient, receiver_of: Callable[[Device], Program]
) -> None:
    with attack_on(lab) as attack:
        left = flattened(attack.forge.message("left on the doorstep"))
        attack.expect_text(left, "left on the doorstep")
    anybody.publish(attack.reader, left, retain=True)
    try:
        restarted = receiver_of(attack.reader)
        restarted.wait_for_refusal("replay")
        anybody.publish(attack.reader, b"rubbish", retain=True)
        restarted.wait_for_refusal("outer-malformed")
        assert restarted.stop() == 0
        receiver_of(attack.reader).wait_for_refusal("outer-malformed")
    finally:
        anybody.publish(attack.reader, b"", retain=True)
    assert restarted.stdout == []


def test_messages_wait_while_the_clock_is_behind_the_recorded_time(lab: Lab, alice: Device) -> None:
    device = lab.published_device("early")
    with ReplayMemory(Path(device.settings["DATA_PATH"])) as memory:
        memory.note_time(int(time.time()) + 12)
    with device.receiver() as receiver:
        assert alice.send(device, "worth waiting for").status == 0
        receiver.wait_for_log("the clock is not set")
        assert receiver.stdout == []
        receiver.wait_for_message("worth waiting for")


def test_no_key_material_is_logged(attack: Attack) -> None:
    keys = (*attack.forge.sender_keys.values(), *attack.forge.reader_keys.values())
    secrets = [json.loads(JWK.from_pyca(key.native).export_private())["d"][:20] for key in keys]
    assert not [line for line in attack.receiver.stderr for secret in secrets if secret in line]


def test_messages_between_all_types_of_keys_arrive(lab: Lab, receiver_of: Callable[[Device], Program]) -> None:
    devices = [lab.published_device(kind, settings={"KEY_TYPE": kind}) for kind in ("rsa2048", "rsa3072", "p256")]
    for recipient in devices:
        receiver = receiver_of(recipient)
        for sender in devices:
            assert sender.send(recipient, "from each to each").status == 0
            receiver.wait_for_message(f"{sender.name} says: from each to each")
