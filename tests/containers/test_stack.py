"""docker-compose.yml as a laptop runs it: the article's commands, its promises, and recovery from faults."""

import re
from typing import Final

import pytest

from testbed.containers.engine import docker, wait_until
from testbed.containers.stack import DEVICE, MAX_MEMORY, SERVICES, SUBSCRIBED, Stack

KEY: Final = f"/identity/{DEVICE}.key.pem"
MEBIBYTE: Final = 1024 * 1024
STOP_SECONDS: Final = 5


def key_of(stack: Stack) -> str:
    return stack.exec("maintenance", "sha256sum", KEY).stdout


def test_the_article_s_commands_send_a_message(stack: Stack) -> None:
    record = stack.run("maintenance", "./generate_tlsa.py").stdout
    assert re.search(rf"^TLSA record for {re.escape(DEVICE)}: 3 0 0 [0-9a-f]+$", record, re.MULTILINE)
    assert stack.exec("maintenance", "./generate_tlsa.py").stdout == record
    stack.run("messaging_sender", "./send_message.py", DEVICE, "by run")
    stack.wait_for_message("by run")
    stack.exec("messaging_sender", "./send_message.py", DEVICE, "by exec")
    stack.wait_for_message("by exec")


def test_late_imports_of_a_command_are_compiled_in_the_image(stack: Stack) -> None:
    for service, command in (
        ("maintenance", "./generate_tlsa.py"),
        ("maintenance", "./create_id_csr.py"),
        ("messaging_sender", f"./send_message.py {DEVICE} verbosely"),
    ):
        imported = stack.exec(service, "sh", "-c", f"python3 -v {command} 2>&1 | grep '^# code object from'").stdout
        compiled = [line for line in imported.splitlines() if "/application/bytecode/" not in line]
        assert imported
        assert compiled == []


def test_an_existing_key_is_not_replaced_without_force(stack: Stack) -> None:
    before = key_of(stack)
    for refused in (stack.run, stack.exec):
        done = refused("maintenance", "./create_selfsigned_id.py", check=False)
        assert done.returncode == 4
        assert "already exists; use --force" in done.stderr
    assert key_of(stack) == before


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_reports_its_health_in_one_line(stack: Stack, service: str) -> None:
    stack.wait_until_healthy(service)
    reason = stack.inspect(service)["State"]["Health"]["Log"][-1]["Output"].strip()
    assert reason.startswith("ok: ")
    assert len(reason) <= 100
    assert "\n" not in reason


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_more_rights_than_promised(stack: Stack, service: str) -> None:
    host = stack.inspect(service)["HostConfig"]
    assert not host["Privileged"]
    assert not host["PortBindings"]
    assert not host["CapAdd"]
    assert not host["Devices"]
    assert host["ReadonlyRootfs"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert 0 < host["Memory"] <= 128 * MEBIBYTE
    assert 0 < host["PidsLimit"] <= 64
    status = stack.exec(service, "cat", "/proc/1/status").stdout
    assert re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 5
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Uid:\t1001\t1001\t1001\t1001$", status, re.MULTILINE)
    assert stack.exec(service, "touch", "/etc/x", check=False).stderr.endswith("Read-only file system\n")
    stack.exec(service, "touch", "/tmp/x")


@pytest.mark.parametrize("service", ["messaging_sender", "messaging_receiver"])
def test_only_maintenance_writes_keys(stack: Stack, service: str) -> None:
    stack.exec(service, "cat", KEY)
    assert "Read-only file system" in stack.exec(service, "touch", "/identity/x", check=False).stderr


def test_each_service_uses_little_memory_while_a_message_is_sent(stack: Stack) -> None:
    subscriptions = stack.log("messaging_receiver").stderr.count(SUBSCRIBED)
    # The engine counts the pages of files that earlier commands have read, too.
    stack.compose("restart")
    stack.wait_for_line("messaging_receiver", SUBSCRIBED, times=subscriptions + 1)
    with stack.sending():
        used = {service: stack.memory(service) for service in SERVICES}
    assert {service for service in SERVICES if used[service] > MAX_MEMORY[service]} == set(), used


def test_the_sender_uses_little_memory_while_it_delivers_queued_messages(stack: Stack) -> None:
    assert stack.memory_while_delivering(100) <= MAX_MEMORY["messaging_sender"]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_stops_on_request_and_starts_again(stack: Stack, service: str) -> None:
    subscriptions = stack.log("messaging_receiver").stderr.count(SUBSCRIBED)
    stack.compose("stop", "--timeout", str(STOP_SECONDS), service)
    assert stack.inspect(service)["State"]["ExitCode"] == 0
    stack.compose("start", service)
    if service == "messaging_receiver":
        stack.wait_for_line(service, SUBSCRIBED, times=subscriptions + 1)
    stack.send(f"after a stop of {service}")


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_starts_again_after_a_crash(stack: Stack, service: str) -> None:
    subscriptions = stack.log("messaging_receiver").stderr.count(SUBSCRIBED)
    restarts = stack.inspect(service)["RestartCount"]
    # From inside, because the engine does not restart what it has killed itself.
    stack.exec(service, "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)", check=False)
    wait_until(f"{service} starts again", lambda: stack.inspect(service)["RestartCount"] > restarts)
    if service == "messaging_receiver":
        stack.wait_for_line(service, SUBSCRIBED, times=subscriptions + 1)
    if service == "resolver":
        # It begins to answer a moment after its container has started.
        connect = "import os, socket; socket.create_connection((os.environ['DNS_RESOLVER'], 53), 1)"
        wait_until(
            "the resolver answers",
            lambda: stack.exec("messaging_sender", "python", "-c", connect, check=False).returncode == 0,
        )
    stack.send(f"after a crash of {service}")


def test_services_wait_for_a_broker_that_starts_late(stack: Stack) -> None:
    subscriptions = stack.log("messaging_receiver").stderr.count(SUBSCRIBED)
    stack.compose("stop", "broker")
    stack.compose("restart", "messaging_receiver")
    stack.compose("start", "broker")
    stack.wait_for_line("messaging_receiver", SUBSCRIBED, times=subscriptions + 1)
    stack.send("after the broker came")


def give_to_root(stack: Stack, name: str) -> None:
    """Let root own a volume, as if another image had created it."""
    volume = f"{stack.project}_{name}:/{name}"
    docker(
        "run", "--rm", "--user", "root", "--volume", volume, stack.image("maintenance"), "chown", "-R", "0", f"/{name}"
    )


def run_suggested_command(stack: Stack, reported: str) -> None:
    command = re.search(r"with Compose: docker compose (.*)\)$", reported.strip())
    assert command
    stack.compose(*command[1].split())


def test_key_files_of_root_are_reported_with_the_command_that_fixes_them(stack: Stack) -> None:
    before = key_of(stack)
    give_to_root(stack, "identity")
    reported = stack.exec("maintenance", "./generate_tlsa.py", check=False)
    assert reported.returncode == 4
    run_suggested_command(stack, reported.stderr)
    stack.exec("maintenance", "./generate_tlsa.py")
    assert key_of(stack) == before
    stack.send("after mending")


def test_data_files_of_root_are_reported_with_the_command_that_fixes_them(stack: Stack) -> None:
    give_to_root(stack, "data")
    reported = stack.exec("messaging_sender", "./send_message.py", DEVICE, "to be queued", "--queue", check=False)
    assert reported.returncode == 1
    run_suggested_command(stack, reported.stderr)
    stack.exec("messaging_sender", "./send_message.py", DEVICE, "after mending the data", "--queue")
    stack.wait_for_message("after mending the data")


def test_the_resolver_follows_the_root_keys_and_adds_those_of_a_new_image(stack: Stack) -> None:
    state = "/var/lib/unbound/root.key"
    kept = stack.exec("resolver", "cat", state).stdout
    assert kept.count("[  VALID  ]") == 1, "Unbound keeps no state of the root's keys"
    # As if the root had changed its key since the state was written.
    other = kept.replace(kept.split("257 3 13 ")[1][:20], "A" * 20)
    stack.exec("resolver", "sh", "-c", f"echo '{other}' > {state}")
    stack.compose("kill", "resolver")
    stack.compose("start", "resolver")
    stack.wait_for_line("resolver", f"were added to {state}.", times=2)
    stack.wait_until_healthy("resolver")
    wait_until("Unbound has seen the added key", lambda: "[ MISSING ]" in stack.exec("resolver", "cat", state).stdout)
    assert stack.exec("resolver", "cat", state).stdout.count("[  VALID  ]") == 1
    stack.send("after the root's new key")


def test_a_device_is_the_same_after_down_and_up(stack: Stack) -> None:
    before = key_of(stack)
    stack.down()
    stack.up()
    stack.wait_for_line("messaging_receiver", SUBSCRIBED)
    assert key_of(stack) == before
    stack.send("after down and up")
