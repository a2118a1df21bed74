"""Finding the TXT records of epoch keys through Knot and Unbound, with a trusted resolver and with pinned keys."""

import itertools
from pathlib import Path
from typing import Final

import pytest

from idlib.discovery import Discovery
from idlib.discovery.authentication import TrustedResolver
from idlib.discovery.resolver import Resolver, named_server
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoEpochRecordError,
    NotSecureError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
)
from idlib.names import IdentityName
from idlib.settings import ServerAddress, load
from testbed.daemons.process import LOOPBACK
from testbed.daemons.unbound import Unbound
from testbed.dns_lab import zones
from testbed.dns_lab.lab import DnsLab
from testbed.lab import BOGUS, SECURE, UNSIGNED, Lab, another_key

# As long as the record of a device with an RSA key of 2048 bits.
_CHARACTERS: Final = 1986
_COUNTER: Final = itertools.count()


def _new_name(zone: str = SECURE) -> IdentityName:
    return IdentityName(f"epochs-{next(_COUNTER)}._device.{zone}")


def _text(number: int = 0) -> bytes:
    return f"epoch1:{number:04}".encode().ljust(_CHARACTERS, b"x")


@pytest.fixture(params=["trusted", "pinned", "pinned, at the authority"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def discovery(lab: Lab, way: str, tmp_path: Path) -> Discovery:
    environment = {"IDENTITY_NAME": f"tester.{SECURE}", "DNS_RESOLVER": lab.unbound.address}
    if way != "trusted":
        anchors = tmp_path / "anchors"
        anchors.write_text(f"{lab.knot.ds(SECURE)}\n{another_key(lab.knot.ds(BOGUS))}\n")
        environment["DNSSEC_TRUST_ANCHORS"] = str(anchors)
    if way == "pinned, at the authority":
        environment["DNS_RESOLVER"] = f"{LOOPBACK}:{lab.knot.port}"
    return Discovery.from_settings(load(environment))


def _why_not(discovery: Discovery, name: IdentityName) -> DiscoveryError:
    with pytest.raises(DiscoveryError) as caught:
        discovery.find_epochs(name)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("records", [1, 4])
def test_records_of_2_and_8_kilobytes_are_found(lab: Lab, discovery: Discovery, records: int) -> None:
    name = _new_name()
    for number in range(records):
        lab.knot.add_txt(f"_epoch.{name}", _text(number))
    assert discovery.find_epochs(name).texts == tuple(_text(number) for number in range(records))


@pytest.mark.parametrize("way", ["trusted"])
def test_no_query_for_epoch_records_is_sent_over_udp(
    lab: Lab, discovery: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idlib.discovery.resolver.over_udp", lambda *_: pytest.fail("a query was sent over UDP"))
    name = _new_name()
    lab.knot.add_txt(f"_epoch.{name}", _text())
    assert discovery.find_epochs(name).texts == (_text(),)


def test_records_with_other_uses_do_not_hide_any(lab: Lab, discovery: Discovery) -> None:
    name = _new_name()
    lab.knot.add_txt(f"_epoch.{name}", b"v=spf1 -all")
    lab.knot.add_txt(f"_epoch.{name}", _text())
    assert discovery.find_epochs(name).texts == (_text(), b"v=spf1 -all")


def test_an_alias_is_followed(lab: Lab, discovery: Discovery) -> None:
    name, target = _new_name(), f"keys-{next(_COUNTER)}.{SECURE}"
    lab.knot.add_alias(f"_epoch.{name}", target)
    lab.knot.add_txt(target, _text())
    assert discovery.find_epochs(name).texts == (_text(),)


@pytest.mark.parametrize("case", ["no such name", "other records", "an alias of nothing"])
def test_an_absence_is_proven_only_by_a_trusted_resolver(lab: Lab, discovery: Discovery, way: str, case: str) -> None:
    name = _new_name()
    if case == "other records":
        lab.knot.add_tlsa(f"_epoch.{name}", "3 0 0 ABCD")
    if case == "an alias of nothing":
        lab.knot.add_alias(f"_epoch.{name}", f"nowhere.{SECURE}")
    error = _why_not(discovery, name)
    assert type(error) is (NoEpochRecordError if way == "trusted" else UnprovenAbsenceError)
    assert error.fact.startswith(f"{name} is marked as having epoch keys, and ")


def test_a_zone_without_dnssec_is_not_secure(lab: Lab, discovery: Discovery) -> None:
    name, alias = _new_name(UNSIGNED), _new_name()
    lab.knot.add_txt(f"_epoch.{name}", _text())
    lab.knot.add_alias(f"_epoch.{alias}", f"_epoch.{name}")
    assert type(_why_not(discovery, name)) is NotSecureError
    assert type(_why_not(discovery, alias)) is NotSecureError


def test_a_broken_zone_is_bogus(lab: Lab, discovery: Discovery) -> None:
    name = _new_name(BOGUS)
    lab.knot.add_txt(f"_epoch.{name}", _text())
    assert type(_why_not(discovery, name)) is BogusError


@pytest.mark.parametrize("trust", ["trusted", "pinned"])
@pytest.mark.parametrize("zone", ["servfail.test", "refused.test", "truncating.test", zones.LAME])
def test_a_failing_name_server_is_a_temporary_error(dns_lab: DnsLab, zone: str, trust: str) -> None:
    environment = {"IDENTITY_NAME": f"tester.{SECURE}", "DNS_RESOLVER": f"{LOOPBACK}:{dns_lab.unbound}"}
    if trust == "pinned":
        environment["DNSSEC_TRUST_ANCHORS"] = str(dns_lab.anchors)
    error = _why_not(Discovery.from_settings(load(environment)), _new_name(zone))
    assert type(error) is TemporaryDiscoveryError


def test_records_are_found_again_after_an_outage_and_cached_meanwhile(lab: Lab, own_unbound: Unbound) -> None:
    seconds = [0.0]
    resolver = Resolver(named_server(ServerAddress(own_unbound.host, own_unbound.port)))
    discovery = Discovery(TrustedResolver(resolver), clock=lambda: seconds[0])
    name = _new_name()
    lab.knot.add_txt(f"_epoch.{name}", _text(), 5)
    assert discovery.find_epochs(name).texts == (_text(),)
    own_unbound.stop()
    with pytest.raises(TemporaryDiscoveryError):
        discovery.find_epochs_again(name)
    assert discovery.find_epochs(name).texts == (_text(),)
    seconds[0] += 5
    with pytest.raises(TemporaryDiscoveryError):
        discovery.find_epochs(name)
    own_unbound.start()
    seconds[0] += 5
    assert discovery.find_epochs(name).texts == (_text(),)
