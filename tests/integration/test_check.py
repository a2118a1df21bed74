"""What `identity check` says about every condition of the DNS lab."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pytest

from idlib.names import IdentityName
from idlib.settings import load
from messaging_maintenance.checks.plan import Plan
from messaging_maintenance.checks.result import Item, Status, exit_status
from messaging_maintenance.checks.running import run_parts
from testbed.daemons.process import LOOPBACK
from testbed.dns_lab.conditions import CONDITIONS, Condition, Verdict
from testbed.dns_lab.lab import DnsLab

_WORKERS: Final = 8
_MOST_USED: Final = 8
# What follows from a lab without root servers.
_CONSEQUENCES: Final = frozenset({"network.port53"})
# For each condition that is insecure, bogus or temporary: the check that names the cause, and a part of its evidence.
_CAUSES: Final = {
    "alias in an unsigned zone": ("chain.signed", "unsigned.test is not signed"),
    "alias in a broken zone": ("chain.signatures", "alias-target._device.broken.test: a signature expired"),
    "alias of itself": ("record.alias", "lead back to where they began"),
    "alias of an alias of itself": ("record.alias", "lead back to where they began"),
    "nine aliases": ("record.alias", "more than 8"),
    "forty aliases": ("record.alias", "more than 8"),
    "no such name, opt-out": ("record.published", "does not exist in DNS"),
    "no such name, unsigned": ("chain.signed", "unsigned.test is not signed"),
    "no such name, no proof": ("chain.signatures", "no-denial.test does not prove that the record is absent"),
    "stripped": ("chain.signatures", "not signed by their zone"),
    "expired": ("chain.signatures", "a signature expired at"),
    "not yet valid": ("chain.signatures", "a signature is not valid before"),
    "flipped": ("chain.signatures", "a signature does not verify"),
    "over other records": ("chain.signatures", "a signature does not verify"),
    "by a foreign key": ("chain.signatures", "the zone has no key with the tag"),
    "by a foreign key of equal tag": ("chain.signatures", "a signature does not verify"),
    "by another zone": ("chain.signatures", "not signed by their zone"),
    "of an unknown algorithm": ("chain.signatures", "algorithm 100, which is not supported"),
    "forty times": ("chain.signatures", "too many signature checks"),
    "alias target": ("chain.signatures", "a signature expired at"),
    "unsigned": ("chain.signed", "unsigned.test is not signed"),
    "keys missing": ("chain.signed", "no-keys.test has signatures, but no DNSKEY records"),
    "keys not signed": ("chain.signatures", "DNSKEY records of keys-not-signed.test: they are not signed"),
    "keys expired": ("chain.signatures", "DNSKEY records of keys-expired.test: a signature expired"),
    "another anchor": ("chain.delegation", "another-anchor.test is signed, but with a key that the resolver does not"),
    "many keys of one tag": ("chain.signatures", "too many signature checks"),
    "child with a wrong DS": ("chain.delegation", "no key of wrong-ds.good.test matches the DS record"),
    "child with an unknown algorithm": ("chain.delegation", "kinds that are not supported (algorithm 100"),
    "child with an unknown digest": ("chain.delegation", "kinds that are not supported (algorithm 13 with digest 200)"),
    "unsigned child of a zone with NSEC": ("chain.signed", "unsigned.good.test is not signed"),
    "unsigned child of a zone with NSEC3": ("chain.signed", "unsigned.nsec3.test is not signed"),
    "unsigned child of a zone with opt-out": ("chain.signed", "unsigned.opt-out.test is not signed"),
    "child that ought to be signed": ("chain.signed", "DS record for stripped.good.test at its parent, but stripped"),
    "no such name in an unsigned child": ("chain.signed", "unsigned.good.test is not signed"),
    "alias out of an unsigned zone": ("chain.signed", "unsigned.test is not signed"),
    "no server listens": ("chain", "no name server of the zone gives it a usable answer"),
    "no server answers": ("chain", "no name server of the zone gives it a usable answer"),
    "lame": ("chain", "no name server of the zone gives it a usable answer"),
    "refused": ("chain", "no name server of the zone gives it a usable answer"),
    "not understood": ("chain", "no name server of the zone gives it a usable answer"),
    "failed": ("chain", "no name server of the zone gives it a usable answer"),
    "refused in a signed zone": ("chain", "no name server of the zone gives it a usable answer"),
    "always truncated": ("chain", "no name server of the zone gives it a usable answer"),
    "garbage": ("chain", "no name server of the zone gives it a usable answer"),
    "half an answer": ("chain", "no name server of the zone gives it a usable answer"),
}
_VERDICTS: Final = {Verdict.NOT_SECURE: "insecure", Verdict.BOGUS: "bogus", Verdict.TEMPORARY: "temporary"}

Checks = Mapping[Condition, "Future[list[Item]]"]


def _check_name(lab: DnsLab, condition: Condition) -> list[Item]:
    environment = {
        "IDENTITY_NAME": "tester._device.good.test",
        "DNS_RESOLVER": f"{LOOPBACK}:{lab.unbound}",
        "DNS_SERVER_PORT": str(lab.authority_of(condition)),
        "DNS_BOGUS_NAME": "expired._device.broken.test",
        "PKIX_CA_FILE": str(lab.authorities),
    }
    return run_parts(Plan(IdentityName(condition.name), load(environment)).of_any_name(), 60)


@pytest.fixture(scope="module")
def checks(dns_lab: DnsLab) -> Iterator[Checks]:
    """Check all names side by side, for some of them take as long as a check may."""
    with ThreadPoolExecutor(_WORKERS) as workers:
        yield {condition: workers.submit(_check_name, dns_lab, condition) for condition in CONDITIONS}


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.title)
def test_each_condition_is_named(condition: Condition, checks: Checks) -> None:
    items = checks[condition].result(120)
    failed = {item.id for item in items if item.status is Status.FAIL} - _CONSEQUENCES
    evidence = {item.id: item.evidence for item in items if item.id != "record.each"}
    expected = condition.trusted
    if expected is Verdict.NONE:
        assert failed == {"record.published"}, evidence
    elif expected is Verdict.UNUSABLE:
        assert failed == {"record.usable"}, evidence
        assert any(item.id == "record.each" and item.status is Status.WARN for item in items)
    elif isinstance(expected, Verdict):
        identifier, part = _CAUSES[condition.title]
        assert identifier in failed, evidence
        assert part in evidence[identifier]
        assert evidence["chain"].startswith(_VERDICTS[expected])
        assert failed <= {identifier, "chain", "record.published"}, evidence
    else:
        assert failed == set(), evidence
        assert len(expected) == _MOST_USED or evidence["record.usable"].startswith(f"{len(expected)} of ")
        assert evidence["record.chosen"].startswith(f"senders encrypt to {expected[0][:5]} ")
    assert exit_status(items) == (0 if not isinstance(expected, Verdict) else 8) or "octets.test" in condition.zone


def test_each_cause_is_of_a_condition() -> None:
    assert set(_CAUSES) <= {condition.title for condition in CONDITIONS}
