"""`identity epoch` with a receiver that makes the keys, a name server that takes updates, and senders that look."""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from idlib.discovery import Discovery
from idlib.epochs.encryption_keys import EncryptionKeys, IdentityKey
from idlib.epochs.selection import ChosenEpoch
from idlib.errors import DiscoveryError, ExitStatus
from idlib.keys import epoch_progress_path
from idlib.names import IdentityName
from idlib.records import is_marked
from idlib.settings import Switch, load
from testbed.lab import wait_until
from testbed.programs import CHECK_IDENTITY, EPOCH_ID, EPOCH_KEYS, ROOT, ROTATE_ID, SUBSCRIBED, Device, Program
from testbed.rotation import TTL_SECONDS, RotationLab, open_rotation_lab
from tests import documents

pytestmark = pytest.mark.timeout(240)

KILLED_AT: Final = ROOT / "testbed/killed_at.py"
DAY: Final = 24 * 3600
KILLED: Final = -9
# Caches keep the records for 15 s.
SHORT: Final = {"EPOCH_LENGTH": "1m", "EPOCH_RETENTION": "3h"}


@pytest.fixture(scope="module")
def rotation_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RotationLab]:
    with open_rotation_lab(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def device_with_receiver(
    rotation_lab: RotationLab, label: str, started: ExitStack, **settings: str
) -> tuple[Device, Program]:
    """Return a device whose receiver has left an epoch record."""
    device = rotation_lab.published(label, KEY_TYPE="p256", **settings)
    directory = device.crypto_path.parent
    device = device.with_settings(EPOCH_KEYS="on", EPOCH_SPOOL=str(directory / "spool"))
    receiver = started.enter_context(device.receiver())
    receiver.wait_for_log(SUBSCRIBED)
    wait_until(lambda: spool(device).exists(), "spool")
    return device, receiver


def spool(device: Device) -> Path:
    return Path(device.settings["EPOCH_SPOOL"]) / f"{device.name}.epochs"


def found_by_sender(device: Device) -> IdentityKey | ChosenEpoch:
    """Return the key that a sender which has asked for nothing before encrypts to."""
    discovery = Discovery.from_settings(load({**device.settings, "IDENTITY_NAME": "tester.example.test"}))
    return EncryptionKeys(discovery).find(IdentityName(device.name), int(time.time()), DAY)


def let_time_pass(device: Device) -> None:
    """Move the time since when the program waits into the past: resolvers remember an absence for an hour."""
    path = epoch_progress_path(device.crypto_path, IdentityName(device.name))
    if path.exists():
        progress = json.loads(path.read_text())
        progress["since"]["wall"] -= 7200
        progress["since"]["up"] -= 7200
        path.write_text(json.dumps(progress))


def turn_on(device: Device) -> None:
    early = device.run(EPOCH_ID, "on")
    assert early.status == ExitStatus.TOO_EARLY, early
    assert "epoch_id.py on again after" in early.stderr
    let_time_pass(device)
    result = device.run(EPOCH_ID, "on")
    assert result.status == 0, result
    # Until then, the device is shown without the mark.
    caches = f"Caches may hold the old records for another {TTL_SECONDS} s."
    assert result.stdout.endswith(f"{caches}\n{device.name} is marked: senders encrypt to its epoch keys.\n")


def checked(device: Device) -> dict[str, Any]:
    items = json.loads(device.run(CHECK_IDENTITY, "--json").stdout)["items"]
    return {item["id"]: item for item in items if item["id"].startswith("epochs.")}


def test_a_device_goes_on_and_off(rotation_lab: RotationLab, started: ExitStack) -> None:
    device, _ = device_with_receiver(rotation_lab, "on-and-off", started)
    assert checked(device) == {
        "epochs.mark": checked(device)["epochs.mark"],
        "epochs.halves": checked(device)["epochs.halves"],
    }
    before = rotation_lab.records(device)
    turn_on(device)
    after = rotation_lab.records(device)
    assert (len(before.rdatas), len(after.rdatas)) == (1, 1)
    assert list(map(is_marked, (*before.rdatas, *after.rdatas))) == [False, True]

    wait_until(lambda: isinstance(found_by_sender(device), ChosenEpoch), "mark")
    chosen = found_by_sender(device)
    assert isinstance(chosen, ChosenEpoch)
    status = json.loads(device.run(EPOCH_KEYS, "status", "--json").stdout)
    assert (status["name"], status["mark"], status["problems"]) == (device.name, "marked", [])
    (key,) = status["keys"]
    assert (key["kid"], key["private_half"], key["published"], key["used"]) == (chosen.epoch.key_id, True, True, True)
    assert chosen.epoch.key_id in device.run(EPOCH_ID, "status").stdout
    shown = device.run(EPOCH_KEYS, "status").stdout
    assert shown.startswith(f"{device.name}: marked, so others encrypt to epoch keys only.\n")
    assert {item["status"] for item in checked(device).values()} == {"ok"}

    off = device.run(EPOCH_ID, "off")
    assert off.status == 0, off
    assert "epoch_id.py off again after" in off.stderr
    wait_until(lambda: isinstance(found_by_sender(device), IdentityKey), "no mark")
    assert "although DNS has 1 epoch record" in checked(device)["epochs.mark"]["evidence"]
    let_time_pass(device)
    off = device.run(EPOCH_ID, "off")
    assert off.status == 0, off
    assert off.stdout.endswith(f"The epoch records of {device.name} are removed.\n")
    assert "set EPOCH_KEYS=off" in off.stderr


def test_without_epoch_keys_in_the_receiver_one_line_says_what_to_set(rotation_lab: RotationLab) -> None:
    device = rotation_lab.published("without", KEY_TYPE="p256").with_settings(EPOCH_SPOOL="/nonexistent")
    for action in ("on", "publish"):
        result = device.run(EPOCH_ID, action)
        assert result.status != 0
        assert result.stderr.count("\n") == 1
        assert "start the receiver with EPOCH_KEYS=on and the same EPOCH_SPOOL, and wait a minute" in result.stderr


def has_ended(killer: Program, number: int) -> bool:
    return len(killer.stdout) == number


def test_on_is_completed_after_kill_9_before_any_of_its_changes(rotation_lab: RotationLab, started: ExitStack) -> None:
    device, _ = device_with_receiver(rotation_lab, "killed", started)
    killed = 0
    with device.start(KILLED_AT, str(EPOCH_ID)) as killer:
        for number in range(1, 100):
            killer.write(f"{number} on\n")
            killer.wait_for("exit status", functools.partial(has_ended, killer, number), timeout=60)
            status = int(killer.stdout[-1])
            killed += status == KILLED
            let_time_pass(device)
            assert status in {0, KILLED, ExitStatus.TOO_EARLY}, killer.stderr
            if status == 0:
                break
    assert killed >= 3
    (rdata,) = rotation_lab.records(device).rdatas
    assert is_marked(rdata)
    wait_until(lambda: isinstance(found_by_sender(device), ChosenEpoch), "mark")


def test_a_stolen_key_is_replaced_with_its_epoch_record_at_once(rotation_lab: RotationLab, started: ExitStack) -> None:
    device, _ = device_with_receiver(rotation_lab, "stolen", started, **SHORT)
    turn_on(device)
    wait_until(lambda: isinstance(found_by_sender(device), ChosenEpoch), "mark")
    stolen = found_by_sender(device)
    assert isinstance(stolen, ChosenEpoch)
    result = device.run(ROTATE_ID, "start", "--compromised", timeout=120)
    assert result.status == 0, result
    assert "The epoch record that the new key has signed is published." in result.stderr

    def is_reachable() -> bool:
        with suppress(DiscoveryError):
            chosen = found_by_sender(device)
            return isinstance(chosen, ChosenEpoch) and chosen.epoch.key_id != stolen.epoch.key_id
        return False

    wait_until(is_reachable, "new epoch key", 40)
    checks = checked(device)
    assert {item["status"] for item in checks.values()} == {"ok"}, checks


def test_with_a_single_record_senders_are_never_without_an_epoch_key(
    rotation_lab: RotationLab, started: ExitStack
) -> None:
    device, _ = device_with_receiver(rotation_lab, "single", started, **SHORT)
    turn_on(device)
    wait_until(lambda: isinstance(found_by_sender(device), ChosenEpoch), "mark")
    result = device.run(ROTATE_ID, "start", "--single")
    assert result.status == 0, result
    early = device.run(ROTATE_ID, "switch")
    # It waits for the TTL of the epoch records, which is longer than that of the TLSA record.
    assert early.status == ExitStatus.TOO_EARLY, early
    time.sleep(16)
    assert isinstance(found_by_sender(device), ChosenEpoch)
    result = device.run(ROTATE_ID, "switch", timeout=120)
    assert result.status == 0, result
    # Senders have the new TLSA record, and from a cache the epoch records from before.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        assert isinstance(found_by_sender(device), ChosenEpoch)


def test_a_lost_private_half_and_a_missing_record_are_found(rotation_lab: RotationLab, started: ExitStack) -> None:
    device, receiver = device_with_receiver(rotation_lab, "lost", started, **SHORT)
    turn_on(device)
    wait_until(lambda: isinstance(found_by_sender(device), ChosenEpoch), "mark")
    assert receiver.stop() == 0
    elsewhere = device.with_settings(EPOCH_PATH=str(device.crypto_path.parent))
    assert checked(elsewhere)["epochs.halves"]["status"] == "fail"
    rotation_lab.lab.knot.remove_txt(f"_epoch.{device.name}")
    assert checked(device)["epochs.tcp"]["status"] == "fail"
    time.sleep(16)
    checks = checked(device)
    assert (checks["epochs.published"]["status"], checks["epochs.last"]["status"]) == ("fail", "fail")


def test_records_for_weeks_are_printed_again_and_used_by_the_receiver(
    rotation_lab: RotationLab, started: ExitStack
) -> None:
    device, receiver = device_with_receiver(rotation_lab, "by-hand", started)
    assert receiver.stop() == 0
    too_many = device.run(EPOCH_KEYS, "records", "--weeks", "4")
    assert too_many.status == ExitStatus.CONFIGURATION, too_many
    assert "set EPOCH_LENGTH=4d or more" in too_many.stderr
    weekly = device.with_settings(EPOCH_LENGTH="7d")
    first = weekly.run(EPOCH_KEYS, "records", "--weeks", "4", "--format", "json")
    assert first.status == 0, first
    printed = json.loads(first.stdout)
    assert (printed["name"], printed["type"], len(printed["records"])) == (f"_epoch.{device.name}", "TXT", 4)
    assert os.fspath(device.crypto_path) not in first.stdout
    for form in ("text", "zone", "nsupdate", "octodns"):
        assert weekly.run(EPOCH_KEYS, "records", "--weeks", "4", "--format", form).stdout.count("epoch1:") >= 4
    again = weekly.run(EPOCH_KEYS, "records", "--weeks", "4")
    status = json.loads(weekly.run(EPOCH_KEYS, "status", "--json").stdout)
    # The one that the receiver made is the first of the four.
    assert len(status["keys"]) == 4
    assert again.stdout.count("epoch1:") == 8
    receiver = started.enter_context(weekly.receiver())
    receiver.wait_for_log(SUBSCRIBED)
    time.sleep(1)
    assert not any("is created" in line for line in receiver.stderr)


def run_block(device: Device, mark: str) -> "subprocess.CompletedProcess[str]":
    """Run the commands of docs/operations.md as a reader enters them."""
    programs = Path(sys.executable).parent
    environment = {**os.environ, **device.environment()}
    command = ["bash", "-uc", f"PATH={programs}:$PATH\n{documents.block('docs/operations.md', mark)}"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_settings_of_the_page_name_a_spool_in_the_home_directory(tmp_path: Path) -> None:
    block = documents.block("docs/operations.md", "epoch keys: settings without Docker")
    environment = {**os.environ, "HOME": str(tmp_path)}
    printed = subprocess.check_output(
        ["bash", "-uc", f"{block}\nprintenv EPOCH_KEYS EPOCH_SPOOL"], env=environment, text=True
    ).split()
    settings = load(
        dict(zip(("EPOCH_KEYS", "EPOCH_SPOOL"), printed, strict=True)) | {"IDENTITY_NAME": "a.example.test"}
    )
    assert (settings.epoch_keys, settings.epoch_spool) == (Switch.ON, tmp_path / "messenger/epoch-records")


def test_the_commands_of_the_page_turn_epoch_keys_on_and_off(rotation_lab: RotationLab, started: ExitStack) -> None:
    device, _ = device_with_receiver(rotation_lab, "page", started)
    assert run_block(device, "epoch keys: turning them on").returncode == ExitStatus.TOO_EARLY
    let_time_pass(device)
    assert run_block(device, "epoch keys: turning them on").returncode == 0
    wait_until(lambda: "senders use it now" in run_block(device, "epoch keys: looking").stdout, "status")
    off = run_block(device, "epoch keys: turning them off")
    assert "run dane-messenger identity epoch off again after" in off.stderr
    let_time_pass(device)
    off = run_block(device, "epoch keys: turning them off")
    assert "Now set EPOCH_KEYS=off for the receiver" in off.stderr


def text_in(line: str) -> bytes:
    """Return the text in a line of a zone file."""
    return line.partition(" TXT ")[2].replace('"', "").replace(" ", "").encode()


def test_by_hand_the_page_says_what_to_enter(rotation_lab: RotationLab, started: ExitStack) -> None:
    device, _ = device_with_receiver(rotation_lab, "page-by-hand", started)
    device = device.without_setting("DNS_PUBLISH")
    asked = run_block(device, "epoch keys: by hand")
    assert asked.returncode == ExitStatus.PUBLISHING, asked.stderr
    printed = [line for line in asked.stdout.splitlines() if line.startswith(f"_epoch.{device.name}. ")]
    assert len(printed) == 4
    assert f"add     _epoch.{device.name}. " in asked.stdout
    rotation_lab.lab.knot.add_txt(f"_epoch.{device.name}", text_in(printed[0]), 60)
    assert run_block(device, "epoch keys: by hand").returncode == ExitStatus.TOO_EARLY
    let_time_pass(device)
    asked = run_block(device, "epoch keys: by hand")
    assert asked.returncode == ExitStatus.PUBLISHING, asked.stderr
    # The marked certificate takes the place of the other one.
    added, removed = asked.stdout.splitlines()[-2:]
    assert added.startswith(f"add     {device.name}. ")
    assert removed.startswith(f"remove  {device.name}. ")
