"""The lab as docs/lab.md shows it: two devices in containers, and what happens to their messages when parts of it fail.

One lab serves all tests of this file, in their order; the last two take it down.
"""

import json
import re
from collections.abc import Callable, Iterator

import pytest

from idlib.errors import ExitStatus
from testbed.containers.engine import docker
from testbed.containers.lab_world import ALICE, BOB, RECEIVER, LabWorld

# The first test waits for the images to be built.
pytestmark = pytest.mark.timeout(600)

WRITABLE = {
    "maintenance": {"/identity", "/credentials"},
    "sender": {"/data"},
    "receiver": {"/data", "/epoch-records"},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[LabWorld]:
    with LabWorld() as world:
        yield world


def _restart(lab: LabWorld, service: str) -> None:
    lab.compose("restart", service)


def _kill_and_start(lab: LabWorld, service: str) -> None:
    docker("kill", lab.container(service))
    docker("start", lab.container(service))


def _disconnect(lab: LabWorld, service: str) -> Callable[[], None]:
    """Disconnect a service's network, and return a function that connects it again with the same address."""
    address = lab.inspect(service)["NetworkSettings"]["Networks"][lab.network]["IPAddress"]
    docker("network", "disconnect", lab.network, lab.container(service))

    def reconnect() -> None:
        docker("network", "connect", "--ip", address, lab.network, lab.container(service))

    return reconnect


def _tlsa_record(lab: LabWorld) -> str:
    return lab.exec("bob_maintenance", "./generate_tlsa.py").stdout


def _soa(lab: LabWorld) -> str:
    return lab.exec("authority", "kdig", "@127.0.0.1", "+short", "example.test", "SOA").stdout


def test_a_message_goes_from_one_device_to_the_other(lab: LabWorld) -> None:
    assert lab.send('Grüße, "Welt"') == ExitStatus.OK
    lab.wait_for_message("Welt")
    assert [json.loads(line) for line in lab.printed("Welt")] == [f'{ALICE} says: Grüße, "Welt"']


def test_messages_of_an_attacker_at_the_broker_are_refused(lab: LabWorld) -> None:
    assert lab.send("overheard on its way") == ExitStatus.OK
    lab.wait_for_message("overheard on its way")
    lab.wait_for_line("eve", "Stored a message")
    seen = len(lab.logged(RECEIVER))
    shown = lab.exec("eve", "python", "-m", "lab.attack").stdout
    reasons = ["replay", "decryption-failed", "signature-invalid"]
    assert re.findall(r"refused reason=(\S+)", shown) == reasons
    lab.wait_for_line(RECEIVER, reasons[-1], after=seen)
    # A message that cannot be opened is refused one stage earlier, so perhaps before the previous message.
    refused = re.findall(r"refused reason=(\S+)", "\n".join(lab.logged(RECEIVER)[seen:]))
    assert sorted(refused) == sorted(reasons)
    assert len(lab.printed("overheard on its way")) == 1
    assert not lab.printed("money")


def test_a_message_of_the_published_libraries_is_printed(lab: LabWorld) -> None:
    lab.compose("run", "--rm", "-T", "published", BOB, "as the article has it")
    lab.wait_for_message(f"{ALICE} says: as the article has it")


def test_the_services_of_a_device_are_limited_as_promised(lab: LabWorld) -> None:
    for device in ("alice", "bob"):
        for service, expected in WRITABLE.items():
            container = lab.inspect(f"{device}_{service}")
            host = container["HostConfig"]
            assert container["Config"]["User"] not in ("", "0", "root")
            assert host["ReadonlyRootfs"]
            assert host["CapDrop"] == ["ALL"]
            assert not host["CapAdd"]
            assert not host["Privileged"]
            assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
            assert host["Init"]
            assert 0 < host["PidsLimit"] <= 64
            assert 0 < host["Memory"] <= 128 * 1024 * 1024
            writable = {mount["Destination"] for mount in container["Mounts"] if mount["RW"]}
            assert writable == expected


def test_nothing_of_the_lab_is_reachable_from_outside(lab: LabWorld) -> None:
    names = lab.compose("ps", "--all", "--quiet").stdout.split()
    assert len(names) >= 11
    for container in json.loads(docker("inspect", *names).stdout):
        assert not container["HostConfig"]["PortBindings"]
        assert not container["HostConfig"]["Privileged"]
        assert {mount["Type"] for mount in container["Mounts"]} <= {"volume"}


@pytest.mark.parametrize("end", [_restart, _kill_and_start], ids=["restart", "kill"])
@pytest.mark.parametrize("service", WRITABLE)
def test_messages_arrive_after_a_service_was_stopped(
    lab: LabWorld, service: str, end: Callable[[LabWorld, str], None]
) -> None:
    for device in ("alice", "bob"):
        end(lab, f"{device}_{service}")
    text = f"after {end.__name__} of {service}"
    assert lab.send(text) == ExitStatus.OK
    lab.wait_for_message(text)
    assert len(lab.printed(text)) == 1


def test_a_receiver_that_crashes_is_started_again_and_gets_its_messages(lab: LabWorld) -> None:
    lab.exec(RECEIVER, "sh", "-c", "kill -KILL -1", check=False)
    assert lab.send("sent right after a crash") == ExitStatus.OK
    lab.wait_for_message("sent right after a crash")
    assert lab.inspect(RECEIVER)["RestartCount"] == 1


def test_a_device_that_was_without_network_gets_its_messages(lab: LabWorld) -> None:
    reconnect = _disconnect(lab, RECEIVER)
    assert lab.send("sent to a device without network") == ExitStatus.OK
    reconnect()
    lab.wait_for_message("sent to a device without network")


def test_a_device_reports_a_missing_network_and_sends_once_it_is_back(lab: LabWorld) -> None:
    reconnect = _disconnect(lab, "alice_sender")
    assert lab.send("never sent") == ExitStatus.DISCOVERY
    reconnect()
    assert lab.send("sent with network again") == ExitStatus.OK
    lab.wait_for_message("sent with network again")
    assert not lab.printed("never sent")


def test_devices_recover_from_a_missing_resolver(lab: LabWorld) -> None:
    lab.compose("stop", "resolver")
    assert lab.send("never sent") == ExitStatus.DISCOVERY
    seen = len(lab.logged(RECEIVER))
    _restart(lab, RECEIVER)
    lab.wait_for_line(RECEIVER, "own record: DNS look-up failed", after=seen)
    lab.compose("start", "resolver")
    assert lab.send("sent to a receiver that waits for DNS") == ExitStatus.OK
    lab.wait_for_message("sent to a receiver that waits for DNS", seconds=60)


def test_no_acknowledged_message_is_lost_when_the_broker_is_away(lab: LabWorld) -> None:
    lab.compose("stop", RECEIVER)
    for number in range(3):
        assert lab.send(f"acknowledged before, {number}") == ExitStatus.OK
    lab.compose("stop", "broker")
    assert lab.send("not acknowledged") == ExitStatus.BROKER
    docker("start", lab.container(RECEIVER))
    docker("start", lab.container("broker"))
    for number in range(3):
        lab.wait_for_message(f"acknowledged before, {number}")
    assert lab.send("acknowledged afterwards") == ExitStatus.OK
    lab.wait_for_message("acknowledged afterwards")


def test_identities_and_undelivered_messages_survive_down_and_up(lab: LabWorld) -> None:
    lab.compose("stop", RECEIVER)
    assert lab.send("sent before everything was taken down") == ExitStatus.OK
    record, soa = _tlsa_record(lab), _soa(lab)
    lab.down()
    lab.up()
    assert _tlsa_record(lab) == record
    assert _soa(lab) == soa
    lab.wait_for_message("sent before everything was taken down")
    assert lab.send("sent after that") == ExitStatus.OK
    lab.wait_for_message("sent after that")


def test_nothing_is_left_after_down_with_volumes(lab: LabWorld) -> None:
    lab.down("--volumes")
    label = f"label=com.docker.compose.project={lab.project}"
    assert docker("ps", "--all", "--quiet", "--filter", label).stdout == ""
    for kind in ("volume", "network"):
        assert docker(kind, "ls", "--quiet", "--filter", label).stdout == ""
