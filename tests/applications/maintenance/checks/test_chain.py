import dataclasses
from datetime import timedelta

import pytest
from dns.rdatatype import RdataType

from idlib.errors import BogusError, NotSecureError, TemporaryDiscoveryError
from messaging_maintenance.checks.chain import check_chain, is_clock_wrong
from messaging_maintenance.checks.result import Item, Status
from testbed.name_server import Zone
from tests.applications.maintenance.checks.observations import in_days, observed, signed_zone

RECORD = "3 1 0 ABCD"
INSECURE = NotSecureError("no AD bit")
BOGUS = BogusError("broken signatures")


def by_id(items: list[Item]) -> dict[str, Item]:
    return {item.id: item for item in items}


def test_a_secure_chain_says_for_how_long_its_signatures_are_valid() -> None:
    items = by_id(check_chain(observed(signed_zone(RECORD))))
    assert {item.status for item in items.values()} == {Status.OK}
    assert items["chain.signatures"].evidence.startswith(("valid for 7.0 more days", "valid for 6.9"))


def test_signatures_that_should_have_been_renewed_are_a_warning() -> None:
    zone = signed_zone(RECORD, since=timedelta(days=-13), until=timedelta(days=1))
    item = by_id(check_chain(observed(zone)))["chain.signatures"]
    assert (item.status, item.hint) == (
        Status.WARN,
        "see whether the zone's signer still runs: it should have renewed them",
    )


@pytest.mark.parametrize("days", [3650, -20, 8, -8])
def test_a_clock_outside_all_signatures_is_wrong(days: float) -> None:
    item = by_id(check_chain(observed(signed_zone(RECORD)), in_days(days)))["clock.signatures"]
    assert item.status is Status.FAIL


@pytest.mark.parametrize("days", [6.9, 0])
def test_a_clock_within_the_signatures_is_right(days: float) -> None:
    item = by_id(check_chain(observed(signed_zone(RECORD)), in_days(days)))["clock.signatures"]
    assert item.status is Status.OK


def test_a_zone_without_keys_is_not_signed() -> None:
    zone = signed_zone(RECORD)
    for key in [key for key in zone.records if key[1] == 48]:
        del zone.records[key]
    zone.signatures.clear()
    items = by_id(check_chain(observed(zone, INSECURE)))
    assert items["chain"].evidence == (
        "insecure from example.test on: example.test is not signed: it has no DNSKEY records"
    )
    assert items["chain.signed"].status is Status.FAIL


def test_a_signed_zone_without_a_ds_record_is_insecure() -> None:
    items = by_id(check_chain(observed(signed_zone(RECORD), INSECURE)))
    assert items["chain.signed"].status is Status.OK
    assert "there is no DS record for it at its parent" in items["chain.delegation"].evidence


def test_a_matching_ds_record_is_named() -> None:
    zone = signed_zone(RECORD)
    zone.add_text("@", "DS", zone.ds().split(" DS ")[1].strip())
    item = by_id(check_chain(observed(zone)))["chain.delegation"]
    assert item.evidence == f"a DS record at the parent of example.test matches the key {zone.key.key_id()}"


def test_a_ds_record_of_another_key_breaks_the_chain() -> None:
    zone = signed_zone(RECORD)
    zone.add_text("@", "DS", signed_zone().ds().split(" DS ")[1].strip())
    item = by_id(check_chain(observed(zone, BOGUS)))["chain.delegation"]
    assert item.evidence == "no key of example.test matches the DS record at its parent"


def test_expired_signatures_are_not_blamed_on_the_clock_alone() -> None:
    zone = signed_zone(RECORD, since=timedelta(days=-9), until=timedelta(days=-2))
    items = by_id(check_chain(observed(zone, BOGUS)))
    assert items["chain"].status is items["chain.signatures"].status is Status.FAIL
    assert "a signature expired at" in items["chain.signatures"].evidence
    # All signatures have expired: it may be the clock, too.
    assert items["clock.signatures"].status is Status.WARN
    assert "compare the clock" in items["clock.signatures"].hint


def test_a_clock_that_is_years_ahead_of_all_signatures_is_wrong_even_if_this_program_validates() -> None:
    items = by_id(check_chain(observed(signed_zone(RECORD), BOGUS), in_days(374)))
    assert items["clock.signatures"].status is Status.FAIL
    assert by_id(check_chain(observed(signed_zone(RECORD), BOGUS), in_days(371)))["clock.signatures"].status is (
        Status.WARN
    )


@pytest.mark.parametrize(("days", "is_wrong"), [(0, False), (6.9, False), (8, True), (-8, True), (-3650, True)])
def test_a_clock_is_wrong_outside_all_signatures(days: float, is_wrong: bool) -> None:  # noqa: FBT001
    assert is_clock_wrong(observed(signed_zone(RECORD)), in_days(days)) is is_wrong


def test_signatures_that_cannot_be_seen_are_not_said_to_verify() -> None:
    seen = observed(signed_zone(RECORD), BogusError("the resolver reports broken signatures"))
    blind = dataclasses.replace(seen, facts={}, reply=TemporaryDiscoveryError("no answer"), chain=None)
    item = by_id(check_chain(blind))["chain.signatures"]
    assert item.status is Status.FAIL
    assert item.evidence == "no signature can be seen from here, and the resolver reports broken signatures"
    fine = by_id(check_chain(observed(with_ds(signed_zone(RECORD)), BOGUS)))["chain.signatures"]
    assert fine.evidence == "the signatures seen from here verify, but broken signatures"


def with_ds(zone: Zone) -> Zone:
    zone.add_text("@", "DS", zone.ds().split(" DS ")[1].strip())
    return zone


def test_a_clock_before_this_software_was_made_is_wrong_whatever_is_signed() -> None:
    zone = signed_zone(RECORD)
    zone.signatures.clear()
    assert is_clock_wrong(observed(zone, INSECURE), 0)


def test_without_signatures_a_clock_is_not_judged() -> None:
    zone = signed_zone(RECORD)
    zone.signatures.clear()
    del zone.records[zone.origin, RdataType.DNSKEY]
    seen = observed(zone, INSECURE)
    assert not is_clock_wrong(seen, in_days(3650))
    items = by_id(check_chain(seen, in_days(3650)))
    assert (items["clock.signatures"].status, items["chain.signatures"].status) == (Status.SKIP, Status.SKIP)
    assert items["chain.signatures"].evidence == "there are no signatures"


def test_an_unsigned_zone_is_not_said_to_be_silent() -> None:
    zone = signed_zone(RECORD)
    del zone.records[zone.origin, RdataType.DNSKEY]
    zone.signatures.clear()
    item = by_id(check_chain(observed(zone, INSECURE)))["chain.delegation"]
    assert (item.status, item.evidence) == (Status.SKIP, "example.test has no keys")


@pytest.mark.parametrize(("silence", "status"), [("", Status.FAIL), ("does not answer in time", Status.SKIP)])
def test_a_resolver_that_is_silent_is_not_the_zones_fault(silence: str, status: Status) -> None:
    seen = observed(signed_zone(), TemporaryDiscoveryError("no answer"), silence)
    assert by_id(check_chain(seen))["chain"].status is status
