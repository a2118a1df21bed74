"""The mark of epoch keys appears after the records, and goes before them, wherever the program is killed."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import keys
from idlib.algorithms import PrivateKey
from idlib.certificates import build_self_signed_certificate
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.epochs.spool import spool_path, write_spool
from idlib.errors import KeyFileError, StoreError, TooEarlyError
from idlib.marks import EXTENSION, OID, Mark
from idlib.names import IdentityName
from idlib.publishing import epoch_place
from idlib.publishing.by_hand import ManualChangeError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.epoch_publication import EpochPublishing, epoch_texts
from idlib.publishing.name_servers import Served
from idlib.publishing.zone import NameServer, Zone
from idlib.records import TlsaRecord, judge, key_of
from idlib.settings import ServerAddress, load
from messaging_maintenance import epoch_marking
from messaging_maintenance.epoch_marking import EpochMarking, EpochMarkingError, EpochPlace
from messaging_maintenance.rotation.state import Way
from testbed.certificate_maker import ec_key
from tests.applications.maintenance.rotation.world import DAY, HOUR, NAME, NEGATIVE_TTL, World, finish, killed_after

TTL = 3600
SETTLED = NEGATIVE_TTL + 300
FOREIGN = b"\x0bv=spf1 -all"


class EpochWorld:
    """A device, its receiver's spool, and two sets of records in DNS."""

    def __init__(self, world: World, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.spool = spool
        self.records = PublishedSet.of(TTL, [FOREIGN])
        self.by_hand = False
        self.server = NameServer("ns.example.test", ServerAddress("127.0.0.1"))
        monkeypatch.setattr(time, "time", lambda: world.wall)
        world.environment |= {"EPOCH_SPOOL": str(spool), "DNS_PUBLISH": "command", "DNS_PUBLISH_COMMAND": "true"}
        module = "messaging_maintenance.epoch_publishing"
        monkeypatch.setattr(f"{module}.open_publishing", lambda _: (world.publishing, world.zone))
        monkeypatch.setattr(f"{module}.epoch_publishing_from", lambda _: self.publishing)
        monkeypatch.setattr(epoch_marking, "read_from_all", self.served)
        monkeypatch.setattr(time, "sleep", world.pass_time)
        applied = world.put

        def put(records: PublishedSet) -> None:
            applied(records)
            self.check()

        monkeypatch.setattr(world, "put", put)

    # The publisher of the epoch records.

    def read(self) -> PublishedSet:
        self.world.event()
        return self.records

    def lowest_ttl(self) -> int:
        return 0

    def apply(self, change: Change) -> None:
        self.world.event()
        if self.by_hand:
            raise ManualChangeError(change)
        assert change.before == self.records
        self.records = change.after
        self.check()
        self.world.event()

    def check(self) -> None:
        if Mark.MARKED in map(mark_in, self.world.records.rdatas):
            assert self.texts, "a sender is told of epoch keys that are not there"

    def renew(self) -> None:
        pass

    def served(self, *_: object) -> tuple[Served, ...]:
        return (Served(self.server, self.records, 1),)

    # The device.

    @property
    def publishing(self) -> EpochPublishing:
        return EpochPublishing(self, self.zone, epoch_place(NAME), DAY)

    @property
    def zone(self) -> Zone:
        return Zone("example.test", "ns.example.test", NEGATIVE_TTL, (self.server,), ())

    @property
    def marking(self) -> EpochMarking:
        return EpochMarking(
            load(self.world.environment),
            self.world.publishing,
            EpochPlace(self.publishing, self.zone),
            self.world.reported.append,
            self.world.now,
        )

    @property
    def texts(self) -> tuple[bytes, ...]:
        return epoch_texts(self.records.rdatas)

    @property
    def mark(self) -> Mark:
        """What the only record of the device in DNS says."""
        (rdata,) = self.world.records.rdatas
        return mark_in(rdata)

    def leave(self, *, until: float = 9 * DAY, number: int = 1) -> None:
        """Leave a record in the spool, as the receiver does."""
        key = keys.read_private_key(keys.key_path(self.world.directory, NAME))
        at = int(self.world.wall)
        record = EpochRecord(at - HOUR, int(at + until), EpochPrivateKey(bytes([number]) * 32).public)
        write_spool(self.spool, NAME, [SignedEpochRecord.create(record, NAME, key)])


def mark_in(rdata: bytes) -> Mark:
    return judge(TlsaRecord.from_rdata(rdata), IdentityName(NAME.text), datetime.now(UTC), None).mark


@pytest.fixture
def epochs(device: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EpochWorld:
    return EpochWorld(device, tmp_path / "spool", monkeypatch)


def turn_on(epochs: EpochWorld) -> None:
    epochs.leave()
    with pytest.raises(TooEarlyError):
        epochs.marking.turn_on()
    epochs.world.pass_time(SETTLED)
    epochs.marking.turn_on()


def test_the_mark_follows_the_records_once_nobody_remembers_that_they_were_missing(epochs: EpochWorld) -> None:
    epochs.leave()
    before = epochs.world.records.rdatas
    with pytest.raises(TooEarlyError, match="a resolver may remember") as refused:
        epochs.marking.turn_on()
    assert refused.value.hint is not None
    assert "identity epoch on again after" in refused.value.hint
    assert (len(epochs.texts), epochs.world.records.rdatas, epochs.mark) == (1, before, Mark.UNMARKED)
    epochs.world.pass_time(SETTLED - 61)
    with pytest.raises(TooEarlyError):
        epochs.marking.turn_on()
    epochs.world.pass_time(10)
    epochs.marking.turn_on()
    # The rest was waited for.
    assert "Waiting 51 s" in epochs.world.reported[-1]
    assert epochs.mark is Mark.MARKED
    assert key_of(epochs.world.records.rdatas[0]) == key_of(before[0])
    assert FOREIGN in epochs.records.rdatas
    assert not keys.epoch_progress_path(epochs.world.directory, NAME).exists()


def test_a_second_call_changes_nothing(epochs: EpochWorld) -> None:
    turn_on(epochs)
    marked = epochs.world.records
    assert epochs.marking.turn_on().change.is_empty
    assert epochs.world.records == marked


def test_records_that_vanish_while_it_waits_make_it_wait_again(epochs: EpochWorld) -> None:
    epochs.leave()
    with pytest.raises(TooEarlyError):
        epochs.marking.turn_on()
    epochs.world.pass_time(SETTLED)
    epochs.records = PublishedSet.of(TTL, [FOREIGN])
    with pytest.raises(TooEarlyError):
        epochs.marking.turn_on()
    assert (epochs.mark, len(epochs.texts)) == (Mark.UNMARKED, 1)


def test_without_a_record_of_the_receiver_one_line_says_what_to_set(epochs: EpochWorld) -> None:
    with pytest.raises(StoreError, match="the receiver has left no epoch record") as refused:
        epochs.marking.turn_on()
    assert refused.value.hint == "start the receiver with EPOCH_KEYS=on and the same EPOCH_SPOOL, and wait a minute"


@pytest.mark.parametrize("left", [HOUR - 1, -DAY / 48])
def test_a_record_that_no_sender_would_use_is_refused(epochs: EpochWorld, left: float) -> None:
    epochs.leave(until=left)
    with pytest.raises(EpochMarkingError, match="no epoch record that senders could use now"):
        epochs.marking.turn_on()
    assert epochs.texts == ()


def test_a_record_signed_by_another_key_is_refused(epochs: EpochWorld) -> None:
    at = int(epochs.world.wall)
    record = EpochRecord(at - HOUR, at + 9 * DAY, EpochPrivateKey(bytes(32)).public)
    write_spool(epochs.spool, NAME, [SignedEpochRecord.create(record, NAME, PrivateKey(ec_key()))])
    with pytest.raises(EpochMarkingError):
        epochs.marking.turn_on()


def test_it_is_refused_while_the_key_is_being_changed(epochs: EpochWorld) -> None:
    epochs.leave()
    epochs.world.rotation.start(Way.OVERLAP)
    for change in (epochs.marking.turn_on, epochs.marking.turn_off):
        with pytest.raises(EpochMarkingError, match="the key is being changed"):
            change()


def test_the_mark_of_only_a_public_key_is_refused(epochs: EpochWorld) -> None:
    epochs.leave()
    epochs.world.environment["TLSA_SELECTOR"] = "1"
    with pytest.raises(EpochMarkingError, match="TLSA_SELECTOR=1 publishes only the public key"):
        epochs.marking.turn_on()


def test_the_mark_of_a_certificate_from_a_ca_is_refused(epochs: EpochWorld) -> None:
    epochs.leave()
    place = epochs.world.directory, NAME
    key, certificate = keys.read_private_key(keys.key_path(*place)), epochs.world.identity.get_local_cert_obj()
    issued = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A CA")]))
        .public_key(key.public.native)
        .serial_number(1)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
        .sign(ec_key(), hashes.SHA256())
    )
    keys.certificate_path(*place).write_bytes(issued.public_bytes(Encoding.PEM))
    with pytest.raises(EpochMarkingError, match="the certificate is from a CA"):
        epochs.marking.turn_on()


def test_off_removes_the_mark_at_once_and_the_records_when_no_cache_needs_them(epochs: EpochWorld) -> None:
    turn_on(epochs)
    epochs.marking.turn_off()
    assert (epochs.mark, len(epochs.texts)) == (Mark.UNMARKED, 1)
    until = epochs.marking.withdrawable_at()
    assert until == epochs.world.wall + epochs.world.records.ttl + 300 + HOUR
    with pytest.raises(TooEarlyError, match="the epoch records must stay"):
        epochs.marking.turn_off()
    assert len(epochs.texts) == 1
    epochs.world.pass_time(until - epochs.world.wall)
    epochs.marking.turn_off()
    assert epochs.records.rdatas == (FOREIGN,)
    assert not spool_path(epochs.spool, NAME).exists()
    assert epochs.marking.withdrawable_at() is None
    assert epochs.marking.turn_off() is None


def test_off_does_nothing_to_a_device_that_never_used_epoch_keys(epochs: EpochWorld) -> None:
    before = epochs.world.records
    assert epochs.marking.turn_off() is None
    assert epochs.world.records == before


@pytest.mark.parametrize("number", range(40))
def test_on_is_completed_after_it_was_killed_at_any_moment(epochs: EpochWorld, number: int) -> None:
    epochs.leave()
    for _ in range(2):
        with killed_after(epochs.world, number), suppress(TooEarlyError):
            epochs.marking.turn_on()
        epochs.world.pass_time(SETTLED)
    try:
        epochs.marking.turn_on()
    except TooEarlyError:
        epochs.world.pass_time(SETTLED)
        epochs.marking.turn_on()
    assert epochs.mark is Mark.MARKED
    assert len(epochs.world.records.rdatas) == 1
    assert epochs.world.identity.is_marked()


@pytest.mark.parametrize("number", range(30))
def test_off_is_completed_after_it_was_killed_at_any_moment(epochs: EpochWorld, number: int) -> None:
    turn_on(epochs)
    with killed_after(epochs.world, number):
        epochs.marking.turn_off()
    for _ in range(3):
        try:
            if epochs.marking.turn_off() is None:
                break
        except TooEarlyError:
            pass
        epochs.world.pass_time(DAY)
    assert (epochs.mark, epochs.texts) == (Mark.UNMARKED, ())
    assert not epochs.world.identity.is_marked()


def test_by_hand_the_user_is_told_what_to_publish_and_then_asked_for_the_certificate(epochs: EpochWorld) -> None:
    epochs.leave()
    epochs.by_hand = True
    del epochs.world.environment["DNS_PUBLISH"]
    with pytest.raises(ManualChangeError) as asked:
        epochs.marking.turn_on()
    assert (len(asked.value.change.add), asked.value.change.remove) == (1, ())
    epochs.records = asked.value.change.after
    with pytest.raises(TooEarlyError):
        epochs.marking.turn_on()
    epochs.world.pass_time(SETTLED)
    # Records for weeks ahead are not replaced with the one in the spool.
    epochs.leave(number=2)
    epochs.marking.turn_on()
    assert epochs.mark is Mark.MARKED


def test_a_damaged_file_of_the_progress_is_one_line(epochs: EpochWorld) -> None:
    keys.epoch_progress_path(epochs.world.directory, NAME).write_text('{"format": 2}')
    with pytest.raises(KeyFileError, match="it is damaged"):
        epochs.marking.withdrawable_at()


@pytest.mark.parametrize("way", [Way.OVERLAP, Way.SINGLE, Way.COMPROMISED])
def test_the_next_certificate_inherits_the_mark(epochs: EpochWorld, way: Way) -> None:
    turn_on(epochs)
    epochs.world.is_lossless = False
    epochs.world.rotation.start(way)
    for rdata in epochs.world.records.rdatas:
        assert mark_in(rdata) is Mark.MARKED
    finish(epochs.world)
    assert epochs.mark is Mark.MARKED
    assert epochs.world.identity.is_marked()


def test_a_new_identity_inherits_the_mark(epochs: EpochWorld) -> None:
    turn_on(epochs)
    epochs.world.identity.generate_selfsigned_certificate()
    assert epochs.world.identity.is_marked()
    epochs.world.identity.replace_selfsigned_identity()
    assert epochs.world.identity.is_marked()


def test_a_certificate_without_the_mark_cannot_take_the_place_of_a_marked_one(epochs: EpochWorld) -> None:
    turn_on(epochs)
    identity = epochs.world.identity
    key = keys.read_private_key(keys.key_path(epochs.world.directory, NAME))
    plain = build_self_signed_certificate(
        key, identity.build_x509_name(), identity.build_subject_alt_name(), datetime.now(UTC)
    )
    with pytest.raises(KeyFileError, match="does not have the mark"):
        identity.install_certificate(plain.public_bytes(Encoding.PEM))
    identity.mark_certificate()
    identity.install_certificate(identity.get_pki_asset("cert"))


def test_a_request_of_a_marked_device_has_the_mark_and_a_certificate_without_it_is_refused(epochs: EpochWorld) -> None:
    epochs.world.identity.generate_csr()
    plain = x509.load_pem_x509_csr(epochs.world.identity.get_pki_asset("csr"))
    turn_on(epochs)
    epochs.world.identity.generate_csr()
    marked = x509.load_pem_x509_csr(epochs.world.identity.get_pki_asset("csr"))
    following = x509.load_pem_x509_csr(epochs.world.rotation.request(Way.OVERLAP))
    assert [OID in {one.oid for one in request.extensions} for request in (plain, marked, following)] == [
        False,
        True,
        True,
    ]
    identity = epochs.world.identity
    key = keys.read_private_key(keys.next_key_path(epochs.world.directory, NAME))
    name, alternative = identity.build_x509_name(), identity.build_subject_alt_name()
    for extensions in ((), (EXTENSION,)):
        issued = build_self_signed_certificate(key, name, alternative, datetime.now(UTC), *extensions)
        pem = issued.public_bytes(Encoding.PEM)
        if extensions:
            epochs.world.rotation.install(pem)
        else:
            with pytest.raises(KeyFileError, match="does not have the mark"):
                epochs.world.rotation.install(pem)
    assert len(epochs.world.records.rdatas) == 2


def test_off_removes_a_mark_that_only_dns_has(epochs: EpochWorld) -> None:
    turn_on(epochs)
    epochs.world.identity.unmark_certificate()
    epochs.records = PublishedSet.of(TTL, [FOREIGN])
    epochs.marking.turn_off()
    assert epochs.mark is Mark.UNMARKED
