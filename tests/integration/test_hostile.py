"""Messages from an enemy: each is refused with a reason, and the next good one comes out all the same."""

import json
from collections.abc import Callable

import pytest

from tests.integration.lab import Lab
from tests.integration.messages import (
    BrokerClient,
    changed,
    encrypted,
    flipped,
    private_jwk,
    public_jwk,
    signed,
    uri,
)
from tests.integration.programs import Device, Program

Maker = Callable[[Device, Device, Device], str | bytes]


def _good(alice: Device, bob: Device) -> str:
    return encrypted(signed("never to be seen", alice, bob), bob)


def _two_signatures(alice: Device, bob: Device) -> str:
    one = json.loads(signed("never to be seen", alice, bob))
    signature = {name: one[name] for name in ("protected", "signature")}
    return json.dumps({"payload": one["payload"], "signatures": [signature, signature]})


# What is sent, made for sender, reader and a third device; and the reason codes that fit it.
HOSTILE: dict[str, tuple[Maker, set[str]]] = {
    "nothing at all": (lambda a, b, c: b"", {"outer-malformed"}),
    "no JSON": (lambda a, b, c: "hello", {"outer-malformed"}),
    "no UTF-8": (lambda a, b, c: b"\xff\xfe\x00", {"outer-malformed"}),
    "empty object": (lambda a, b, c: "{}", {"outer-malformed"}),
    "empty list": (lambda a, b, c: "[]", {"outer-malformed"}),
    "null": (lambda a, b, c: "null", {"outer-malformed"}),
    "deep nesting": (lambda a, b, c: "[" * 60_000, {"outer-malformed"}),
    "deep nesting in a member": (
        lambda a, b, c: changed(_good(a, b), extra=None)[:-1] + ', "extra": ' + "[" * 20_000 + "]" * 20_000 + "}",
        {"outer-malformed"},
    ),
    "huge number": (lambda a, b, c: '{"protected": 1' + "0" * 10_000 + "}", {"outer-malformed"}),
    "too large": (lambda a, b, c: b"x" * 65_537, {"oversized"}),
    "only signed": (lambda a, b, c: signed("never to be seen", a, b), {"outer-malformed", "outer-unsupported"}),
    "for another reader": (lambda a, b, c: _good(a, c), {"not-for-us"}),
    "for another key": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b), b, public_jwk(c)),
        {"decryption-failed"},
    ),
    "flipped tag": (lambda a, b, c: flipped(_good(a, b), "tag"), {"decryption-failed"}),
    "flipped ciphertext": (lambda a, b, c: flipped(_good(a, b), "ciphertext"), {"decryption-failed"}),
    "flipped key": (lambda a, b, c: flipped(_good(a, b), "encrypted_key"), {"decryption-failed"}),
    "flipped header": (lambda a, b, c: flipped(_good(a, b), "protected"), {"outer-malformed", "decryption-failed"}),
    "outer alg RSA-OAEP": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b), b, alg="RSA-OAEP"),
        {"outer-unsupported"},
    ),
    "outer alg RSA1_5": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b), b, alg="RSA1_5"),
        {"outer-unsupported"},
    ),
    "compressed": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b), b, zip="DEF"),
        {"outer-unsupported", "outer-malformed"},
    ),
    "without recipient": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b), b, x5u=None),
        {"outer-malformed", "not-for-us"},
    ),
    "unprotected header": (
        lambda a, b, c: changed(_good(a, b), unprotected={"x5u": uri(c)}),
        {"outer-malformed", "outer-unsupported"},
    ),
    "plain text inside": (lambda a, b, c: encrypted("never to be seen", b), {"inner-malformed"}),
    "encrypted inside": (lambda a, b, c: encrypted(_good(a, b), b), {"inner-malformed", "inner-unsupported"}),
    "empty object inside": (lambda a, b, c: encrypted("{}", b), {"inner-malformed"}),
    "null inside": (lambda a, b, c: encrypted("null", b), {"inner-malformed"}),
    "no UTF-8 inside": (lambda a, b, c: encrypted(b"\xff\xfe", b), {"inner-malformed"}),
    "deep nesting inside": (lambda a, b, c: encrypted("[" * 30_000, b), {"inner-malformed"}),
    "two signatures": (lambda a, b, c: encrypted(_two_signatures(a, b), b), {"inner-malformed", "inner-unsupported"}),
    "without sender": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, x5u=None), b),
        {"sender-malformed", "inner-malformed"},
    ),
    "sender at a web address": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, x5u="https://example.test/key"), b),
        {"sender-malformed"},
    ),
    "inner alg PS512": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, alg="PS512"), b),
        {"inner-unsupported"},
    ),
    "empty text": (lambda a, b, c: encrypted(signed("", a, b), b), {"inner-malformed"}),
    "text that is no UTF-8": (lambda a, b, c: encrypted(signed(b"\xff\xfe", a, b), b), {"inner-malformed"}),
    "flipped signature": (
        lambda a, b, c: encrypted(flipped(signed("never to be seen", a, b), "signature"), b),
        {"signature-invalid"},
    ),
    "passed on by its recipient": (
        lambda a, b, c: encrypted(signed("never to be seen", a, c), b),
        {"wrong-audience"},
    ),
    "half a binding": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, jti=None), b),
        {"binding-malformed"},
    ),
    "from last month": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, iat=1_700_000_000), b),
        {"too-old"},
    ),
    "from the future": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, iat=4_000_000_000), b),
        {"from-the-future"},
    ),
    "expired": (
        lambda a, b, c: encrypted(signed("never to be seen", a, b, iat=1_700_000_000, exp=1_700_000_001), b),
        {"expired", "too-old"},
    ),
}


@pytest.fixture(scope="module")
def carol(lab: Lab) -> Device:
    """Return a third device."""
    return lab.published_device("carol")


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_with_a_reason_and_a_good_message_follows(
    name: str, alice: Device, bob: Device, carol: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    make, reasons = HOSTILE[name]
    seen = len(bob_receiver.stderr)
    anybody.publish(bob, make(alice, bob, carol))
    anybody.publish(bob, encrypted(signed(f"good after: {name}", alice, bob), bob))
    bob_receiver.wait_for_message(f"good after: {name}")

    def refusals() -> list[str]:
        return [line for line in bob_receiver.stderr[seen:] if "refused reason=" in line]

    bob_receiver.wait_for("refusal", lambda: bool(refusals()))
    assert any(f"reason={reason} " in f"{refusals()[0]} " for reason in reasons), refusals()
    assert not any("never to be seen" in line for line in bob_receiver.stdout + bob_receiver.stderr)
    assert not any("Traceback" in line for line in bob_receiver.stderr[seen:])


def test_no_key_material_is_logged(alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient) -> None:
    anybody.publish(bob, flipped(_good(alice, bob), "tag"))
    bob_receiver.wait_for_refusal("decryption-failed")
    secrets = [private_jwk(device).export(as_dict=True)["d"] for device in (alice, bob)]
    assert not any(secret[:20] in line for line in bob_receiver.stderr for secret in secrets)


@pytest.mark.parametrize("kind", ["bound", "unbound"])
def test_a_replay_is_refused_also_after_a_restart(
    kind: str,
    lab: Lab,
    alice: Device,
    anybody: BrokerClient,
    receiver_of: Callable[[Device], Program],
) -> None:
    recipient = lab.published_device("remembering")
    receiver = receiver_of(recipient)
    message = encrypted(signed("only once", alice, recipient if kind == "bound" else None), recipient)
    anybody.publish(recipient, message)
    receiver.wait_for_message("only once")
    anybody.publish(recipient, message)
    receiver.wait_for_refusal("replay")
    assert receiver.stop() == 0
    anybody.publish(recipient, message)
    restarted = receiver_of(recipient)
    restarted.wait_for_refusal("replay")
    assert len(receiver.stdout) == 1
    assert restarted.stdout == []


def test_a_message_that_send_message_sent_is_not_printed_again(
    alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    anybody.listen(bob)
    assert alice.send(bob, "overheard once").status == 0
    bob_receiver.wait_for_message("overheard once")
    seen = len(bob_receiver.stderr)
    anybody.publish(bob, anybody.next_payload())
    bob_receiver.wait_for_refusal("replay", after=seen)
    assert sum("overheard once" in line for line in bob_receiver.stdout) == 1


def test_equal_texts_in_messages_of_their_own_are_no_replay(
    alice: Device, bob: Device, bob_receiver: Program, anybody: BrokerClient
) -> None:
    for _ in range(2):
        anybody.publish(bob, encrypted(signed("twice the same", alice), bob))
    bob_receiver.wait_for("second line", lambda: sum("twice the same" in line for line in bob_receiver.stdout) == 2)


def test_a_retained_message_is_judged_like_any_other(
    lab: Lab, alice: Device, anybody: BrokerClient, receiver_of: Callable[[Device], Program]
) -> None:
    recipient = lab.published_device("late")
    anybody.publish(recipient, encrypted(signed("left on the doorstep", alice, recipient), recipient), retain=True)
    receiver = receiver_of(recipient)
    receiver.wait_for_message("left on the doorstep")
    receiver.stop()
    anybody.publish(recipient, b"", retain=True)
