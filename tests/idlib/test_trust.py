from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib import trust
from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, UnverifiedMessage, parse, sign
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName, NamePatterns
from idlib.store import Store
from idlib.trust import MAX_MESSAGE_AGE_SECONDS, Policy, ReplayGuard, clock_is_credible, replay_entry

ALICE = IdentityName("alice._device.example.com")
BOB = IdentityName("bob._device.example.com")
NOW = 1_800_000_000
KEY = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
EVERYBODY = Policy(BOB)


def message(
    identifier: str = "id", issued_at: int = NOW, sender: IdentityName = ALICE, audience: IdentityName = BOB
) -> UnverifiedMessage:
    return bound_by(Binding(audience, issued_at, identifier), sender)


def bound_by(binding: Binding, sender: IdentityName = ALICE) -> UnverifiedMessage:
    return parse(sign("hello", sender=sender, signing_key=KEY, binding=binding))


def unbound() -> UnverifiedMessage:
    bound = message()
    return UnverifiedMessage(ALICE, bound.algorithm, None, bound.signing_input, bound.signature, "hello")


def refusal_of(policy: Policy, judged: UnverifiedMessage) -> Reason:
    with pytest.raises(Refusal) as caught:
        policy.check(judged, NOW)
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
def test_a_fresh_message_to_this_reader_is_accepted(binding: Binding) -> None:
    EVERYBODY.check(bound_by(binding), NOW)


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
    EVERYBODY.check(unbound(), NOW)
    Policy(BOB, require_binding=NamePatterns(("dave.example",))).check(unbound(), NOW)
    for patterns in (NamePatterns.all(), NamePatterns((str(ALICE),)), NamePatterns(("*.example.com",))):
        assert refusal_of(Policy(BOB, require_binding=patterns), unbound()) is Reason.UNBOUND
        Policy(BOB, require_binding=patterns).check(message(), NOW)


def test_whom_we_do_not_listen_to_is_refused_before_all_else() -> None:
    policy = Policy(BOB, allowed_senders=NamePatterns(("*._device.example.com", "carol.example")))
    policy.check(message(), NOW)
    policy.check(message(sender=IdentityName("carol.example")), NOW)
    for stranger in ("dave.example", "_device.example.com", "alice._device.example.com.evil.example"):
        judged = message(sender=IdentityName(stranger), audience=ALICE)
        assert refusal_of(policy, judged) is Reason.SENDER_NOT_ALLOWED


def test_a_message_is_accepted_once_also_across_a_restart(tmp_path: Path) -> None:
    entry = replay_entry(message(), b"digest", NOW)
    with Store(tmp_path) as store:
        guard = ReplayGuard(store)
        guard.reserve(message(), entry)
        with pytest.raises(Refusal):
            guard.reserve(message(), entry)
        guard.finish([entry], [])
        with pytest.raises(Refusal):
            guard.reserve(message(), entry)
    with Store(tmp_path) as store, pytest.raises(Refusal) as caught:
        ReplayGuard(store).reserve(message(), entry)
    assert caught.value.reason is Reason.REPLAY


def test_a_message_that_was_reserved_but_not_printed_is_new_after_a_crash(tmp_path: Path) -> None:
    entry = replay_entry(message(), b"digest", NOW)
    with Store(tmp_path) as store:
        ReplayGuard(store).reserve(message(), entry)
    with Store(tmp_path) as store:
        ReplayGuard(store).reserve(message(), entry)


def test_a_bound_message_is_known_by_its_sender_and_id_whatever_its_outer_layer() -> None:
    assert replay_entry(message(), b"one", NOW) == replay_entry(message(), b"other", NOW)
    assert replay_entry(message("other"), b"one", NOW) != replay_entry(message(), b"one", NOW)
    assert replay_entry(message(sender=BOB), b"one", NOW) != replay_entry(message(), b"one", NOW)


def test_an_unbound_message_is_known_by_its_outer_layer_for_a_year() -> None:
    entry = replay_entry(unbound(), b"d" * 32, NOW)
    assert entry != replay_entry(unbound(), b"e" * 32, NOW)
    assert entry.expires_at == NOW + 365 * 24 * 3600


def test_a_bound_message_is_known_for_longer_than_it_is_accepted() -> None:
    entry = replay_entry(message(), b"digest", NOW)
    with pytest.raises(Refusal):
        EVERYBODY.check(message(), entry.expires_at)


def test_what_may_have_been_printed_and_forgotten_is_refused_also_by_a_clock_that_was_set_back(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        guard = ReplayGuard(store)
        printed = replay_entry(message(), b"digest", NOW)
        guard.reserve(message(), printed)
        guard.finish([printed], [])
        store.forget_printed(printed.expires_at + 1)
        assert not store.has_printed(printed.identifier)
        for judged in (message(), message("older", NOW - 1)):
            EVERYBODY.check(judged, NOW)
            with pytest.raises(Refusal):
                guard.reserve(judged, replay_entry(judged, b"digest", NOW))
        guard.reserve(message("newer", NOW + 1), replay_entry(message("newer", NOW + 1), b"digest", NOW))
        guard.reserve(unbound(), replay_entry(unbound(), b"digest", NOW))


def fill(guard: ReplayGuard, sender: IdentityName, number: int) -> None:
    for index in range(number):
        judged = message(f"{sender} {index}", sender=sender)
        entry = replay_entry(judged, b"digest", NOW)
        guard.reserve(judged, entry)
        guard.finish([entry], [])


def test_at_its_bound_a_sender_is_refused_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MAX_REMEMBERED_OF_A_SENDER", 3)
    with Store(tmp_path) as store:
        guard = ReplayGuard(store)
        fill(guard, ALICE, 3)
        with pytest.raises(Refusal) as caught:
            fill(guard, ALICE, 1)
        assert caught.value.reason is Reason.REPLAY
        with pytest.raises(Refusal) as caught:
            guard.reserve(message("new"), replay_entry(message("new"), b"digest", NOW))
        assert caught.value.reason is Reason.REPLAY_FULL
        fill(guard, BOB, 3)


def test_at_the_total_bound_new_senders_are_refused_but_never_those_we_listen_to_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "MAX_REMEMBERED", 3)
    with Store(tmp_path) as store:
        guard = ReplayGuard(store, NamePatterns(("friend.example",)))
        fill(guard, ALICE, 2)
        fill(guard, BOB, 1)
        guard.reserve(message("more"), replay_entry(message("more"), b"digest", NOW))
        fill(guard, IdentityName("friend.example"), 1)
        with pytest.raises(Refusal) as caught:
            fill(guard, IdentityName("stranger.example"), 1)
        assert caught.value.reason is Reason.REPLAY_FULL


def test_a_clock_before_this_program_or_before_what_it_showed_is_not_credible() -> None:
    assert not clock_is_credible(0, 0)
    assert clock_is_credible(NOW, NOW)
    assert not clock_is_credible(NOW - 1, NOW)
