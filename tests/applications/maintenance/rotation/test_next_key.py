"""How the next key comes to be: beside the old one, by a CA, or in place of a lost or stolen one."""

import re
import shutil
import stat
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, keys
from idlib.errors import KeyFileError, NotServedError
from idlib.publishing.change import PublishedSet
from idlib.settings import KeyType
from messaging_maintenance.rotation.device import RotationError
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import NAME, World, finish


def issue(world: World, request: bytes) -> bytes:
    """Return what a CA answers: the certificate, after that of the CA itself."""
    asked = x509.load_pem_x509_csr(request)
    key = keys.read_private_key(keys.next_key_path(world.directory, NAME))
    assert asked.public_key() == key.public.native
    identity = world.identity
    own = certificates.build_self_signed_certificate(
        key,
        identity.build_x509_name(),
        identity.build_subject_alt_name(),
        datetime.now(UTC),
    )
    return identity.get_pki_asset("cert") + own.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("key_type", KeyType)
def test_a_key_is_changed_to_another_type(device: World, key_type: KeyType) -> None:
    device.environment["KEY_TYPE"] = key_type
    device.rotation.start(Way.OVERLAP)
    finish(device)
    sizes = {KeyType.P256: 256, KeyType.RSA2048: 2048, KeyType.RSA3072: 3072}
    key = keys.read_private_key(keys.key_path(device.directory, NAME))
    assert key.native.key_size == sizes[key_type]
    assert device.published() == {device.current}


@pytest.mark.parametrize("lost", [("key",), ("crt",), ("key", "crt")])
def test_a_lost_identity_is_replaced_at_once(device: World, lost: tuple[str, ...]) -> None:
    device.is_lossless = False
    for kind in lost:
        (device.directory / f"{NAME}.{kind}.pem").unlink()
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert device.identity.tlsa_record(0).to_rdata() in device.records.rdatas
    finish(device)
    assert device.previous == []


def test_an_identity_that_is_lost_with_its_directory_is_replaced_at_once(device: World) -> None:
    device.is_lossless = False
    shutil.rmtree(device.directory)
    with pytest.raises(KeyFileError, match="there is no directory"):
        device.rotation.start(Way.OVERLAP)
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert stat.S_IMODE(device.directory.stat().st_mode) == 0o700
    assert device.rotation.state() is None


def test_a_stolen_key_is_replaced_at_once_with_every_other_record(device: World) -> None:
    device.is_lossless = False
    stolen = device.current
    device.put(PublishedSet.of(300, [*device.records.rdatas, b"\3\1\1" + bytes(32)]))
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert stolen != device.current
    assert device.previous == [stolen]
    finish(device)
    assert device.previous == []


@pytest.mark.parametrize("stage", [Stage.PUBLISHED, Stage.SWITCHED, Stage.WITHDRAWN])
def test_a_key_stolen_during_a_rotation_takes_the_next_one_with_it(device: World, stage: Stage) -> None:
    device.is_lossless = False
    device.rotation.start(Way.OVERLAP)
    while device.state.stage is not stage:
        step = device.rotation.next_step()
        assert step is not None
        device.pass_time(step.safe_at - device.wall + 1 if step.safe_at else 0)
        device.rotation.advance()
    stolen = {device.current, device.next, *device.previous} - {None}
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert device.current not in stolen
    assert set(device.previous) == stolen
    # A second theft does not wait for the end of the first.
    device.rotation.start(Way.COMPROMISED)
    assert len(device.previous) == 3
    finish(device)
    assert (device.next, device.previous) == (None, [])


def test_the_new_key_signs_even_if_a_secondary_lags_behind(device: World) -> None:
    device.is_lossless, device.lags = False, True
    with pytest.raises(NotServedError):
        device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    device.lags = False
    device.rotation.start(Way.COMPROMISED)
    assert device.state.stage is Stage.WITHDRAWN


def test_a_certificate_of_a_ca_is_installed_for_the_next_key(device: World) -> None:
    request = device.rotation.request(Way.OVERLAP)
    assert device.rotation.request(Way.OVERLAP) != b""
    assert device.rotation.advance() is None
    with pytest.raises(RotationError, match="a rotation is under way"):
        device.rotation.request(Way.SINGLE)
    with pytest.raises(KeyFileError, match="is not for the key"):
        device.rotation.install(device.identity.get_pki_asset("cert"))
    device.rotation.install(issue(device, request))
    assert device.state.stage is Stage.PUBLISHED
    finish(device)
    assert device.published() == {device.current}
    with pytest.raises(RotationError, match="no rotation is under way"):
        device.rotation.install(b"")


def test_no_rotation_starts_if_recipients_would_not_try_both_keys(
    device: World, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = []
    for _ in range(2):
        other = World(tmp_path_factory.mktemp("other"), monkeypatch)
        other.identity.create_selfsigned_identity()
        foreign.append(other.identity.tlsa_record(0).to_rdata())
    device._patch(monkeypatch)
    device.is_lossless = False
    device.put(PublishedSet.of(300, [*device.records.rdatas, *foreign]))
    with pytest.raises(RotationError, match=r"records of 2 other keys.*--remove-foreign"):
        device.rotation.start(Way.OVERLAP)
    assert device.next is None
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}


def test_the_state_names_no_secret(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    contents = keys.rotation_path(device.directory, NAME).read_text()
    assert "PRIVATE" not in contents
    assert not re.search(re.escape(device.identity.get_pki_asset("key").decode().splitlines()[1]), contents)
