"""The units of `dane-messenger service`, under systemd: in their sandboxes they do all that the services do."""

import re
from collections.abc import Iterator

import pytest

from testbed.containers.engine import wait_until
from testbed.containers.machine import Machine
from testbed.programs import Device
from testbed.rotation import RotationLab, open_rotation_lab
from tests import documents

KINDS = ("receiver", "sender", "maintenance")
COMMAND = "/usr/local/bin/dane-messenger"
# With everything in a name that systemd might take for something else.
LABEL = "a-b_c"
SERVICE = "docs/service.md"
DOCUMENTED = "alice._device.example.com"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RotationLab]:
    with open_rotation_lab(tmp_path_factory.mktemp("services")) as lab:
        yield lab


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture(scope="module")
def device(lab: RotationLab) -> Device:
    return lab.device(LABEL)


def unit(kind: str, device: Device) -> str:
    return f"messenger-{kind}@{device.name}.service"


def inside(machine: Machine, name: str) -> tuple[str, ...]:
    """Return the beginning of a command that is run with the mounts of a unit, as its user."""
    (pid,) = machine.shown(name, "MainPID")
    return ("nsenter", "--target", pid, "--mount", "setpriv", "--reuid", "dane-messenger", "--clear-groups")


def status(machine: Machine, device: Device) -> str:
    return machine.run(*documented("looking", device), user="nobody", check=False).stdout


def documented(mark: str, device: Device) -> list[str]:
    """Return the commands below a mark, with the device's name, and without sudo, which the machine does not have."""
    text = documents.block(SERVICE, mark).replace(DOCUMENTED, device.name).replace("sudo ", "")
    return ["sh", "-euc", text]


def test_only_root_can_install_services(machine: Machine, device: Device) -> None:
    for verb in ("install", "remove"):
        done = machine.run(COMMAND, "service", verb, device.name, user="nobody", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "Error: services of the system can only be changed by root; run the command with sudo\n"
    done = machine.run(COMMAND, "service", "status", device.name, user="nobody", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: no services are installed for {device.name}; run ")


def test_services_are_installed(machine: Machine, device: Device) -> None:
    machine.run(*documented("installing", device))
    listed = machine.run("stat", "--format", "%A %U %G", f"/etc/dane-messenger/{device.name}.env").stdout
    assert listed == "-rw-r----- root dane-messenger\n"
    for path in ("identity", "data", "epoch-records", ""):
        listed = machine.run("stat", "--format", "%A %U", f"/var/lib/dane-messenger/{device.name}/{path}").stdout
        assert listed == "drwx------ dane-messenger\n"
    listed = machine.run("stat", "--format", "%A %U", f"/etc/dane-messenger/credentials/{device.name}/dns").stdout
    assert listed == "drwx------ root\n"
    assert {machine.run("systemctl", "is-enabled", unit(kind, device)).stdout for kind in KINDS} == {"enabled\n"}


def test_installing_them_again_keeps_the_settings(machine: Machine, lab: RotationLab, device: Device) -> None:
    path = f"/etc/dane-messenger/{device.name}.env"
    before = machine.run("cat", path).stdout
    own = {"IDENTITY_NAME", "CRYPTO_PATH", "DATA_PATH", "DNS_UPDATE_KEY_FILE"}
    settings = {name: value for name, value in device.settings.items() if name not in own}
    settings |= {"ROTATE_EVERY": "14d", "ROTATE_HOOK": "env > $CRYPTO_PATH/hook"}
    after = before + "".join(f"{name}={value}\n" for name, value in settings.items())
    machine.write(path, after, "640")
    machine.write(f"/etc/dane-messenger/credentials/{device.name}/dns/DNS_UPDATE_KEY_FILE", lab.key_file.read_text())
    done = machine.run(COMMAND, "service", "install", device.name)
    assert done.stderr.startswith(f"The units are as before; {path} and the keys are kept.")
    assert machine.run("cat", path).stdout == after


def test_a_unit_that_someone_has_changed_is_not_replaced(machine: Machine, device: Device) -> None:
    path = "/etc/systemd/system/messenger-sender@.service"
    text = machine.run("cat", path).stdout
    machine.write(path, text + "Nice=5\n", "644")
    done = machine.run(COMMAND, "service", "install", device.name, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: '{path}' was changed, or was not written by this program; move your changes")
    machine.write(path, text, "644")


def test_systemd_finds_no_fault_in_the_units(machine: Machine, device: Device) -> None:
    for kind in KINDS:
        verified = machine.run("systemd-analyze", "verify", unit(kind, device))
        assert verified.stdout + verified.stderr == ""


def test_the_identity_is_created_with_the_credential(machine: Machine, device: Device, lab: RotationLab) -> None:
    machine.run(*documented("creating the identity", device))
    assert len(lab.records(device).rdatas) == 1
    directory = f"/var/lib/dane-messenger/{device.name}/identity"
    listed = machine.run("stat", "--format", "%A %U", f"{directory}/{device.name}.key.pem").stdout
    assert listed == "-rw------- dane-messenger\n"


def test_the_services_start_and_a_message_goes_through_them(machine: Machine, device: Device) -> None:
    machine.run(*documented("starting", device))
    wait_until("all services are healthy", lambda: status(machine, device).count(": active (running): ok: ") == 3)
    assert machine.run(COMMAND, "service", "status", device.name, user="nobody").returncode == 0
    machine.run(*documented("sending", device))
    wait_until("the message", lambda: f"{device.name} says: Good morning" in machine.journal(unit("receiver", device)))
    assert "Traceback" not in "".join(machine.journal(unit(kind, device)) for kind in KINDS)
    assert "without worker processes" not in machine.journal(unit("receiver", device))


def test_a_queued_message_is_delivered(machine: Machine, device: Device, lab: RotationLab) -> None:
    lab.lab.mosquitto.stop()
    run = (COMMAND, "service", "run", device.name)
    assert machine.run(*run, "send", "--queue", "--timeout", "1", device.name, "later").returncode == 0
    lab.lab.mosquitto.start()
    wait_until("the message", lambda: f"{device.name} says: later" in machine.journal(unit("receiver", device)))


def test_the_status_of_a_verb_is_passed_on(machine: Machine, device: Device) -> None:
    run = (COMMAND, "service", "run", device.name)
    assert machine.run(*run, "send", "nobody._device.rotation.test", "text", check=False).returncode == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_sandbox_hides_other_identities_and_other_services_secrets(
    kind: str, machine: Machine, device: Device
) -> None:
    machine.run("mkdir", "--parents", "/var/lib/dane-messenger/other.example/identity")
    prefix = inside(machine, unit(kind, device))
    assert machine.run(*prefix, "ls", "/var/lib/dane-messenger").stdout == f"{device.name}\n"
    assert machine.run(*prefix, "ls", "/etc/dane-messenger/credentials", check=False).returncode == 2
    passed = machine.run(*prefix, "ls", f"/run/credentials/{unit(kind, device)}").stdout
    assert passed == ("dns_DNS_UPDATE_KEY_FILE\n" if kind == "maintenance" else "")
    state = f"/var/lib/dane-messenger/{device.name}"
    writable = {
        name
        for name in ("identity", "data", "epoch-records")
        if machine.run(*prefix, "touch", f"{state}/{name}/test-{kind}", check=False).returncode == 0
    }
    assert (
        writable
        == {
            "receiver": {"data", "epoch-records"},
            "sender": {"data"},
            "maintenance": {"identity"},
        }[kind]
    )
    assert machine.run(*prefix, "touch", "/etc/test", check=False).returncode == 1


def test_a_drop_in_lets_a_hook_write_elsewhere(machine: Machine, device: Device) -> None:
    name = unit("maintenance", device)
    machine.run("install", "--directory", "--owner", "dane-messenger", "/srv/backup")
    machine.run("mkdir", "--parents", f"/etc/systemd/system/{name}.d")
    machine.write(
        f"/etc/systemd/system/{name}.d/override.conf", documents.block(SERVICE, "a drop-in for a hook"), "644"
    )
    assert machine.run(*inside(machine, name), "touch", "/srv/backup/x", check=False).returncode == 1
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", name)
    assert machine.run(*inside(machine, name), "touch", "/srv/backup/x").returncode == 0


def test_services_that_are_killed_or_silent_are_started_again(machine: Machine, device: Device) -> None:
    units = [unit(kind, device) for kind in KINDS]
    for name in units:
        # As an operator changes a unit; ten seconds would be long in a test.
        machine.run("mkdir", "--parents", f"/run/systemd/system/{name}.d")
        machine.write(f"/run/systemd/system/{name}.d/test.conf", "[Service]\nRestartSec=100ms\nWatchdogSec=5s\n", "644")
    machine.run("systemctl", "daemon-reload")

    def have_been_started(number: int) -> bool:
        """Return whether each runs again; on a busy machine the watchdog may have ended one that was slow, too."""
        shown = [machine.shown(name, "NRestarts", "ActiveState") for name in units]
        return all(int(restarts) >= number and state == "active" for restarts, state in shown)

    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", *units)
    wait_until("a restart of each", lambda: have_been_started(1), 60)
    # With the watchdog of the unit that was read again.
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", *units)
    wait_until("a restart of each by its watchdog", lambda: have_been_started(2), 60)
    for name in units:
        assert f"{name}: Watchdog timeout (limit 5s)!" in machine.journal(name)
        assert "core-dump" not in machine.journal(name)


def test_the_maintenance_changes_the_key_and_runs_the_hook(machine: Machine, device: Device, lab: RotationLab) -> None:
    wait_until("the record of the next key in DNS", lambda: len(lab.records(device).rdatas) == 2, 60)
    hook = f"/var/lib/dane-messenger/{device.name}/identity/hook"
    wait_until("the hook", lambda: "ROTATE_STEP=" in machine.run("cat", hook, check=False).stdout)
    assert "NOTIFY_SOCKET" not in machine.run("cat", hook).stdout


def test_a_broker_that_is_down_does_not_fail_the_start(machine: Machine, device: Device, lab: RotationLab) -> None:
    lab.lab.mosquitto.stop()
    machine.run("systemctl", "restart", unit("receiver", device))
    assert machine.shown(unit("receiver", device), "ActiveState") == ["active"]
    done = machine.run(COMMAND, "service", "status", device.name, check=False)
    assert done.returncode == 8
    assert re.search(r"^messenger-receiver@\S+: active \(running\): not subscribed: ", done.stdout, re.MULTILINE)
    lab.lab.mosquitto.start()
    wait_until("a subscription", lambda: status(machine, device).count(": ok: ") == 3)


def test_a_wrong_setting_fails_the_start_and_is_named(machine: Machine, device: Device) -> None:
    path = f"/etc/dane-messenger/{device.name}.env"
    before = machine.run("cat", path).stdout
    machine.write(path, before + "MQTT_PORT=none\n", "640")
    units = [unit(kind, device) for kind in ("receiver", "sender")]
    assert machine.run("systemctl", "restart", *units, check=False).returncode == 1
    for kind in ("receiver", "sender"):
        assert "Bad value of env var MQTT_PORT: 'none'" in machine.journal(unit(kind, device))
    machine.write(path, before, "640")


def test_removing_the_services_keeps_the_keys(machine: Machine, device: Device) -> None:
    done = machine.run(*documented("removing", device))
    assert f"Kept: /var/lib/dane-messenger/{device.name}, /etc/dane-messenger/{device.name}.env, " in done.stderr
    assert machine.run("find", "/etc/systemd", "-type", "f", "-name", "messenger-*").stdout == ""
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "messenger-*").stdout == ""
    state = f"/var/lib/dane-messenger/{device.name}/identity/{device.name}.key.pem"
    assert machine.run("test", "-s", state).returncode == 0
    again = machine.run(COMMAND, "service", "install", device.name)
    assert f"/etc/dane-messenger/{device.name}.env and the keys are kept" in again.stderr


def test_purging_deletes_everything(machine: Machine, device: Device) -> None:
    done = machine.run(COMMAND, "service", "remove", "--purge", device.name)
    assert f"Deleted: /var/lib/dane-messenger/{device.name}, " in done.stderr
    left = machine.run("find", "/etc", "/var/lib", "-name", f"*{device.name}*").stdout
    assert [path for path in left.splitlines() if not path.endswith(".timer")] == []
    done = machine.run(COMMAND, "service", "remove", device.name, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: no services are installed for {device.name}; check the name\n",
    )
