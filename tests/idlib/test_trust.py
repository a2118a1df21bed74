import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, SealedTo, UnverifiedMessage, parse, sign
from idlib.errors import Reason, Refusal
from idlib.lists import SenderLists
from idlib.names import IdentityName, NamePatterns
from idlib.settings import load
from idlib.storage import Printed, ReplayEntry
from idlib.storage.replay import ReplayMemory
from idlib.trust import (
    MAX_MESSAGE_AGE_SECONDS,
    Moment,
    Policy,
    PolicySource,
    ReplayGuard,
    depends_on_the_clock,
    replay_entry,
)

ALICE = IdentityName("alice._device.example.com")
BOB = IdentityName("bob._device.example.com")
NOW = 1_800_000_000
KEY = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
EVERYBODY = Policy(BOB)
DIGEST = b"d" * 32


def message(
    identifier: str = "id", issued_at: int = NOW, sender: IdentityName = ALICE, audience: IdentityName = BOB
) -> UnverifiedMessage:
    return bound_by(Binding(audience, issued_at, identifier), sender)


def bound_by(binding: Binding, sender: IdentityName = ALICE) -> UnverifiedMessage:
    return parse(sign("hello", sender=sender, signing_key=KEY, binding=binding))


def unbound() -> UnverifiedMessage:
    bound = message()
    return UnverifiedMessage(ALICE, bound.algorithm, None, bound.signing_input, bound.signature, b"hello")


def refusal_of(policy: Policy, judged: UnverifiedMessage) -> Reason:
    def judge() -> None:
        policy.lists.check(judged.sender)
        policy.check_message(judged, NOW)

    with pytest.raises(Refusal) as caught:
        judge()
    return caught.value.reason


@pytest.mark.parametrize(
    "binding",
    [
        Binding(BOB, NOW, "id"),
        Binding(BOB, NOW + 300, "id"),
        Binding(BOB, NOW - MAX_MESSAGE_AGE_SECONDS, "id"),
        Binding(BOB, NOW - 10, "id", NOW + 1),
    ],
)
def test_a_fresh_message_to_this_recipient_is_accepted(binding: Binding) -> None:
    EVERYBODY.check_message(bound_by(binding), NOW)


@pytest.mark.parametrize(
    ("binding", "reason"),
    [
        (Binding(ALICE, NOW, "id"), Reason.WRONG_AUDIENCE),
        (Binding(BOB, NOW + 301, "id"), Reason.FROM_THE_FUTURE),
        (Binding(BOB, 2**53 - 2, "id"), Reason.FROM_THE_FUTURE),
        (Binding(BOB, NOW - MAX_MESSAGE_AGE_SECONDS - 1, "id"), Reason.TOO_OLD),
        (Binding(BOB, 0, "id"), Reason.TOO_OLD),
        (Binding(BOB, NOW - 10, "id", NOW), Reason.EXPIRED),
    ],
)
def test_any_other_bound_message_is_refused(binding: Binding, reason: Reason) -> None:
    assert refusal_of(EVERYBODY, bound_by(binding)) is reason


def test_an_unbound_message_is_accepted_unless_binding_is_required_of_its_sender() -> None:
    EVERYBODY.check_message(unbound(), NOW)
    Policy(BOB, SenderLists(binding_required=NamePatterns(("dave.example",)))).check_message(unbound(), NOW)
    for patterns in (NamePatterns.all(), NamePatterns((str(ALICE),)), NamePatterns(("*.example.com",))):
        policy = Policy(BOB, SenderLists(binding_required=patterns))
        assert refusal_of(policy, unbound()) is Reason.UNBOUND
        policy.check_message(message(), NOW)


def test_a_message_to_the_identity_key_is_accepted_unless_epoch_keys_are_required_of_its_sender() -> None:
    for sealed_to in SealedTo:
        EVERYBODY.check_sealing(ALICE, sealed_to)
        Policy(BOB, SenderLists(secrecy_required=NamePatterns(("dave.example",)))).check_sealing(ALICE, sealed_to)
    for patterns in (NamePatterns.all(), NamePatterns((str(ALICE),)), NamePatterns(("*.example.com",))):
        policy = Policy(BOB, SenderLists(secrecy_required=patterns))
        policy.check_sealing(ALICE, SealedTo.EPOCH)
        with pytest.raises(Refusal) as refusal:
            policy.check_sealing(ALICE, SealedTo.IDENTITY)
        assert refusal.value.reason is Reason.NOT_FORWARD_SECRET


def test_a_message_of_a_sender_that_is_not_allowed_is_refused() -> None:
    policy = Policy(BOB, SenderLists(allowed=NamePatterns(("*._device.example.com", "carol.example"))))
    policy.lists.check(ALICE)
    policy.lists.check(IdentityName("carol.example"))
    for stranger in ("dave.example", "_device.example.com", "alice._device.example.com.evil.example"):
        judged = message(sender=IdentityName(stranger), audience=ALICE)
        assert refusal_of(policy, judged) is Reason.SENDER_NOT_ALLOWED


def printed(entry: ReplayEntry) -> Printed:
    return Printed(entry, "example.com", KEY.public.der)


def test_a_message_is_accepted_only_once_even_after_a_restart(tmp_path: Path) -> None:
    entry = replay_entry(message(), DIGEST)
    with ReplayMemory(tmp_path) as memory:
        guard = ReplayGuard(memory)
        guard.check(entry)
        guard.reserve(entry)
        with pytest.raises(Refusal):
            guard.check(entry)
        memory.remember([printed(entry)], NOW)
        guard.release([entry])
        with pytest.raises(Refusal):
            guard.check(entry)
    with ReplayMemory(tmp_path) as memory, pytest.raises(Refusal) as caught:
        ReplayGuard(memory).check(entry)
    assert caught.value.reason is Reason.REPLAY


def test_a_message_that_was_reserved_but_not_printed_is_new_after_a_crash(tmp_path: Path) -> None:
    entry = replay_entry(message(), DIGEST)
    with ReplayMemory(tmp_path) as memory:
        ReplayGuard(memory).reserve(entry)
    with ReplayMemory(tmp_path) as memory:
        ReplayGuard(memory).check(entry)


def test_a_bound_message_is_recognized_by_its_sender_and_id_whatever_its_outer_layer() -> None:
    assert replay_entry(message(), DIGEST) == replay_entry(message(), b"e" * 32)
    assert replay_entry(message("other"), DIGEST) != replay_entry(message(), DIGEST)
    assert replay_entry(message(sender=BOB), DIGEST) != replay_entry(message(), DIGEST)


def test_an_unbound_message_is_recognized_by_its_outer_layer() -> None:
    entry = replay_entry(unbound(), DIGEST)
    assert entry != replay_entry(unbound(), b"e" * 32)
    assert entry.issued_at is None


def test_only_messages_that_may_be_forgotten_replays_are_refused(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as memory:
        memory.raise_floor(NOW)
        guard = ReplayGuard(memory)
        for judged in (message(), message("older", NOW - 1)):
            with pytest.raises(Refusal, match="forgotten"):
                guard.check(replay_entry(judged, DIGEST))
        guard.check(replay_entry(message("newer", NOW + 1), DIGEST))
        guard.check(replay_entry(unbound(), DIGEST))


def test_lists_in_files_are_applied_as_they_are_now(tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("mallory.example.com\n")
    settings = load({"IDENTITY_NAME": str(BOB), "DENIED_SENDERS": f"@{denied}"})
    source = PolicySource(settings)
    policy = source.current()
    assert source.current() is policy
    policy.lists.check(ALICE)
    denied.write_text(f"{ALICE}\n")
    os.utime(denied, (NOW - 3600, NOW - 3600))
    deadline = time.monotonic() + 20
    while source.current() is policy and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(Refusal) as caught:
        source.current().lists.check(ALICE)
    assert caught.value.reason is Reason.SENDER_NOT_ALLOWED


@pytest.mark.parametrize(
    ("reason", "moment", "waits"),
    [
        (Reason.TOO_OLD, Moment(NOW, is_certain=False), True),
        (Reason.EXPIRED, Moment(NOW, is_certain=False), True),
        (Reason.TOO_OLD, Moment(NOW, may_be_late=True), False),
        (Reason.FROM_THE_FUTURE, Moment(NOW, may_be_late=True), True),
        (Reason.FROM_THE_FUTURE, Moment(NOW, is_certain=False), True),
        (Reason.WRONG_AUDIENCE, Moment(NOW, is_certain=False, may_be_late=True), False),
    ],
)
def test_only_refusals_that_the_clock_can_explain_depend_on_it(reason: Reason, moment: Moment, waits: bool) -> None:  # noqa: FBT001
    assert depends_on_the_clock(reason, moment) is waits
