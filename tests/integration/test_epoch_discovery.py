"""Finding the TXT records of epoch keys through Knot and Unbound, with a trusted resolver and with pinned keys."""

import itertools
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cryptography.x509 import ExtensionType

from idlib import certificates, marks
from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import TrustedResolver
from idlib.discovery.resolver import Resolver, named_server
from idlib.epochs import EpochPrivateKey
from idlib.epochs.encryption_keys import EncryptionKeys, IdentityKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.epochs.selection import ChosenEpoch
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoEpochRecordError,
    NotSecureError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
)
from idlib.keys.creation import generate_private_key
from idlib.names import IdentityName
from idlib.records import WHOLE_CERTIFICATE, render
from idlib.settings import KeyType, ServerAddress, load
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


def _add_txt(lab: Lab, owner: str, *texts: bytes, ttl: int = 60) -> None:
    for text in texts:
        lab.knot.add_txt(owner, text, ttl)
    lab.wait_for_name(owner)


def _add_alias(lab: Lab, owner: str, target: str) -> None:
    lab.knot.add_alias(owner, target)
    lab.wait_for_name(owner)


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
    _add_txt(lab, f"_epoch.{name}", *(_text(number) for number in range(records)))
    assert discovery.find_epochs(name).texts == tuple(_text(number) for number in range(records))


@pytest.mark.parametrize("way", ["trusted"])
def test_no_query_for_epoch_records_is_sent_over_udp(
    lab: Lab, discovery: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idlib.discovery.resolver.over_udp", lambda *_: pytest.fail("a query was sent over UDP"))
    name = _new_name()
    _add_txt(lab, f"_epoch.{name}", _text())
    assert discovery.find_epochs(name).texts == (_text(),)


def test_records_with_other_uses_do_not_hide_any(lab: Lab, discovery: Discovery) -> None:
    name = _new_name()
    _add_txt(lab, f"_epoch.{name}", b"v=spf1 -all", _text())
    assert discovery.find_epochs(name).texts == (_text(), b"v=spf1 -all")


def test_an_alias_is_followed(lab: Lab, discovery: Discovery) -> None:
    name, target = _new_name(), f"keys-{next(_COUNTER)}.{SECURE}"
    _add_txt(lab, target, _text())
    _add_alias(lab, f"_epoch.{name}", target)
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
    _add_txt(lab, f"_epoch.{name}", _text())
    _add_alias(lab, f"_epoch.{alias}", f"_epoch.{name}")
    assert type(_why_not(discovery, name)) is NotSecureError
    assert type(_why_not(discovery, alias)) is NotSecureError


def test_a_broken_zone_is_bogus(lab: Lab, discovery: Discovery) -> None:
    name = _new_name(BOGUS)
    _add_txt(lab, f"_epoch.{name}", _text())
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
    _add_txt(lab, f"_epoch.{name}", _text(), ttl=5)
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


def test_a_marked_name_in_dns_is_written_to_with_its_epoch_key(lab: Lab, discovery: Discovery) -> None:
    name, now = _new_name(), int(time.time())
    key, epoch = generate_private_key(KeyType.RSA2048), EpochPrivateKey(secrets.token_bytes(32))
    record = EpochRecord(now - 3600, now + 9 * 86400, epoch.public)
    lab.knot.add_tlsa(name.text, _record(name, key, marks.EXTENSION))
    keys = EncryptionKeys(discovery)
    with pytest.raises(TemporaryDiscoveryError, match="is marked as having epoch keys, and "):
        keys.find(name, now, 3600)
    prepared = _new_name()
    lab.knot.add_tlsa(prepared.text, _record(prepared, key, marks.EXTENSION))
    _add_txt(lab, f"_epoch.{prepared}", SignedEpochRecord.create(record, prepared, key).to_text())
    chosen = keys.find(prepared, now, 3600)
    assert isinstance(chosen, ChosenEpoch)
    assert (chosen.epoch.record, chosen.epoch.key_id) == (record, record.key_id(prepared))


def test_an_unmarked_name_with_epoch_records_is_written_to_with_its_identity_key(
    lab: Lab, discovery: Discovery
) -> None:
    name, now = _new_name(), int(time.time())
    key, epoch = generate_private_key(KeyType.RSA2048), EpochPrivateKey(secrets.token_bytes(32))
    lab.knot.add_tlsa(name.text, _record(name, key))
    record = EpochRecord(now - 3600, now + 9 * 86400, epoch.public)
    _add_txt(lab, f"_epoch.{name}", SignedEpochRecord.create(record, name, key).to_text())
    assert isinstance(EncryptionKeys(discovery).find(name, now, 3600), IdentityKey)


def _record(name: IdentityName, key: PrivateKey, *extensions: ExtensionType) -> str:
    subject = certificates.build_subject(name, country="US", state="CA", locality="San Francisco", organization="a")
    alternative = certificates.build_subject_alternative_name(name)
    certificate = certificates.build_self_signed_certificate(key, subject, alternative, datetime.now(UTC), *extensions)
    return str(render(certificate, WHOLE_CERTIFICATE))
