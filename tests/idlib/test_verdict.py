"""The verdict on a message, step by step, without a thread, a file or a look-up."""

import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery, Found
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.envelope import Binding, SealedTo, UnverifiedMessage, parse, sign
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    Reason,
    Refusal,
    TemporaryDiscoveryError,
)
from idlib.lists import SenderLists
from idlib.names import IdentityName, NamePatterns
from idlib.storage import ReplayEntry
from idlib.trust import Moment, Policy
from idlib.verdict import AskAgain, Cause, Print, Refuse, Renewal, Verdict, Wait, authenticate

ALICE = IdentityName("alice.example.com")
BOB = IdentityName("bob.example.com")
KEY, OTHER_KEY = (PrivateKey(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
NOW = 1_800_000_000
DAY = 24 * 3600
POLICY = Policy(BOB)
MOMENT = Moment(NOW)


class _Dns:
    def __init__(self, *keys: PrivateKey) -> None:
        self._records = tuple(
            bytes([3, 1, 0]) + key.public.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for key in keys
        )

    def look_up(self, _: LookUp) -> AuthenticRecords:
        return AuthenticRecords(self._records, 300, "made in a test")


FOUND = Discovery(_Dns(KEY)).find(ALICE)


def message(
    issued_at: int = NOW, key: PrivateKey = KEY, audience: IdentityName = BOB, **binding: int
) -> UnverifiedMessage:
    bound = Binding(audience, issued_at, "an id", **binding)
    return parse(sign("hello", sender=ALICE, signing_key=key, binding=bound))


def unbound() -> UnverifiedMessage:
    one = message()
    return UnverifiedMessage(ALICE, one.algorithm, None, one.signing_input, one.signature, b"hello")


def new(_: ReplayEntry) -> None:
    """Treat each message as new."""


def repeated(entry: ReplayEntry) -> None:
    raise Refusal(Reason.REPLAY, f"a message from {entry.sender} has been received before")


def decide(
    judged: UnverifiedMessage,
    found: Found | DiscoveryError | None = FOUND,
    moment: Moment = MOMENT,
    policy: Policy = POLICY,
    check_replay: Callable[[ReplayEntry], None] = new,
    renewal: Renewal = Renewal.POSSIBLE,
    waited: float = 0.0,
    verified_with: bytes | None = None,
    sealed_to: SealedTo = SealedTo.IDENTITY,
) -> Verdict:
    return authenticate(
        judged, b"d" * 32, found, moment, policy, check_replay, renewal, waited, verified_with, sealed_to
    )


def reason_of(verdict: Verdict) -> Reason:
    assert isinstance(verdict, Refuse), verdict
    return verdict.reason


def test_an_authentic_fresh_and_new_message_to_us_is_printed() -> None:
    verdict = decide(message())
    assert isinstance(verdict, Print)
    assert verdict.text == "hello"
    assert (verdict.entry.sender, verdict.entry.issued_at) == (str(ALICE), NOW)
    assert verdict.key.native == KEY.public.native


def test_a_key_that_is_known_to_verify_counts_if_it_is_the_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = message()
    monkeypatch.setattr("idlib.verdict.signing_key_of", lambda *_: pytest.fail("it was verified again"))
    verdict = decide(judged, verified_with=KEY.public.der)
    assert isinstance(verdict, Print)
    assert verdict.key.der == KEY.public.der


def test_a_key_that_is_no_longer_the_senders_does_not_count() -> None:
    forged = message(key=OTHER_KEY)
    known = OTHER_KEY.public.der
    assert decide(forged, verified_with=known) == AskAgain(renew=True)
    assert reason_of(decide(forged, renewal=Renewal.DONE, verified_with=known)) is Reason.SIGNATURE_INVALID
    # The message may have been signed by a new key, and is verified again.
    assert isinstance(decide(message(), verified_with=known), Print)


def test_a_known_key_saves_no_other_check() -> None:
    known = KEY.public.der
    assert reason_of(decide(message(audience=ALICE), verified_with=known)) is Reason.WRONG_AUDIENCE
    assert reason_of(decide(message(), check_replay=repeated, verified_with=known)) is Reason.REPLAY
    assert decide(message(), None, verified_with=known) == AskAgain(renew=False)


def test_an_unbound_message_is_recognized_by_its_digest() -> None:
    verdict = decide(unbound())
    assert isinstance(verdict, Print)
    assert verdict.entry == ReplayEntry(str(ALICE), b"d" * 16, None)


@pytest.mark.parametrize(
    ("judged", "reason"),
    [
        (message(audience=ALICE), Reason.WRONG_AUDIENCE),
        (message(NOW + 301), Reason.FROM_THE_FUTURE),
        (message(NOW - 10, expires_at=NOW), Reason.EXPIRED),
        (message(NOW - 14 * DAY - 1), Reason.TOO_OLD),
    ],
)
def test_a_message_that_is_not_for_us_or_not_fresh_is_refused_before_a_look_up(
    judged: UnverifiedMessage, reason: Reason
) -> None:
    assert reason_of(decide(judged, None)) is reason


def test_an_unbound_message_is_refused_if_binding_is_required() -> None:
    assert (
        reason_of(decide(unbound(), policy=Policy(BOB, SenderLists(binding_required=NamePatterns.all()))))
        is Reason.UNBOUND
    )


@pytest.mark.parametrize(
    "policy",
    [
        Policy(BOB, SenderLists(allowed=NamePatterns(("*.example.org",)))),
        Policy(BOB, SenderLists(denied=NamePatterns((str(ALICE),)))),
        Policy(BOB, SenderLists(NamePatterns(("*.example.com",)), NamePatterns((str(ALICE),)))),
    ],
)
def test_a_sender_that_is_not_allowed_is_refused_first(policy: Policy) -> None:
    stale = message(NOW - 30 * DAY)
    assert reason_of(decide(stale, None, Moment(NOW, is_set=False), policy)) is Reason.SENDER_NOT_ALLOWED


SECRET_ONLY = SenderLists(secrecy_required=NamePatterns.all())


@pytest.mark.parametrize("found", [None, FOUND])
@pytest.mark.parametrize("moment", [MOMENT, Moment(NOW, is_set=False)])
def test_a_message_to_the_identity_key_is_refused_before_a_look_up_and_by_any_clock(
    found: Found | None, moment: Moment
) -> None:
    policy = Policy(BOB, SECRET_ONLY)
    assert reason_of(decide(message(), found, moment, policy)) is Reason.NOT_FORWARD_SECRET
    assert not isinstance(decide(message(), found, moment, policy, sealed_to=SealedTo.EPOCH), Refuse)


def test_a_message_to_another_recipient_is_refused_for_that_first() -> None:
    assert reason_of(decide(message(audience=ALICE), policy=Policy(BOB, SECRET_ONLY))) is Reason.WRONG_AUDIENCE


def test_an_unknown_sender_is_looked_up() -> None:
    assert decide(message(), None) == AskAgain(renew=False)


def test_a_sender_is_looked_up_again_if_no_known_key_verifies_its_message() -> None:
    forged = message(key=OTHER_KEY)
    assert decide(forged) == AskAgain(renew=True)
    assert reason_of(decide(forged, renewal=Renewal.DONE)) is Reason.SIGNATURE_INVALID
    verdict = decide(forged, renewal=Renewal.FAILED)
    assert isinstance(verdict, Wait)
    assert verdict.cause is Cause.DNS


@pytest.mark.parametrize("renewal", list(Renewal))
def test_a_known_key_is_sufficient_whatever_a_repeated_look_up_returned(renewal: Renewal) -> None:
    assert isinstance(decide(message(), renewal=renewal), Print)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoRecordError("none"), Reason.SENDER_WITHOUT_RECORD),
        (NotSecureError("unsigned"), Reason.SENDER_NOT_SECURE),
        (NoUsableRecordError("digests"), Reason.SENDER_WITHOUT_USABLE_KEY),
    ],
)
def test_a_message_is_refused_if_dns_proves_that_the_sender_has_no_usable_record(
    error: DiscoveryError, reason: Reason
) -> None:
    assert reason_of(decide(message(), error, waited=3600.0)) is reason


def test_a_message_waits_if_an_uncertain_clock_may_make_the_record_unusable() -> None:
    verdict = decide(message(), NoUsableRecordError("expired"), Moment(NOW, is_certain=False))
    assert verdict == Wait("the clock may be wrong; if it is right, expired", Cause.CLOCK)


def test_a_message_of_a_name_without_a_record_waits_at_first() -> None:
    absent = NoRecordError("none")
    for waited in (0.0, 15.0, 3599.0):
        assert decide(message(), absent, waited=waited) == Wait("none", Cause.NEW_RECORD)


@pytest.mark.parametrize("error", [BogusError("broken"), TemporaryDiscoveryError("silent")])
def test_a_message_waits_if_dns_fails(error: DiscoveryError) -> None:
    assert decide(message(), error) == Wait(str(error), Cause.DNS)


def test_a_replay_is_refused_as_a_replay_only_if_it_is_authentic() -> None:
    assert reason_of(decide(message(), check_replay=repeated)) is Reason.REPLAY
    forged = decide(message(key=OTHER_KEY), check_replay=repeated, renewal=Renewal.DONE)
    assert reason_of(forged) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("judged", "moment"),
    [
        (message(), Moment(1000.0, is_set=False)),
        (message(NOW - 15 * DAY), Moment(NOW, is_certain=False)),
        (message(NOW - 10, expires_at=NOW), Moment(NOW, is_certain=False)),
        (message(NOW + 3600), Moment(NOW, may_be_late=True)),
        (message(NOW + 3600), Moment(NOW, is_certain=False)),
    ],
)
def test_a_message_waits_if_our_clock_may_be_wrong(judged: UnverifiedMessage, moment: Moment) -> None:
    verdict = decide(judged, None, moment)
    assert isinstance(verdict, Wait)
    assert verdict.cause is Cause.CLOCK


@pytest.mark.parametrize(
    ("judged", "moment", "reason"),
    [
        (message(NOW - 15 * DAY), Moment(NOW, may_be_late=True), Reason.TOO_OLD),
        (message(audience=ALICE), Moment(NOW, is_certain=False, may_be_late=True), Reason.WRONG_AUDIENCE),
        (message(audience=ALICE), Moment(1000.0, is_set=False), Reason.WRONG_AUDIENCE),
    ],
)
def test_an_uncertain_clock_affects_only_refusals_that_it_can_explain(
    judged: UnverifiedMessage, moment: Moment, reason: Reason
) -> None:
    assert reason_of(decide(judged, None, moment)) is reason


def test_a_message_of_the_present_time_is_printed() -> None:
    assert isinstance(decide(message(int(time.time())), moment=Moment(time.time())), Print)
