"""What is changed and what is kept, at a publisher that only remembers; real ones are in tests/integration."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from idlib.errors import ConcurrentChangeError, PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.publication import Publication, Publishing
from idlib.publishing.zone import NameServer, Zone
from idlib.records import TlsaRecord
from testbed.certificate_maker import NAME, Authority, der, ec_key, rsa_key
from testbed.name_server import Respond, Server
from tests.idlib.publishing.authority import authoritative, zone_of

Serve = Callable[..., Server]
DEVICE = IdentityName(NAME)
SPKI = ec_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
OTHER_SPKI = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
RECORD = TlsaRecord(3, 0, 0, der(Authority().issue()))
SAME_KEY = [TlsaRecord(3, 1, 0, SPKI), TlsaRecord(3, 0, 0, der(Authority().issue()))]
FOREIGN = [TlsaRecord(3, 1, 0, OTHER_SPKI), TlsaRecord(3, 1, 1, bytes(32)), TlsaRecord(3, 0, 0, b"no certificate")]
DIGEST_OF_NOBODY = bytes((3, 1, 1)) + bytes([1]) * 32


@dataclass
class Publisher:
    """A publisher whose name server serves at once what was applied."""

    records: PublishedSet
    minimum: int = 0
    meanwhile: list[bytes] = field(default_factory=list)
    applied: list[Change] = field(default_factory=list)
    renewals: int = 0

    def read(self) -> PublishedSet:
        return self.records

    def lowest_ttl(self) -> int:
        return self.minimum

    def apply(self, change: Change) -> None:
        self.applied.append(change)
        if self.meanwhile:
            self.records = PublishedSet.of(60, [*self.records.rdatas, self.meanwhile.pop()])
            raise ConcurrentChangeError("the records were changed by someone else", "run the command again")
        self.records = change.after

    def check(self) -> None:
        raise AssertionError("publishing does not check the credential by itself")

    def renew(self) -> None:
        self.renewals += 1

    def respond(self) -> Respond:
        def answer(query: object, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
            lines = [rf"alice._device {self.records.ttl} TLSA \# {len(r)} {r.hex()}" for r in self.records.rdatas]
            zone = zone_of("example.test.", "@ NS ns", *lines)
            return authoritative(zone)(query, over_tcp)  # type: ignore[arg-type]

        return answer


@dataclass
class PublishedZone:
    publisher: Publisher
    zone: Zone

    def publishing(self, ttl: int = 300) -> Publishing:
        return Publishing(self.publisher, self.zone, DEVICE, ttl, wait_seconds=5)


@pytest.fixture
def published_zone(serve: Serve) -> Callable[..., PublishedZone]:
    def start(*records: TlsaRecord, ttl: int = 300, **named: object) -> PublishedZone:
        publisher = Publisher(PublishedSet.of(ttl, [record.to_rdata() for record in records]), **named)  # type: ignore[arg-type]
        server = NameServer("ns.example.test", serve(publisher.respond()).address)
        return PublishedZone(publisher, Zone("example.test", "ns.example.test", 1800, (server,), ()))

    return start


def rdatas(*records: TlsaRecord) -> set[bytes]:
    return {record.to_rdata() for record in records}


def test_a_record_is_added_with_the_wanted_ttl(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone()
    publication = there.publishing(ttl=77).publish([RECORD])
    assert there.publisher.records == PublishedSet.of(77, [RECORD.to_rdata()])
    assert publication.change.add == (RECORD.to_rdata(),)
    assert publication.foreign == ()
    assert [answer.records for answer in publication.served] == [there.publisher.records]


def test_a_second_time_nothing_is_changed(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(RECORD, *FOREIGN)
    publication = there.publishing().publish([RECORD])
    assert publication.change.is_empty
    assert there.publisher.applied == []


def test_other_records_of_the_same_key_are_replaced(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(*SAME_KEY)
    there.publishing().publish([RECORD])
    assert set(there.publisher.records.rdatas) == rdatas(RECORD)


def test_records_of_unknown_keys_are_kept_and_listed(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(*FOREIGN)
    publication = there.publishing().publish([RECORD])
    assert set(there.publisher.records.rdatas) == rdatas(RECORD, *FOREIGN)
    assert set(publication.foreign) == rdatas(*FOREIGN)


def test_records_of_unknown_keys_are_removed_if_that_is_wanted(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(*FOREIGN)
    publication = there.publishing().publish_only([RECORD])
    assert set(there.publisher.records.rdatas) == rdatas(RECORD)
    assert publication.foreign == ()


def test_records_of_retired_keys_are_removed(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(*FOREIGN)
    publication = there.publishing().publish([RECORD], retired=[OTHER_SPKI])
    assert set(there.publisher.records.rdatas) == rdatas(RECORD, *FOREIGN[1:])
    assert set(publication.foreign) == rdatas(*FOREIGN[1:])


@pytest.mark.parametrize(("wanted", "minimum", "ttl"), [(300, 0, 300), (300, 3600, 3600), (86400, 3600, 86400)])
def test_the_ttl_is_raised_to_what_the_zone_requires(
    published_zone: Callable[..., PublishedZone], wanted: int, minimum: int, ttl: int
) -> None:
    there = published_zone(RECORD, ttl=60, minimum=minimum)
    change = there.publishing(wanted).publish([RECORD]).change
    assert there.publisher.records.ttl == ttl
    assert (change.add, change.remove, change.is_empty) == ((), (), False)


def test_a_zone_is_renewed_only_if_the_name_has_records(published_zone: Callable[..., PublishedZone]) -> None:
    empty, there = published_zone(), published_zone(RECORD)
    assert (empty.publishing().renew(), empty.publisher.renewals) == (False, 0)
    assert (there.publishing().renew(), there.publisher.renewals) == (True, 1)
    assert there.publisher.applied == []


def test_all_records_are_withdrawn(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(RECORD, *FOREIGN)
    publication = there.publishing().withdraw()
    assert there.publisher.records.rdatas == ()
    assert set(publication.change.remove) == rdatas(RECORD, *FOREIGN)
    assert there.publishing().withdraw().change.is_empty


def publish(there: PublishedZone) -> Publication:
    return there.publishing().publish([RECORD])


def test_a_change_that_someone_else_overtakes_is_made_again_from_what_is_there_then(
    published_zone: Callable[..., PublishedZone],
) -> None:
    there = published_zone(meanwhile=[DIGEST_OF_NOBODY])
    publication = publish(there)
    assert set(there.publisher.records.rdatas) == {RECORD.to_rdata(), DIGEST_OF_NOBODY}
    assert publication.foreign == (DIGEST_OF_NOBODY,)
    assert len(there.publisher.applied) == 2


def test_it_ends_if_someone_else_is_always_faster(published_zone: Callable[..., PublishedZone]) -> None:
    there = published_zone(meanwhile=[bytes((3, 1, 1)) + bytes([number]) * 32 for number in range(9)])
    with pytest.raises(ConcurrentChangeError):
        publish(there)
    assert len(there.publisher.applied) == 3


def test_a_change_that_no_name_server_serves_is_an_error(
    published_zone: Callable[..., PublishedZone], serve: Serve
) -> None:
    stale = serve(authoritative(zone_of("example.test.", "@ NS ns")))
    publisher = Publisher(PublishedSet.of(0, ()))
    server = NameServer("ns.example.test", stale.address)
    zone = Zone("example.test", "ns.example.test", 1800, (server,), ())
    with pytest.raises(PublishingError, match="not every name server serves"):
        Publishing(publisher, zone, DEVICE, 300, wait_seconds=0.2).publish([RECORD])
