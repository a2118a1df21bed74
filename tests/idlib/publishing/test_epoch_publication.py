"""Which TXT records are changed and which are kept, at a publisher that only remembers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import pytest

from idlib.algorithms import PrivateKey
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.errors import ConcurrentChangeError, NotServedError, PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.epoch_publication import EpochPublishing, epoch_texts
from idlib.publishing.record_types import epoch_place, text_of
from idlib.publishing.zone import NameServer, Zone
from testbed.certificate_maker import ec_key
from testbed.name_server import Respond, Server
from tests.idlib.publishing.authority import authoritative, zone_of

NAME = IdentityName("alice._device.example.test")
KEY = PrivateKey(ec_key())
FOREIGN = b"\x0bv=spf1 -all"
DAY = 86_400


@functools.cache
def record(number: int) -> SignedEpochRecord:
    public = EpochPrivateKey(bytes([number]) * 32).public
    return SignedEpochRecord.create(EpochRecord(1000, 1000 + DAY, public), NAME, KEY)


def cut(text: bytes, length: int = 255) -> bytes:
    strings = [text[start : start + length] for start in range(0, len(text), length)]
    return b"".join(bytes((len(string),)) + string for string in strings)


@dataclass
class Publisher:
    """A publisher whose name server serves at once what was applied, as its provider shows it."""

    records: PublishedSet
    minimum: int = 0
    meanwhile: list[bytes] = field(default_factory=list)
    applied: list[Change] = field(default_factory=list)
    rewrite: Callable[[bytes], bytes] = bytes

    def read(self) -> PublishedSet:
        return self.records

    def lowest_ttl(self) -> int:
        return self.minimum

    def apply(self, change: Change) -> None:
        if self.meanwhile:
            self.records = PublishedSet.of(60, [*self.records.rdatas, self.meanwhile.pop()])
            raise ConcurrentChangeError("the records were changed by someone else", "run the command again")
        assert change.before == self.records
        self.applied.append(change)
        self.records = PublishedSet.of(change.after.ttl, map(self.rewrite, change.after.rdatas))

    def check(self) -> None:
        raise AssertionError("publishing does not check the credential by itself")

    def renew(self) -> None:
        raise AssertionError("only the TLSA records are renewed")

    def respond(self) -> Respond:
        def answer(query: object, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
            zone = zone_of("example.test.", "@ NS ns")
            records = [
                dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, rdata, 0, len(rdata))
                for rdata in self.records.rdatas
            ]
            if records:
                owner = f"_epoch.{NAME}."
                zone.replace_rdataset(owner, dns.rdataset.from_rdata_list(self.records.ttl, records))
            return authoritative(zone)(query, over_tcp)  # type: ignore[arg-type]

        return answer


Start = Callable[..., tuple[EpochPublishing, Publisher]]


@pytest.fixture
def start(serve: Callable[..., Server]) -> Start:
    def opened(*rdatas: bytes, epoch_length: int = DAY, **named: object) -> tuple[EpochPublishing, Publisher]:
        publisher = Publisher(PublishedSet.of(300, rdatas), **named)  # type: ignore[arg-type]
        server = NameServer("ns.example.test", serve(publisher.respond()).address)
        zone = Zone("example.test", "ns.example.test", 1800, (server,), ())
        return EpochPublishing(publisher, zone, epoch_place(NAME), epoch_length, wait_seconds=3), publisher

    return opened


def test_records_take_the_place_of_other_epoch_records_and_leave_foreign_ones_alone(start: Start) -> None:
    stale, broken, empty = cut(record(1).to_text()), b"\x0aepoch1:???", b"\x00"
    publishing, publisher = start(stale, broken, FOREIGN, empty)
    publication = publishing.publish([record(2), record(3)])
    wanted = [cut(record(number).to_text()) for number in (2, 3)]
    assert publishing.read() == PublishedSet.of(3600, [*wanted, FOREIGN, empty])
    assert set(publication.foreign) == {FOREIGN, empty}
    assert set(publication.change.remove) == {stale, broken}
    assert [answer.records for answer in publication.served] == [publisher.records]
    assert len(publisher.applied) == 1


def test_a_second_time_nothing_is_changed(start: Start) -> None:
    publishing, publisher = start(FOREIGN)
    publishing.publish([record(1)])
    assert publishing.publish([record(1)]).change.is_empty
    assert len(publisher.applied) == 1


def test_a_provider_may_cut_the_text_into_other_strings(start: Start) -> None:
    publishing, publisher = start(rewrite=lambda rdata: cut(text_of(rdata), 100))
    publishing.publish([record(1)])
    assert publisher.records.rdatas == (cut(record(1).to_text(), 100),)
    assert publishing.publish([record(1)]).change.is_empty


def test_a_provider_that_changes_the_text_is_noticed(start: Start) -> None:
    publishing, _ = start(rewrite=lambda rdata: rdata.replace(b"epoch1:", b"EPOCH1:"))
    with pytest.raises(NotServedError):
        publishing.publish([record(1)])


def test_a_record_that_someone_else_adds_meanwhile_is_kept(start: Start) -> None:
    publishing, publisher = start(cut(record(1).to_text()), meanwhile=[FOREIGN])
    publishing.publish([record(2)])
    assert set(publisher.records.rdatas) == {FOREIGN, cut(record(2).to_text())}


def test_removing_leaves_the_foreign_records(start: Start) -> None:
    publishing, publisher = start(cut(record(1).to_text()), FOREIGN)
    assert publishing.withdraw().foreign == (FOREIGN,)
    assert publisher.records == PublishedSet.of(300, [FOREIGN])
    assert publishing.withdraw().change.is_empty


def test_nothing_is_left_if_there_was_nothing_else(start: Start) -> None:
    publishing, publisher = start(cut(record(1).to_text()))
    publishing.withdraw()
    assert publisher.records == PublishedSet.of(0, ())


@pytest.mark.parametrize("numbers", [(), (1, 1), tuple(range(1, 10))], ids=["none", "twice", "too many"])
def test_none_the_same_or_too_many_are_not_published(start: Start, numbers: tuple[int, ...]) -> None:
    publishing, publisher = start()
    with pytest.raises(ValueError, match="epoch records to publish"):
        publishing.publish([record(number) for number in numbers])
    assert not publisher.applied


def test_8_records_are_published(start: Start) -> None:
    publishing, publisher = start()
    publishing.publish([record(number) for number in range(1, 9)])
    assert len(epoch_texts(publisher.records.rdatas)) == 8


@pytest.mark.parametrize(
    ("length", "minimum", "ttl"), [(DAY, 0, 3600), (7200, 0, 1800), (7200, 1800, 1800), (DAY, 7200, 7200)]
)
def test_the_ttl_is_a_quarter_of_the_epoch_at_most_an_hour_unless_the_zone_needs_more(
    start: Start, length: int, minimum: int, ttl: int
) -> None:
    publishing, publisher = start(epoch_length=length, minimum=minimum)
    publishing.publish([record(1)])
    assert publisher.records.ttl == ttl


def test_a_zone_that_needs_a_longer_ttl_than_the_epochs_allow_is_an_error(start: Start) -> None:
    publishing, publisher = start(epoch_length=7200, minimum=3600)
    with pytest.raises(PublishingError) as caught:
        publishing.publish([record(1)])
    assert caught.value.fact == (
        f"the TXT records at _epoch.{NAME} need a TTL of 1800 s or less, a quarter of EPOCH_LENGTH, and the lowest that"
        " their zone allows is 3600 s"
    )
    assert caught.value.hint == "set EPOCH_LENGTH to 14400s or more, also for the receiver"
    assert not publisher.applied


@pytest.mark.parametrize(("length", "there", "ttl"), [(1000, 300, 250), (DAY, DAY, 3600)])
def test_a_ttl_that_is_too_long_is_lowered_unless_the_zone_is_known_to_require_it(
    start: Start, length: int, there: int, ttl: int
) -> None:
    publishing, publisher = start(epoch_length=length, minimum=there)
    publisher.records = PublishedSet.of(there, [cut(record(1).to_text()), FOREIGN])
    publishing.publish([record(2)])
    assert publisher.records.ttl == ttl


def test_a_provider_that_raises_the_ttl_is_noticed_at_the_next_time(start: Start) -> None:
    publishing, publisher = start(cut(record(1).to_text()), epoch_length=1000, minimum=300)
    with pytest.raises(PublishingError, match="the lowest that their zone allows is 300 s"):
        publishing.publish([record(1)])
    assert not publisher.applied
