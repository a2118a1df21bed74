import os
from pathlib import Path

import pytest

from idlib.bootstrap import Bootstrap
from idlib.keys import certificate_path, key_path
from idlib.settings import Settings, load
from messaging_maintenance.checks import device_files
from messaging_maintenance.checks.catalogue import KEY_IDS
from messaging_maintenance.checks.device_files import (
    check_data_path,
    check_key_files,
    check_published_key,
    read_own_key,
)
from messaging_maintenance.checks.records import judge_all
from messaging_maintenance.checks.result import Item, Status
from messaging_maintenance.checks.running import Once
from tests.applications.maintenance.checks.observations import NAME, observed, signed_zone


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a device with a key and a certificate."""
    environment = {"IDENTITY_NAME": str(NAME), "CRYPTO_PATH": str(tmp_path), "APP_UID": str(os.geteuid())}
    read = load({**environment, "KEY_TYPE": "p256"})
    Bootstrap.from_settings(read).create_selfsigned_identity()
    return read


def check(settings: Settings, *rdatas: bytes) -> dict[str, Item]:
    items = check_key_files(settings, Once(lambda: read_own_key(settings)), rdatas)
    return {item.id: item for item in items}


def statuses(items: dict[str, Item]) -> dict[str, Status]:
    return {identifier: item.status for identifier, item in items.items() if item.status is not Status.OK}


def test_a_new_identity_passes(settings: Settings) -> None:
    items = check(settings)
    assert statuses(items) == {}
    assert "EC P-256, mode 0600" in items["key.file"].evidence


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_that_others_can_read_is_a_warning(mode: int, settings: Settings) -> None:
    path = key_path(settings.crypto_path, NAME)
    path.chmod(mode)
    item = check(settings)["key.file"]
    assert (item.status, item.hint) == (Status.WARN, f"run chmod 600 {path}")


def test_a_missing_key_hides_nothing_of_the_certificate(settings: Settings) -> None:
    key_path(settings.crypto_path, NAME).unlink()
    items = check(settings)
    assert statuses(items) == {"key.file": Status.FAIL, "certificate.match": Status.SKIP}


def test_no_identity_at_all_is_one_failure(settings: Settings) -> None:
    key_path(settings.crypto_path, NAME).unlink()
    certificate_path(settings.crypto_path, NAME).unlink()
    items = check(settings)
    assert {identifier for identifier, status in statuses(items).items() if status is Status.FAIL} == {"key.file"}
    assert set(statuses(items)) == set(KEY_IDS)


def test_a_missing_certificate_beside_a_key_is_a_failure(settings: Settings) -> None:
    certificate_path(settings.crypto_path, NAME).unlink()
    assert statuses(check(settings))["certificate.file"] is Status.FAIL


def test_a_broken_certificate_is_a_failure(settings: Settings) -> None:
    certificate_path(settings.crypto_path, NAME).write_bytes(b"\x1b[2J")
    items = check(settings)
    assert statuses(items) == {
        "certificate.file": Status.FAIL,
        "certificate.match": Status.SKIP,
        "certificate.name": Status.SKIP,
        "certificate.dates": Status.SKIP,
    }


def test_a_certificate_of_another_key_is_a_failure(settings: Settings) -> None:
    old = certificate_path(settings.crypto_path, NAME).read_bytes()
    Bootstrap.from_settings(settings).replace_selfsigned_identity()
    certificate_path(settings.crypto_path, NAME).write_bytes(old)
    assert statuses(check(settings)) == {"certificate.match": Status.FAIL}


@pytest.mark.parametrize(("usage", "status"), [(1, Status.FAIL), (3, Status.WARN), (4, Status.FAIL)])
def test_a_certificate_of_another_name_matters_to_some_records(usage: int, status: Status, settings: Settings) -> None:
    other = Bootstrap("other._device.example.test", str(settings.crypto_path), os.geteuid())
    other.create_selfsigned_identity()
    pem = certificate_path(settings.crypto_path, other.identity_name).read_bytes()
    certificate_path(settings.crypto_path, NAME).write_bytes(pem)
    assert check(settings, bytes((usage, 0, 0, 1)))["certificate.name"].status is status


def published(settings: Settings, *crypto_settings: Settings) -> Item:
    records = [str(Bootstrap.from_settings(one).tlsa_record(1)) for one in crypto_settings]
    seen = observed(signed_zone(*records))
    (item,) = check_published_key(seen, judge_all(seen.rdatas, NAME, None), settings)
    return item


def other_identity(directory: Path) -> Settings:
    environment = {"IDENTITY_NAME": str(NAME), "CRYPTO_PATH": str(directory), "APP_UID": str(os.geteuid())}
    read = load({**environment, "KEY_TYPE": "p256"})
    Bootstrap.from_settings(read).create_selfsigned_identity()
    return read


def test_the_record_of_the_current_key_is_found_beside_that_of_the_next(settings: Settings, tmp_path: Path) -> None:
    other = other_identity(tmp_path / "other")
    pem = key_path(other.crypto_path, NAME).read_bytes()
    (settings.crypto_path / f"{NAME}.key.next.pem").write_bytes(pem)
    item = published(settings, settings, other)
    assert item.status is Status.OK
    assert "is of the current key" in item.evidence
    assert f"is of the next key ({NAME}.key.next.pem)" in item.evidence


def test_a_record_of_a_previous_key_alone_is_a_failure(settings: Settings, tmp_path: Path) -> None:
    other = other_identity(tmp_path / "other")
    pem = key_path(other.crypto_path, NAME).read_bytes()
    (settings.crypto_path / f"{NAME}.key.previous.pem").write_bytes(pem)
    item = published(settings, other)
    assert item.status is Status.FAIL
    assert f"is of a previous key ({NAME}.key.previous.pem)" in item.evidence


def test_a_record_of_an_unknown_key_alone_is_a_failure(settings: Settings, tmp_path: Path) -> None:
    item = published(settings, other_identity(tmp_path / "other"))
    assert item.status is Status.FAIL
    assert "is of an unknown key" in item.evidence


@pytest.mark.parametrize(("others", "status"), [(2, Status.OK), (3, Status.FAIL)])
def test_a_record_behind_those_of_3_other_keys_is_not_looked_at(
    others: int, status: Status, settings: Settings, tmp_path: Path
) -> None:
    # Bare keys come before certificates.
    records = [
        str(Bootstrap.from_settings(other_identity(tmp_path / f"other{number}")).tlsa_record(1))
        for number in range(others)
    ]
    seen = observed(signed_zone(*records, str(Bootstrap.from_settings(settings).tlsa_record(0))))
    (item,) = check_published_key(seen, judge_all(seen.rdatas, NAME, None), settings)
    assert item.status is status
    assert "is of the current key" in item.evidence


def test_no_record_says_nothing_of_keys(settings: Settings) -> None:
    assert published(settings).status is Status.SKIP


def test_a_data_path_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    assert {item.status for item in check_data_path(tmp_path / "data")} == {Status.SKIP}
    assert not (tmp_path / "data").exists()


def test_a_data_path_that_is_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    first, *others = check_data_path(tmp_path / "data")
    assert first.status is Status.FAIL
    assert {item.status for item in others} == {Status.SKIP}


def test_a_data_path_on_a_disk_passes_unchanged(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mtime_ns
    path, *_ = check_data_path(tmp_path)
    assert path.status is Status.OK
    assert (tmp_path.stat().st_mtime_ns, list(tmp_path.iterdir())) == (before, [])


@pytest.mark.parametrize(("limit", "status"), [("_ENOUGH_BYTES", Status.WARN), ("_LEAST_BYTES", Status.FAIL)])
def test_less_space_than_is_needed_is_said(
    limit: str, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_files, limit, 2**70)
    items = {item.id: item for item in check_data_path(tmp_path)}
    assert items["data.space"].status is status


def test_a_file_system_without_a_disk_is_named() -> None:
    items = {item.id: item for item in check_data_path(Path("/proc"))}
    assert items["data.filesystem"].evidence == "'/proc' is on proc"
