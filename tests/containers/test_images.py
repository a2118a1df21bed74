"""What the images contain, and what they do not."""

import json
from typing import Any, Final

import pytest

import idlib
from testbed.containers.engine import REPOSITORY, docker
from testbed.containers.stack import BASES, SERVICES, Stack
from tests.resolver.root_anchors import ds_of, valid_anchors

MEGABYTE: Final = 1_000_000
EACH_OVER_ITS_BASE: Final = 40 * MEGABYTE
ALL_OVER_THEIR_BASES: Final = 50 * MEGABYTE
PYTHON_SERVICES: Final = SERVICES[:3]
COMPILERS: Final = ("cc", "gcc", "g++", "c++", "clang", "cargo", "rustc", "make", "ld", "as")


def in_image(stack: Stack, service: str, command: str) -> str:
    return docker("run", "--rm", "--entrypoint", "bash", stack.image(service), "-c", command).stdout


def configuration(stack: Stack, service: str) -> dict[str, Any]:
    (found,) = json.loads(docker("image", "inspect", stack.image(service)).stdout)
    return dict(found["Config"])


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_adds_little_to_its_base(built_stack: Stack, service: str) -> None:
    assert 0 < built_stack.size(service) <= EACH_OVER_ITS_BASE


def test_all_images_together_add_little(built_stack: Stack) -> None:
    assert 0 < built_stack.size(*SERVICES) <= ALL_OVER_THEIR_BASES


def test_what_a_database_needs_is_not_in_the_images(built_stack: Stack) -> None:
    for service in PYTHON_SERVICES:
        assert in_image(built_stack, service, "find / -xdev -iname '*psycopg*' 2>/dev/null; true") == ""


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_no_build_or_install_tools(built_stack: Stack, service: str) -> None:
    assert in_image(built_stack, service, f"command -v {' '.join(COMPILERS)} pip pip3 uv; true") == ""
    find_caches = ("find", "/var/lib/apt/lists", "/var/cache/apt", "/root", "/tmp", "-type", "f")
    found, in_base = (
        set(docker("run", "--rm", "--user", "root", image, *find_caches).stdout.split())
        for image in (built_stack.image(service), BASES[service])
    )
    assert found - in_base == set()


@pytest.mark.parametrize("service", PYTHON_SERVICES)
def test_an_image_has_no_installer_and_no_test_code(built_stack: Stack, service: str) -> None:
    names = (
        "-name pip -o -name 'pip[0-9.-]*' -o -name ensurepip -o -name tests -o -name 'tests[-_.]*' -o -name 'test_*.py'"
    )
    assert in_image(built_stack, service, f"find /usr/local /application {names}") == ""


@pytest.mark.parametrize("service", PYTHON_SERVICES)
def test_an_image_has_only_its_own_programs(built_stack: Stack, service: str) -> None:
    assert in_image(built_stack, service, "ls /application").split() == sorted(["bytecode", service])


@pytest.mark.parametrize("service", SERVICES)
def test_the_user_of_a_container_can_change_only_the_volumes(built_stack: Stack, service: str) -> None:
    assert configuration(built_stack, service)["User"] == "1001:1001"
    writable = set(in_image(built_stack, service, "find / -xdev -writable ! -type l 2>/dev/null; true").split())
    for_all = {"/tmp", "/var/tmp", "/run/lock"}
    assert writable - for_all == (
        {"/identity", "/credentials", "/data", "/epochs", "/epoch-records"}
        if service in PYTHON_SERVICES
        else {"/var/lib/unbound"}
    )


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_a_health_check_and_opens_no_port(built_stack: Stack, service: str) -> None:
    read = configuration(built_stack, service)
    assert read["Healthcheck"]["Test"][0] == "CMD"
    assert "ExposedPorts" not in read


def test_maintenance_has_an_editor(built_stack: Stack) -> None:
    assert in_image(built_stack, "maintenance", "nano --version").startswith(" GNU nano")


@pytest.mark.parametrize("service", PYTHON_SERVICES)
def test_a_shell_shows_the_available_commands(built_stack: Stack, service: str) -> None:
    shell = docker(
        *("run", "--rm", "--tty", "--env", "IDENTITY_NAME=alice._device.example.com", "--entrypoint", "bash"),
        *(built_stack.image(service), "-i", "-c", "true"),
    ).stdout
    first, *commands = shell.splitlines()
    assert first == "This is the device alice._device.example.com."
    assert 1 <= len(commands) <= 5
    named = {word for line in commands for word in line.split() if word.startswith("./")}
    for command in named:
        assert in_image(built_stack, service, f"{command} --help").startswith("usage:")


@pytest.mark.parametrize("service", PYTHON_SERVICES)
def test_everything_that_a_program_imports_is_compiled_in_the_image(built_stack: Stack, service: str) -> None:
    late = "ctypes, publicsuffixlist, messaging_sender.lines, messaging_sender.queuing, messaging_sender.transmission"
    verbosely = (
        "{ for program in *.py; do python3 -v $program --help 2>&1 > /dev/null; done;"
        f" python3 -v -c 'import {late}' 2>&1; }}"
    )
    compiled = in_image(built_stack, service, f"{verbosely} | grep '^# code object from'").splitlines()
    assert compiled
    assert [line for line in compiled if "/application/bytecode/" not in line] == []


def test_the_resolver_knows_every_key_of_the_dns_root(built_stack: Stack) -> None:
    keys = in_image(built_stack, "resolver", "cat /usr/share/dns/root.key").splitlines()
    known = {ds_of(line) for line in keys if "DNSKEY" in line}
    assert known >= {anchor.ds for anchor in valid_anchors()}


def test_the_resolver_adds_the_keys_of_its_image_when_it_starts(built_stack: Stack) -> None:
    kept = in_image(built_stack, "resolver", "timeout 5 start.sh 2>&1; cat /var/lib/unbound/root.key")
    assert {ds_of(line) for line in kept.splitlines() if "DNSKEY" in line} >= {anchor.ds for anchor in valid_anchors()}


def test_the_locked_packages_are_installed(built_stack: Stack) -> None:
    program = "import importlib.metadata as m; print(*(f'{one.name}=={one.version}' for one in m.distributions()))"
    installed = docker("run", "--rm", built_stack.image("maintenance"), "python3", "-c", program).stdout.split()
    lock = (REPOSITORY / "requirements/runtime.txt").read_text()
    locked = {line.split()[0] for line in lock.splitlines() if line[:1].isalnum()}
    assert {name.replace("_", "-") for name in installed} == {*locked, f"dane-mqtt-messenger=={idlib.__version__}"}
