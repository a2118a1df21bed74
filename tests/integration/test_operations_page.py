"""The commands of docs/operations.md that change a device's records and keys, run as a reader enters them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.lab import wait_until
from testbed.programs import CREATE_SELFSIGNED_ID, MAINTENANCE, ROOT, ROTATE_ID, Device, Program
from testbed.rotation import ZONE, Party, RotationLab, Rotator, open_rotation_lab
from tests import documents


class Laptop:
    """A shell in the checkout, in whose home the key and the credential of a device are.

    Args:
        home: The directory; it may exist.
        lab: The daemons.
        label: The first part of the device's name.
    """

    def __init__(self, home: Path, lab: RotationLab, label: str) -> None:
        (home / "messenger" / "identity").mkdir(parents=True)
        shutil.copy(lab.key_file, home / "messenger")
        device = lab.device(label)
        self.lab = lab
        settings = {
            **device.settings,
            "HOME": str(home),
            "CRYPTO_PATH": str(home / "messenger" / "identity"),
            # The commands set these.
            **dict.fromkeys(("DNS_PUBLISH", "DNS_UPDATE_KEY_FILE"), ""),
        }
        self.device = Device(device.name, home / "messenger" / "identity", settings)

    def command(self, mark: str) -> list[str]:
        programs = Path(sys.executable).parent
        commands = (
            documents.block("docs/operations.md", mark)
            .replace("alice._device.example.com", self.device.name)
            .replace("alice._device.example.net", f"moved-{self.device.name}")
            .replace(".venv/bin/", f"{programs}/")
        )
        return ["bash", "-euc", f"PATH={programs}:$PATH\n{commands}"]

    def run(self, mark: str) -> str:
        done = self.attempt(mark)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempt(self, mark: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **self.device.environment()}
        return subprocess.run(
            self.command(mark), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    def keep(self, **settings: str) -> None:
        """Let later commands have these settings, as in one terminal."""
        self.device = self.device.with_settings(**settings)

    @property
    def records(self) -> tuple[bytes, ...]:
        return self.lab.records(self.device).rdatas


@pytest.fixture(scope="module")
def rotation_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RotationLab]:
    with open_rotation_lab(tmp_path_factory.mktemp("operations", numbered=False)) as lab:
        yield lab


@pytest.fixture
def laptop(rotation_lab: RotationLab, tmp_path: Path) -> Laptop:
    """Return a laptop whose device has a key that is published, as the page shows it."""
    laptop = Laptop(tmp_path / "home", rotation_lab, "laptop")
    # Waiting is what the tests of rotations do.
    laptop.keep(ROTATE_TEST_SPEED="10000000", TLSA_TTL="1")
    assert laptop.device.run(CREATE_SELFSIGNED_ID).status == 0
    assert "added    3 0 0 " in laptop.run("publishing")
    laptop.keep(DNS_PUBLISH="rfc2136", DNS_UPDATE_KEY_FILE=str(tmp_path / "home" / "messenger" / "update.key"))
    return laptop


def test_the_key_is_changed_and_a_backup_of_each_step_can_be_restored(laptop: Laptop, tmp_path: Path) -> None:
    assert laptop.run("publishing").startswith("Nothing to change: ")
    rotator = Rotator(Party(laptop.device), laptop.lab)
    shown = laptop.run("changing the key: start")
    assert "Next: switch, to sign with the new key" in shown
    assert len(laptop.records) == 2
    laptop.run("backing up without Docker")
    assert (tmp_path / "home" / "messenger" / "identity.tar").stat().st_mode & 0o777 == 0o600
    shutil.rmtree(laptop.device.crypto_path)
    laptop.run("restoring without Docker")
    for mark in ("changing the key: switch", "changing the key: finish", "changing the key: finish"):
        rotator.wait_until_safe()
        laptop.run(mark)
    rotator.assert_only_the_new_key_is_left()


def test_the_service_looks_after_the_identity(laptop: Laptop) -> None:
    # Its first check comes soon, and the key is not old at once.
    laptop.keep(ROTATE_TEST_SPEED="1000")
    environment = {**os.environ, **laptop.device.environment()}
    with Program(["env", f"--chdir={ROOT}", *laptop.command("changing the key: unattended")], environment):

        def health() -> str:
            return laptop.device.with_settings(ROTATE_EVERY="90d").run(MAINTENANCE, "--health").stdout

        wait_until(lambda: health() == "ok: the key is due to be changed in 90 days\n", "check", timeout=60)


def test_a_lost_key_is_replaced(laptop: Laptop) -> None:
    before = laptop.records
    shutil.rmtree(laptop.device.crypto_path)
    shown = laptop.device.run(ROTATE_ID, "status")
    assert shown.status == 0
    assert "The device has no usable key: there is no " in shown.stderr
    assert "unknown (3 0 0 " in shown.stdout
    assert "The key was changed, and nothing is left to do." in laptop.run("a lost key")
    (only,) = laptop.records
    assert only not in before
    assert only[3:].hex() in laptop.device.tlsa_record()


def test_a_stolen_device_is_taken_out_of_dns(laptop: Laptop, rotation_lab: RotationLab, tmp_path: Path) -> None:
    other = Laptop(tmp_path / "another-machine", rotation_lab, "unused")
    other.device = Device(laptop.device.name, other.device.crypto_path, other.device.settings)
    assert "Removed 1 record of " in other.run("a stolen device")
    assert laptop.records == ()


def test_a_device_moves_to_another_name(laptop: Laptop) -> None:
    laptop.run("moving to another zone")
    moved = Device(f"moved-{laptop.device.name}", laptop.device.crypto_path, laptop.device.settings)
    assert moved.name.endswith(ZONE)
    assert len(laptop.lab.records(moved).rdatas) == 1
    laptop.run("moving to another zone: the old name")
    assert len(laptop.lab.records(moved).rdatas) == 1
    assert laptop.records == ()


def test_a_zone_moves_to_another_provider(laptop: Laptop) -> None:
    shown = laptop.run("moving to another provider: before")
    assert "No rotation is under way." in shown
    assert laptop.device.tlsa_record() in shown
    # Another server has the zone now, without the TTL that the settings ask for.
    laptop.lab.lab.knot.replace_tlsa(laptop.device.name, [laptop.device.tlsa_record()], 1)
    assert laptop.run("moving to another provider: after").startswith("Nothing to change: ")
