"""Receipts to marked senders: encrypted to their epoch keys, which are looked up without delaying anything else."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, marks
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import EpochLookUp, LookUp
from idlib.envelope import SealedTo, decrypt, parse_receipt, verify_receipt
from idlib.epochs import SEED_OCTETS, EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.errors import DiscoveryError, NoEpochRecordError, TemporaryDiscoveryError
from idlib.names import IdentityName
from idlib.settings import MqttVersion
from idlib.transport import Broker
from messaging_receiver.receipt_keys import MAX_OF_ZONE, MAX_WAITING, WORKERS, ReceiptKeys
from messaging_receiver.receipt_requests import RECEIPT_LIFETIME_SECONDS, PreparedReceipt, ReceiptRequest
from messaging_receiver.receipts import Receipts
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, record_of

HOUR: Final = 3600
DAY: Final = 24 * HOUR
EPOCH: Final = EpochPrivateKey(secrets.token_bytes(SEED_OCTETS))
DAMAGED: Final = x509.UnrecognizedExtension(marks.OID, b"\2\1\2")


def certificate_of(*extensions: x509.ExtensionType) -> bytes:
    subject = certificates.build_subject(ALICE, country="US", state="CA", locality="San Francisco", organization="a")
    alternative = certificates.build_subject_alternative_name(ALICE)
    certificate = certificates.build_self_signed_certificate(
        KEYS[ALICE], subject, alternative, datetime.now(UTC), *extensions
    )
    return b"\3\0\0" + certificate.public_bytes(Encoding.DER)


def epoch_record(until: int, name: IdentityName = ALICE) -> bytes:
    signed = SignedEpochRecord.create(EpochRecord(int(time.time()) - HOUR, until, EPOCH.public), name, KEYS[ALICE])
    return b"".join(bytes([len(string)]) + string for string in signed.to_strings())


class Dns:
    """A fake source of DNS answers: all names but Dave's are marked, and have Alice's key."""

    def __init__(self) -> None:
        self.tlsa = certificate_of(marks.EXTENSION)
        self.texts: bytes | DiscoveryError = epoch_record(int(time.time()) + 9 * DAY)
        self.silent: set[str] = set()
        self.ended = threading.Event()
        self.asked: list[IdentityName] = []

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        if not isinstance(wanted, EpochLookUp):
            return AuthenticRecords((record_of(KEYS[DAVE]) if wanted.name == DAVE else self.tlsa,), 300, "a test")
        self.asked.append(wanted.name)
        if wanted.name.text.partition(".")[2] in self.silent:
            self.ended.wait(30)
            raise TemporaryDiscoveryError("no answer")
        if isinstance(self.texts, DiscoveryError):
            raise self.texts
        return AuthenticRecords((self.texts,), 300, "a test")


class Publisher:
    """A fake publisher, which keeps what is published."""

    window = 20

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, int]] = []

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def publish(self, topic: str, payload: bytes, lifetime: int) -> SimpleNamespace:
        self.published.append((topic, payload, lifetime))
        return SimpleNamespace(is_answered=True)

    def wait(self, _: SimpleNamespace) -> None:
        pass


class Bench:
    """The receiver's receipts, with fake DNS and a fake broker."""

    def __init__(self, publisher: Publisher) -> None:
        self.dns = Dns()
        self.publisher = publisher
        self.required: set[IdentityName] = set()
        self.missed: list[tuple[IdentityName, str]] = []
        self.discovery = Discovery(self.dns)

    def start(self) -> Receipts:
        for name in (ALICE, DAVE):
            self.discovery.find(name)
        receipts = Receipts(
            Broker("127.0.0.1", 1, MqttVersion.V5),
            BOB,
            lambda: KEYS[BOB],
            self.discovery,
            lambda _: True,
            self.discovery.zone_of,
            self.required.__contains__,
            lambda *missed: self.missed.append(missed),
        )
        receipts.start()
        return receipts

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    publisher = Publisher()
    monkeypatch.setattr("messaging_receiver.receipts.Publisher", lambda *_: publisher)
    bench = Bench(publisher)
    yield bench
    bench.dns.ended.set()


def ask(receipts: Receipts, name: IdentityName, identifier: str = "some message") -> None:
    receipts.ask(ReceiptRequest(name, identifier))


def test_a_receipt_to_a_marked_sender_is_encrypted_to_its_epoch_key(bench: Bench) -> None:
    ask(bench.start(), ALICE, "a message")
    bench.wait_for(lambda: len(bench.publisher.published) == 1)
    ((topic, payload, lifetime),) = bench.publisher.published
    assert (topic, lifetime) == (str(ALICE), RECEIPT_LIFETIME_SECONDS)
    assert isinstance(bench.dns.texts, bytes)
    record = SignedEpochRecord.from_text(_joined(bench.dns.texts)).record
    opened = decrypt(payload, ALICE, [KEYS[ALICE]], {record.key_id(ALICE): EPOCH})
    assert opened.sealed_to is SealedTo.EPOCH
    receipt = parse_receipt(opened.signed)
    assert verify_receipt(receipt, [KEYS[BOB].public]) == "a message"
    assert receipt.binding.expires_at == receipt.binding.issued_at + RECEIPT_LIFETIME_SECONDS
    assert bench.missed == []


def _joined(strings: bytes) -> bytes:
    text = b""
    while strings:
        text, strings = text + strings[1 : 1 + strings[0]], strings[1 + strings[0] :]
    return text


def test_a_receipt_expires_with_the_key_that_it_is_encrypted_to(bench: Bench) -> None:
    bench.dns.texts = epoch_record(int(time.time()) + 2 * HOUR)
    ask(bench.start(), ALICE)
    bench.wait_for(lambda: len(bench.publisher.published) == 1)
    assert 2 * HOUR - 30 <= bench.publisher.published[0][2] <= 2 * HOUR


def test_a_receipt_to_an_unmarked_sender_needs_no_look_up(bench: Bench) -> None:
    ask(bench.start(), DAVE)
    bench.wait_for(lambda: len(bench.publisher.published) == 1)
    assert decrypt(bench.publisher.published[0][1], DAVE, [KEYS[DAVE]]).sealed_to is SealedTo.IDENTITY
    assert bench.dns.asked == []


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (NoEpochRecordError("_epoch.alice.example has no TXT record"), "has no TXT record"),
        (TemporaryDiscoveryError("no answer"), "no answer"),
        (epoch_record(int(time.time()) - HOUR + 1), "its last epoch key was destroyed at"),
        (epoch_record(int(time.time()) + 9 * DAY, BOB), "none of its 1 epoch records can be used"),
    ],
)
def test_without_an_epoch_key_no_receipt_is_sent_to_a_marked_sender(
    bench: Bench, texts: bytes | DiscoveryError, why: str
) -> None:
    bench.dns.texts = texts
    receipts = bench.start()
    ask(receipts, ALICE)
    bench.wait_for(lambda: len(bench.missed) == 1)
    assert bench.missed[0][0] == ALICE
    assert why in bench.missed[0][1]
    ask(receipts, DAVE)
    bench.wait_for(lambda: len(bench.publisher.published) == 1)
    assert bench.publisher.published[0][0] == str(DAVE)


def test_a_mark_that_needs_newer_software_means_no_receipt(bench: Bench) -> None:
    bench.dns.tlsa = certificate_of(DAMAGED)
    ask(bench.start(), ALICE)
    bench.wait_for(lambda: len(bench.missed) == 1)
    assert "in a form that is not supported" in bench.missed[0][1]
    assert bench.publisher.published == []


def test_a_sender_that_was_marked_a_moment_ago_gets_no_receipt_to_its_identity_key(bench: Bench) -> None:
    found: list[PreparedReceipt] = []
    bench.dns.tlsa = certificate_of()
    keys = ReceiptKeys(bench.discovery, lambda _: True, found.append, lambda *missed: bench.missed.append(missed))
    keys.ask(ReceiptRequest(ALICE, "some message"))
    bench.wait_for(lambda: len(bench.missed) == 1)
    assert "was marked as having epoch keys, and no longer is" in bench.missed[0][1]
    assert found == []


def test_an_unmarked_sender_that_must_have_epoch_keys_gets_no_receipt(bench: Bench) -> None:
    bench.required |= {ALICE, DAVE}
    receipts = bench.start()
    ask(receipts, DAVE)
    ask(receipts, ALICE)
    bench.wait_for(lambda: len(bench.publisher.published) == 1)
    assert bench.publisher.published[0][0] == str(ALICE)
    assert bench.missed == [(DAVE, "it has no epoch keys, and REQUIRE_FORWARD_SECRECY requires them")]


def test_a_look_up_that_takes_long_delays_no_other_receipt(bench: Bench) -> None:
    bench.dns.silent.add("example")
    receipts = bench.start()
    for number in range(5):
        ask(receipts, ALICE, f"message {number}")
    ask(receipts, DAVE)
    bench.wait_for(lambda: len(bench.publisher.published) == 1)
    assert bench.publisher.published[0][0] == str(DAVE)
    assert bench.dns.asked == [ALICE]


def asked(keys: ReceiptKeys, waiting: str) -> int:
    number: int = getattr(keys, waiting).number
    return number


def test_what_waits_is_limited_in_total_and_for_each_zone_of_strangers(bench: Bench) -> None:
    found: list[PreparedReceipt] = []
    proven = IdentityName("proven.home.example")
    bench.dns.silent.add("strangers.test")
    keys = ReceiptKeys(bench.discovery, lambda name: name == proven, found.append, lambda *_: None)
    for number in range(2 * MAX_OF_ZONE):
        keys.ask(ReceiptRequest(IdentityName(f"device-{number}.strangers.test"), "some message"))
    assert asked(keys, "_of_strangers") == MAX_OF_ZONE
    bench.wait_for(lambda: 0 < len(bench.dns.asked) <= WORKERS)
    for number, sender in enumerate((proven, ALICE), 1):
        bench.dns.texts = epoch_record(int(time.time()) + 9 * DAY, sender)
        keys.ask(ReceiptRequest(sender, "some message"))
        bench.wait_for(lambda: len(found) == number)  # noqa: B023  # it is called at once
        assert found[-1].request.sender == sender
    bench.dns.silent.add("home.example")
    bench.discovery = Discovery(bench.dns)
    keys = ReceiptKeys(bench.discovery, lambda name: name == proven, found.append, lambda *_: None)
    for number in range(2 * MAX_WAITING):
        keys.ask(ReceiptRequest(proven, str(number)))
    assert asked(keys, "_of_proven") == MAX_WAITING
