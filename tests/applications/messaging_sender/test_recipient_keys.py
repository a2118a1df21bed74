"""Which key a message is encrypted to, and which messages are not sent to an identity key."""

import logging
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.algorithms import PrivateKey, PublicKey
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import EpochLookUp, LookUp
from idlib.epochs.record import EpochRecord
from idlib.epochs.selection import ChosenEpoch
from idlib.errors import (
    BogusError,
    DiscoveryError,
    EpochKeyUnavailableError,
    ExitStatus,
    NoEpochRecordError,
    NotForwardSecretError,
    NotSecureError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
)
from idlib.storage.outbox import Outbox
from idlib.storage.outgoing import NewOutgoingMessage
from messaging_sender.mark_memory import REMEMBERED_SECONDS, MarkMemory
from messaging_sender.queuing import is_temporary
from messaging_sender.recipient_keys import RecipientKeys
from tests.applications.messaging_sender.marked import (
    BOB,
    DAY,
    HALF,
    HOUR,
    KEY,
    MARKED,
    UNMARKED,
    Answer,
    Dns,
    discovery_of,
    message,
    record,
    settings_of,
    txt,
)


def keys_of(dns: Dns, memory: MarkMemory | None = None, **others: str) -> RecipientKeys:
    return RecipientKeys(settings_of(Path("/nonexistent"), **others), discovery_of(dns), memory)


def test_an_unmarked_recipient_costs_one_look_up_and_reads_no_epoch_record() -> None:
    dns = Dns([UNMARKED], [txt(record())])
    key = keys_of(dns).find(message())
    assert isinstance(key, PublicKey)
    assert key.der == KEY.public.der
    assert dns.asked == ["TLSA"]


def test_a_message_to_a_marked_recipient_is_encrypted_to_its_epoch_key() -> None:
    one = record()
    chosen = keys_of(Dns([MARKED], [txt(one)])).find(message())
    assert isinstance(chosen, ChosenEpoch)
    assert (chosen.key.key_id, chosen.key.public) == (one.key_id(BOB), one.key)


def test_the_life_of_the_message_decides_between_two_keys() -> None:
    short, long = record(2 * DAY), record(9 * DAY)
    keys = keys_of(Dns([MARKED], [txt(short), txt(long)]))
    for lifetime, expected in ((DAY, short), (None, long), (30 * DAY, long)):
        chosen = keys.find(message(lifetime))
        assert isinstance(chosen, ChosenEpoch)
        assert chosen.epoch.record == expected


@pytest.mark.parametrize(
    "texts",
    [
        NoEpochRecordError("no record of this type"),
        NoEpochRecordError("no such name"),
        TemporaryDiscoveryError("the server failed"),
        UnprovenAbsenceError("nothing proves the absence"),
        BogusError("the answer was altered"),
        NotSecureError("the answer is not protected"),
        [],
        [b"\5other"],
        [txt(record(HOUR - 60, 9 * DAY))],
        [txt(record(9 * DAY, -HOUR))],
    ],
)
@pytest.mark.parametrize("required", [{}, {"REQUIRE_FORWARD_SECRECY": "all"}])
def test_a_marked_recipient_without_a_live_key_makes_the_message_wait(texts: Answer, required: dict[str, str]) -> None:
    with pytest.raises(DiscoveryError) as caught:
        keys_of(Dns([MARKED], texts), None, **required).find(message())
    assert is_temporary(caught.value)
    assert caught.value.exit_status == ExitStatus.DISCOVERY


def test_a_text_that_was_encrypted_to_an_epoch_key_is_never_encrypted_to_an_identity_key() -> None:
    with pytest.raises(EpochKeyUnavailableError, match="was encrypted to an epoch key before") as caught:
        keys_of(Dns([UNMARKED], [txt(record())])).find(message(was_sealed_to_epoch=True))
    assert caught.value.hint
    # An old answer may have been replayed.
    assert is_temporary(caught.value)
    again = keys_of(Dns([MARKED], [txt(record())])).find(message(was_sealed_to_epoch=True))
    assert isinstance(again, ChosenEpoch)


@pytest.mark.parametrize("required", ["all", "*._device.example.com", str(BOB)])
def test_a_recipient_without_epoch_keys_gets_nothing_if_forward_secrecy_is_required(required: str) -> None:
    dns = Dns([UNMARKED])
    with pytest.raises(NotForwardSecretError, match="REQUIRE_FORWARD_SECRECY names it; ") as caught:
        keys_of(dns, REQUIRE_FORWARD_SECRECY=required).find(message())
    assert not is_temporary(caught.value)
    assert caught.value.exit_status == ExitStatus.DISCOVERY
    dns.tlsa, dns.texts = [MARKED], [txt(record())]
    assert isinstance(keys_of(dns, REQUIRE_FORWARD_SECRECY=required).find(message()), ChosenEpoch)


def test_forward_secrecy_is_required_only_of_the_named_recipients() -> None:
    key = keys_of(Dns([UNMARKED]), REQUIRE_FORWARD_SECRECY="carol._device.example.com").find(message())
    assert isinstance(key, PublicKey)


class Time:
    """The clock, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("messaging_sender.recipient_keys.time.time", lambda: self.now)


def found(dns: Dns, outbox: Outbox, directory: Path, one: NewOutgoingMessage, **others: str) -> object:
    # A new memory each time, as after a restart.
    return keys_of(dns, MarkMemory(lambda: True, lambda: nullcontext(outbox)), **others).find(one)


def test_an_unmarked_answer_waits_for_14_days_after_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, dns = Time(monkeypatch), Dns([MARKED], [txt(record())])
    begin = clock.now
    with Outbox(tmp_path) as outbox:
        assert isinstance(found(dns, outbox, tmp_path, message()), ChosenEpoch)
        dns.tlsa = [UNMARKED]
        for seconds in (0, HOUR, REMEMBERED_SECONDS - 2):
            clock.now = begin + seconds
            with pytest.raises(EpochKeyUnavailableError, match="is not marked as having epoch keys any more") as caught:
                found(dns, outbox, tmp_path, message())
            assert is_temporary(caught.value)
        clock.now = begin + REMEMBERED_SECONDS + 1
        with caplog.at_level(logging.WARNING):
            assert isinstance(found(dns, outbox, tmp_path, message()), PublicKey)
            assert isinstance(found(dns, outbox, tmp_path, message()), PublicKey)
        assert [one.getMessage() for one in caplog.records] == [
            f"{BOB} is no longer marked as having epoch keys: messages to it are encrypted to its identity key again"
        ]


def test_the_14_days_begin_again_whenever_the_mark_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, dns = Time(monkeypatch), Dns([MARKED], [txt(record(30 * DAY))])
    begin = clock.now
    with Outbox(tmp_path) as outbox:
        found(dns, outbox, tmp_path, message())
        clock.now = begin + 10 * DAY
        found(dns, outbox, tmp_path, message())
        dns.tlsa, clock.now = [UNMARKED], begin + 20 * DAY
        with pytest.raises(EpochKeyUnavailableError):
            found(dns, outbox, tmp_path, message())


def test_a_mark_is_remembered_even_if_no_message_could_be_sent(tmp_path: Path) -> None:
    dns = Dns([MARKED], NoEpochRecordError("not published yet"))
    with Outbox(tmp_path) as outbox:
        with pytest.raises(EpochKeyUnavailableError):
            found(dns, outbox, tmp_path, message())
        dns.tlsa = [UNMARKED]
        with pytest.raises(EpochKeyUnavailableError, match="is not marked as having epoch keys any more"):
            found(dns, outbox, tmp_path, message())


def test_a_required_recipient_that_was_marked_gets_nothing_after_14_days_and_stays_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, dns = Time(monkeypatch), Dns([MARKED], [txt(record())])
    with Outbox(tmp_path) as outbox:
        found(dns, outbox, tmp_path, message(), REQUIRE_FORWARD_SECRECY="all")
        dns.tlsa = [UNMARKED]
        clock.now += REMEMBERED_SECONDS + 1
        with pytest.raises(NotForwardSecretError):
            found(dns, outbox, tmp_path, message(), REQUIRE_FORWARD_SECRECY="all")
        assert outbox.marked_at(str(BOB)) is not None


class LeavingDns(Dns):
    """Shows a marked name until its epoch records are looked up."""

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        answer = super().look_up(wanted)
        if isinstance(wanted, EpochLookUp):
            self.tlsa = [UNMARKED]
        return answer


def test_a_name_that_only_the_second_look_up_finds_unmarked_is_unmarked() -> None:
    signed_by_another = txt(record(), PrivateKey(ec.generate_private_key(ec.SECP256R1())))
    key = keys_of(LeavingDns([MARKED], [signed_by_another])).find(message())
    assert isinstance(key, PublicKey)
    with pytest.raises(EpochKeyUnavailableError):
        keys_of(LeavingDns([MARKED], [signed_by_another])).find(message(was_sealed_to_epoch=True))
    with pytest.raises(NotForwardSecretError):
        keys_of(LeavingDns([MARKED], [signed_by_another]), REQUIRE_FORWARD_SECRECY="all").find(message())


STEPS: Final = st.tuples(
    st.sampled_from(["live", "no record", "unmarked", "no answer"]), st.integers(0, 10 * DAY), st.booleans()
)


@given(steps=st.lists(STEPS, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_order_of_answers_and_restarts_sends_a_text_to_an_identity_key_too_early(
    steps: list[tuple[str, int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("outbox")
    memory = MarkMemory.in_directory(directory)
    now, marked_at, was_sealed = int(time.time()), None, False
    for answer, seconds, is_restarted in steps:
        now += seconds
        if is_restarted:
            memory = MarkMemory.in_directory(directory)
        texts: Answer = [txt(EpochRecord(now - HOUR, now + 9 * DAY, HALF.public))] if answer == "live" else []
        tlsa: Answer = [UNMARKED] if answer == "unmarked" else [MARKED]
        dns = Dns(TemporaryDiscoveryError("away") if answer == "no answer" else tlsa, texts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("messaging_sender.recipient_keys.time.time", partial(float, now))
            outcomes: list[PublicKey | ChosenEpoch | None] = []
            for was_sealed_to_epoch in (was_sealed, False):
                try:
                    outcomes.append(keys_of(dns, memory).find(message(was_sealed_to_epoch=was_sealed_to_epoch)))
                except (DiscoveryError, NotForwardSecretError):
                    outcomes.append(None)
        same, new = outcomes
        if isinstance(new, PublicKey):
            assert answer == "unmarked"
            # The memory is written once an hour.
            assert marked_at is None or now - marked_at >= REMEMBERED_SECONDS - HOUR
        elif answer == "unmarked":
            assert marked_at is not None
            assert now - marked_at < REMEMBERED_SECONDS
        assert isinstance(new, ChosenEpoch) == (answer == "live")
        assert not (was_sealed and isinstance(same, PublicKey))
        was_sealed = was_sealed or isinstance(new, ChosenEpoch)
        if answer in {"live", "no record"}:
            marked_at = now
        elif isinstance(new, PublicKey):
            marked_at = None
