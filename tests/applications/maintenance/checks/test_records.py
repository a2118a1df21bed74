import dataclasses

import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from idlib.discovery import MAX_JUDGED
from idlib.errors import NoRecordError, NotSecureError, TemporaryDiscoveryError
from idlib.keys import generate_private_key
from idlib.publishing.zone import NameServer
from idlib.settings import KeyType, ServerAddress
from messaging_maintenance.checks.catalogue import RECORD_IDS
from messaging_maintenance.checks.exchange import Response
from messaging_maintenance.checks.name_servers import Served
from messaging_maintenance.checks.observation import Observation
from messaging_maintenance.checks.records import check_records, judge_all
from messaging_maintenance.checks.report import as_json, as_text
from messaging_maintenance.checks.result import Item, Status
from testbed.name_server import Answering, Zone
from tests.applications.maintenance.checks.observations import NAME, observed, reply_of, signed_zone

ABSENT = NoRecordError("it does not exist")
START = dns.name.from_text(str(NAME))
SERVER = NameServer("ns.example.test", ServerAddress("127.0.0.1", 1))


def record(number: int = 0) -> str:
    """Return a record of a key; the same key for the same number."""
    while len(KEYS) <= number:
        KEYS.append(generate_private_key(KeyType.P256).public.der.hex())
    return f"3 1 0 {KEYS[number]}"


KEYS: list[str] = []


def items_of(seen: Observation, *served: Served, elsewhere: Zone | None = None) -> list[Item]:
    zone = elsewhere or signed_zone()
    return check_records(seen, judge_all(seen.rdatas, NAME, None), served, Answering(zone.answer))


def check(seen: Observation, *served: Served, elsewhere: Zone | None = None) -> dict[str, Item]:
    items = items_of(seen, *served, elsewhere=elsewhere)
    assert {item.id for item in items} == set(RECORD_IDS)
    return {item.id: item for item in reversed(items)}


def of_status(items: dict[str, Item], status: Status) -> set[str]:
    return {identifier for identifier, item in items.items() if item.status is status}


def served_by(zone: Zone, *, is_authoritative: bool = True) -> Served:
    answer = reply_of(zone, START, RdataType.TLSA, is_authenticated=False).answer
    response = Response(answer, is_authoritative, offers_recursion=False, size=100, edns_payload=1232)
    return Served(SERVER, response, None, 7)


def test_a_usable_record_passes_and_is_chosen() -> None:
    items = check(observed(signed_zone(record())))
    assert of_status(items, Status.OK) == set(RECORD_IDS)
    assert items["record.usable"].evidence == "1 of 1 record can be used"
    assert items["record.each"].evidence.endswith(": EC P-256")
    assert items["record.chosen"].evidence.startswith("senders encrypt to 3 1 0 3059")
    assert items["record.number"].evidence == "1 record, 1 key"


def test_records_that_cannot_be_used_are_one_failure_however_many_there_are() -> None:
    items = check(observed(signed_zone(*(f"3 1 1 {number:064x}" for number in range(20)))))
    assert of_status(items, Status.FAIL) == {"record.usable"}
    assert items["record.usable"].evidence.startswith("0 of 20 records can be used: ")
    assert items["record.usable"].hint
    assert items["record.chosen"].status is Status.SKIP


def test_of_many_records_16_are_shown_and_the_rest_is_counted() -> None:
    each = [
        item
        for item in items_of(observed(signed_zone(*(f"3 1 1 {number:064x}" for number in range(20)))))
        if item.id == "record.each"
    ]
    assert len(each) == MAX_JUDGED + 1
    assert each[-1].evidence == "4 more records, which no one looks at"
    assert all(item.status is Status.WARN and item.hint for item in each)


def test_a_useless_record_beside_a_usable_one_is_a_warning() -> None:
    items = check(observed(signed_zone(record(), "3 0 0 00")))
    assert of_status(items, Status.FAIL) == set()
    assert items["record.usable"].evidence == "1 of 2 records can be used"


@pytest.mark.parametrize(("number", "status"), [(3, Status.OK), (4, Status.WARN)])
def test_more_than_3_keys_are_too_many(number: int, status: Status) -> None:
    item = check(observed(signed_zone(*map(record, range(number)))))["record.number"]
    assert (item.status, item.evidence.startswith(f"{number} records, {number} keys")) == (status, True)


@pytest.mark.parametrize(("number", "status"), [(8, Status.OK), (9, Status.WARN)])
def test_more_than_8_records_are_too_many(number: int, status: Status) -> None:
    useless = [f"3 1 1 {one:064x}" for one in range(number - 1)]
    assert check(observed(signed_zone(record(), *useless)))["record.number"].status is status


@pytest.mark.parametrize(("ttl", "status"), [(86400, Status.OK), (86401, Status.WARN)])
def test_a_ttl_of_more_than_a_day_is_a_warning(ttl: int, status: Status) -> None:
    item = check(observed(signed_zone(record(), ttl=ttl)))["record.ttl"]
    assert (item.status, item.evidence) == (status, f"caches keep the records for {ttl} s")


def test_the_ttl_is_that_of_the_zone_and_not_what_is_left_of_it_in_a_cache() -> None:
    cached, zone = signed_zone(record(), ttl=5), signed_zone(record(), ttl=172800)
    item = check(observed(cached), served_by(zone))["record.ttl"]
    assert (item.status, item.evidence) == (Status.WARN, "caches keep the records for 172800 s")


def test_a_record_that_no_server_has_is_not_published() -> None:
    zone = signed_zone()
    items = check(observed(zone, ABSENT), served_by(zone))
    assert of_status(items, Status.FAIL) == {"record.published"}
    assert of_status(items, Status.OK) == {"record.cache", "record.place", "record.alias"}
    assert items["record.published"].evidence == f"{NAME} has no TLSA record"


def test_whether_the_name_exists_is_said() -> None:
    seen = observed(signed_zone(), ABSENT)
    reply = dataclasses.replace(seen.reply, answer=dataclasses.replace(seen.reply.answer, rcode=dns.rcode.NXDOMAIN))
    assert check(dataclasses.replace(seen, reply=reply))["record.published"].evidence == f"{NAME} does not exist in DNS"


def test_without_an_answer_of_a_name_server_a_cache_is_not_judged() -> None:
    items = check(observed(signed_zone(), ABSENT), Served(SERVER, None, None, None, "does not answer in time"))
    assert items["record.cache"].status is Status.SKIP


@pytest.mark.parametrize(
    ("verdict", "period"),
    [
        (NoRecordError("none", kept_seconds=120), " for up to another 120 s"),
        (ABSENT, ""),
        (NotSecureError("not authenticated"), ""),
    ],
)
def test_a_record_that_only_name_servers_have_is_cached_as_absent(verdict: NoRecordError, period: str) -> None:
    items = check(observed(signed_zone(), verdict), served_by(signed_zone(record())))
    assert of_status(items, Status.FAIL) == {"record.cache"}
    assert f"still reports{period} that there is none" in items["record.cache"].evidence
    assert str(SERVER) in items["record.published"].evidence


def test_an_answer_that_is_not_from_the_zone_shows_nothing_of_its_records() -> None:
    items = check(observed(signed_zone(), ABSENT), served_by(signed_zone(record()), is_authoritative=False))
    assert of_status(items, Status.FAIL) == {"record.published"}


@pytest.mark.parametrize(
    "place",
    [f"_443._tcp.{NAME}", f"{NAME}.example.test", f"_443._tcp.{NAME}.example.test"],
    ids=["port", "zone", "both"],
)
def test_a_record_at_a_wrong_name_is_found_there(place: str) -> None:
    zone = signed_zone()
    zone.add_text(f"{place}.", "TLSA", record())
    items = check(observed(signed_zone(), ABSENT), elsewhere=zone)
    assert of_status(items, Status.FAIL) == {"record.place"}
    assert items["record.published"].status is Status.SKIP
    assert items["record.place"].evidence == f"there is a TLSA record at {place} instead of {NAME}"
    assert items["record.place"].hint == f"move it from {place} to {NAME}"


def test_a_wildcard_is_a_warning_that_names_it() -> None:
    zone = signed_zone(record())
    signature = zone.signatures[START, RdataType.TLSA]
    zone.signatures[START, RdataType.TLSA] = dns.rrset.from_rdata(
        START, 60, signature[0].replace(labels=len(START) - 2)
    )
    item = check(observed(zone))["record.place"]
    assert item.status is Status.WARN
    assert "comes from the wildcard *._device.example.test, which" in item.evidence


def test_the_way_through_an_alias_is_shown() -> None:
    zone = signed_zone()
    zone.add_text(f"{NAME}.", "CNAME", "target.example.test.")
    zone.add_text("target", "TLSA", record())
    items = check(observed(zone))
    assert items["record.alias"].evidence == f"the records are at an alias (CNAME): {NAME} → target.example.test"
    assert items["record.place"].evidence == "the record is at target.example.test itself"


def test_an_alias_of_a_name_without_a_record_is_named() -> None:
    zone = signed_zone()
    zone.add_text(f"{NAME}.", "CNAME", "target.example.test.")
    item = check(observed(zone, ABSENT))["record.published"]
    assert item.evidence == f"{NAME} is an alias (CNAME) of target.example.test, which has no TLSA record"


def test_aliases_without_an_end_are_a_failure() -> None:
    seen = observed(signed_zone(), TemporaryDiscoveryError("no answer"))
    other = dns.name.from_text("b.example.test")
    endless = dataclasses.replace(seen, chain=None, trail=(START, other, START))
    items = check(endless)
    assert of_status(items, Status.FAIL) == {"record.alias"}
    assert items["record.alias"].evidence.endswith(f"more than 8: {NAME} → b.example.test → {NAME}")
    assert of_status(items, Status.SKIP) == set(RECORD_IDS) - {"record.alias"}


def test_without_an_answer_nothing_is_said_of_records() -> None:
    seen = dataclasses.replace(observed(signed_zone(), TemporaryDiscoveryError("no answer")), chain=None)
    assert of_status(check(seen), Status.SKIP) == set(RECORD_IDS)


def test_senders_choose_none_that_is_not_authenticated() -> None:
    item = check(observed(signed_zone(record()), NotSecureError("not authenticated")))["record.chosen"]
    assert (item.status, item.evidence) == (Status.SKIP, "senders use none of them: not authenticated")


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=30, unique=True))
def test_any_records_are_shown_harmlessly_and_one_cause_is_one_failure(rdatas: list[bytes]) -> None:
    seen = observed(OF_ONE)
    assert seen.chain is not None
    assert seen.chain.records is not None
    chain = dataclasses.replace(seen.chain, records=dataclasses.replace(seen.chain.records, rdatas=tuple(rdatas)))
    seen = dataclasses.replace(seen, chain=chain)
    judged = judge_all(seen.rdatas, NAME, None)
    items = check_records(seen, judged, (), Answering(OF_ONE.answer))
    assert len(judged) == min(len(rdatas), MAX_JUDGED)
    failures = [item.id for item in items if item.status is Status.FAIL]
    assert failures == ([] if any(one.key for one in judged) else ["record.usable"])
    for text in (as_text(NAME, items, coloured=False), as_json(NAME, items)):
        assert all(character.isprintable() or character == "\n" for character in text)


OF_ONE = signed_zone("3 1 0 ABCD")
