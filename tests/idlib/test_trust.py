from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, UnverifiedMessage, parse
from idlib.envelope.jws import sign
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from idlib.store import Store
from idlib.trust import MAX_MESSAGE_AGE_SECONDS, ReplayGuard, check_binding, replay_entry

ALICE = IdentityName("alice.example")
BOB = IdentityName("bob.example")
NOW = 1_800_000_000
KEY = PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def message(identifier: str = "id") -> UnverifiedMessage:
    return parse(sign("hello", sender=ALICE, signing_key=KEY, binding=Binding(BOB, NOW, identifier)))


@pytest.mark.parametrize(
    "binding",
    [
        None,
        Binding(BOB, NOW, "id"),
        Binding(BOB, NOW + 300, "id"),
        Binding(BOB, NOW - MAX_MESSAGE_AGE_SECONDS, "id"),
        Binding(BOB, NOW - 10, "id", NOW + 1),
    ],
)
def test_a_fresh_message_to_this_reader_is_accepted(binding: Binding | None) -> None:
    check_binding(binding, BOB, NOW)


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
def test_any_other_message_is_refused(binding: Binding, reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        check_binding(binding, BOB, NOW)
    assert caught.value.reason is reason


def test_a_message_is_accepted_once_also_across_a_restart(tmp_path: Path) -> None:
    entry = replay_entry(message(), b"digest", NOW)
    with Store(tmp_path) as store:
        guard = ReplayGuard(store)
        guard.reserve(entry)
        with pytest.raises(Refusal):
            guard.reserve(entry)
        guard.finish([entry], [])
        with pytest.raises(Refusal):
            guard.reserve(entry)
    with Store(tmp_path) as store, pytest.raises(Refusal) as caught:
        ReplayGuard(store).reserve(entry)
    assert caught.value.reason is Reason.REPLAY


def test_a_message_that_was_reserved_but_not_printed_is_new_after_a_crash(tmp_path: Path) -> None:
    entry = replay_entry(message(), b"digest", NOW)
    with Store(tmp_path) as store:
        ReplayGuard(store).reserve(entry)
    with Store(tmp_path) as store:
        ReplayGuard(store).reserve(entry)


def test_a_bound_message_is_known_by_its_sender_and_id_whatever_its_outer_layer() -> None:
    assert replay_entry(message(), b"one", NOW) == replay_entry(message(), b"other", NOW)
    assert replay_entry(message("other"), b"one", NOW) != replay_entry(message(), b"one", NOW)


def test_a_bound_message_is_known_for_longer_than_it_is_accepted() -> None:
    entry = replay_entry(message(), b"digest", NOW)
    with pytest.raises(Refusal):
        check_binding(message().binding, BOB, entry.expires_at)
