"""Published images are pulled and started; nothing is built."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import idlib
from testbed.containers.engine import REPOSITORY, docker, take_down, wait_until
from testbed.containers.local_registry import LocalRegistry
from testbed.containers.stack import DEVICE, SERVICES, Stack
from tests.containers.shell import Shell

FILES: Final = ("docker-compose.yml", "docker-compose.override.yml")


@pytest.fixture
def registry() -> Iterator[LocalRegistry]:
    with LocalRegistry() as registry:
        yield registry


def image_id(name: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", name).stdout.strip()


def test_pull_and_up_build_nothing(built_stack: Stack, registry: LocalRegistry, tmp_path: Path) -> None:
    released = {
        registry.push(built_stack.image(service), f"owner/repository/{service}:{idlib.__version__}"): service
        for service in SERVICES
    }
    # Without a Dockerfile and sources, nothing can be built.
    for file in FILES:
        shutil.copy(REPOSITORY / file, tmp_path)
    project = f"pull-test-{os.getpid()}"
    shell = Shell(
        {
            "COMPOSE_PROJECT_NAME": project,
            "IDENTITY_NAME": DEVICE,
            "IMAGE_PREFIX": f"{registry.address}/owner/repository",
            "STACK_NETWORK": f"10.58.{os.getpid() % 256}",
        },
        tmp_path,
    )
    try:
        shell.run("docs/images.md", "without building")
        for name, service in released.items():
            (container,) = json.loads(docker("inspect", f"{project}-{service}-1").stdout)
            assert container["Config"]["Image"] == name
            assert container["Image"] == image_id(name) == image_id(built_stack.image(service))
        made = shell.compose("run", "--rm", "--no-TTY", "maintenance", "./create_selfsigned_id.py")
        assert DEVICE in made.stdout + made.stderr
        wait_until("all services run", lambda: _running(shell) == set(SERVICES))
    finally:
        take_down(shell.compose, "down", "--volumes", "--rmi", "all")


def _running(shell: Shell) -> set[str]:
    return set(shell.compose("ps", "--services", "--status", "running").stdout.split())


def test_an_image_that_was_not_published_is_not_looked_for_on_the_internet(tmp_path: Path) -> None:
    for file in FILES:
        shutil.copy(REPOSITORY / file, tmp_path)
    shell = Shell({"COMPOSE_PROJECT_NAME": f"pull-test-{os.getpid()}", "IDENTITY_NAME": DEVICE}, tmp_path)
    named = shell.compose("config", "--images").stdout.split()
    # The top-level domain that never exists (RFC 2606, section 2): no one can register the placeholder.
    assert {name.partition("/")[0] for name in named} == {"registry.invalid"}


def test_in_a_clone_what_cannot_be_pulled_is_built(built_stack: Stack) -> None:
    project = f"build-test-{os.getpid()}"
    prefix = f"registry.invalid/{project}"
    network = f"10.62.{os.getpid() % 256}"
    own = {"COMPOSE_PROJECT_NAME": project, "IMAGE_PREFIX": prefix, "STACK_NETWORK": network}
    shell = Shell({**built_stack.environment, **own})
    try:
        shell.compose("up", "--no-start", "--no-deps", "maintenance", seconds=300)
        assert image_id(f"{prefix}/maintenance:{idlib.__version__}")
        pulled = shell.compose("pull", "maintenance", check=False)
        assert pulled.returncode != 0
        assert "registry.invalid" in pulled.stderr
    finally:
        take_down(shell.compose, "down", "--volumes", "--rmi", "all")
