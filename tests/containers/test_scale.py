"""docker-compose.scale.yml, started as docs/scaling.md shows: receivers of one name print each message once."""

import contextlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from testbed.containers.engine import DOCKER, docker, wait_until
from testbed.containers.scaled_stack import RECEIVER, ScaledStack, texts_in
from tests import documents
from tests.containers.shell import Shell

PAGE: Final = "docs/scaling.md"
PASSWORD: Final = "/store-password/password"
# What a receiver that is killed may have printed without having recorded it.
MAX_REPEATS: Final = 32


def number_in(mark: str) -> int:
    """Return the number of receivers in a command of the page."""
    return int(documents.block(PAGE, mark).rpartition("=")[2])


RECEIVERS: Final = number_in("starting a group")
FEWER: Final = number_in("another number of receivers")


@pytest.fixture(scope="module")
def scaled() -> Iterator[ScaledStack]:
    with ScaledStack(3) as scaled:
        Shell(scaled.environment).run(PAGE, "starting a group")
        scaled.make_identity()
        scaled.wait_for_receivers(RECEIVERS)
        yield scaled


def texts(name: str, number: int = 60) -> list[str]:
    return [f"{name}-{position}" for position in range(number)]


def read(directory: Path, names: list[str]) -> Counter[str]:
    """Return how often each text is in files with what receivers have printed."""
    return sum((texts_in((directory / name).read_text()) for name in names), Counter())


def wait_until_printed(scaled: ScaledStack, expected: list[str], names: list[str]) -> Counter[str]:
    """Wait until all texts are printed, and return how often each was; the containers exist until then."""
    wait_until("all is printed", lambda: set(expected) <= set(scaled.printed(names)), scaled.patience)
    return Counter({text: times for text, times in scaled.printed(names).items() if text in expected})


def test_each_message_is_printed_once_by_one_of_the_receivers(scaled: ScaledStack) -> None:
    sent = texts("shared")
    scaled.send_lines(sent)
    assert wait_until_printed(scaled, sent, scaled.receivers()) == Counter(sent)
    shares = [len(set(sent) & set(scaled.printed([name]))) for name in scaled.receivers()]
    assert len(shares) == RECEIVERS
    assert min(shares) > 0


def test_each_receiver_has_data_of_its_own_and_shares_identity_and_epoch_keys(scaled: ScaledStack) -> None:
    sources: dict[str, set[str]] = {}
    for name in scaled.receivers():
        (found,) = json.loads(docker("inspect", name).stdout)
        assert set(found["HostConfig"]["Tmpfs"]) == {"/tmp", "/data"}
        for mount in found["Mounts"]:
            sources.setdefault(mount["Destination"], set()).add(mount["Name"])
    assert {place: len(names) for place, names in sources.items()} == {
        "/identity": 1,
        "/epochs": 1,
        "/epoch-records": 1,
        "/store-password": 1,
    }


def test_the_password_is_in_no_environment_and_only_where_it_is_needed(scaled: ScaledStack) -> None:
    password = scaled.exec("messaging_sender", "cat", PASSWORD).stdout
    assert len(password) == 64
    for name in scaled.compose("ps", "--all", "--format", "{{.Name}}").stdout.split():
        assert password not in docker("inspect", name).stdout
        assert password not in "".join(docker("logs", name).stdout + docker("logs", name).stderr)
    for service in ("maintenance", "resolver", "broker"):
        assert scaled.exec(service, "test", "-e", PASSWORD, check=False).returncode


def test_the_database_is_durable_and_its_user_is_no_superuser(scaled: ScaledStack) -> None:
    program = """
import psycopg
from pathlib import Path
url = "postgresql://receiver@database/messages"
with psycopg.connect(url, password=Path("/store-password/password").read_text()) as database:
    for name in ("fsync", "synchronous_commit", "is_superuser"):
        print(*database.execute(f"SHOW {name}").fetchone())
try:
    psycopg.connect(url, password="guessed")
except psycopg.OperationalError:
    print("refused")
"""
    assert scaled.exec("messaging_sender", "python3", "-c", program).stdout.split() == ["on", "on", "off", "refused"]


def test_what_the_database_needs_is_one_small_layer_of_the_image_and_compiled_in_it(scaled: ScaledStack) -> None:
    image = json.loads(docker("inspect", scaled.receivers()[0]).stdout)[0]["Image"]
    listed = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image).stdout
    (size,) = re.findall(r"^(\d+) COPY /store_packages ", listed, re.MULTILINE)
    assert 0 < int(size) <= 20_000_000
    imported = scaled.exec(
        RECEIVER, "sh", "-c", "python3 -v -c 'import psycopg' 2>&1 | grep '^# code object from'"
    ).stdout
    assert "psycopg" in imported
    assert [line for line in imported.splitlines() if "/application/bytecode/" not in line] == []


def test_nothing_is_lost_or_repeated_if_receivers_are_removed(scaled: ScaledStack, tmp_path: Path) -> None:
    shell = Shell(scaled.environment)
    before = scaled.receivers()
    sent = texts("removing", 200)
    # The engine forgets the log of a container that Compose removes.
    with contextlib.ExitStack() as following:
        for name in before:
            file = following.enter_context((tmp_path / name).open("w"))
            logs = subprocess.Popen([DOCKER, "logs", "--follow", name], stdout=file, stderr=subprocess.DEVNULL)
            following.callback(logs.wait)
            following.callback(logs.terminate)
        scaled.send_lines(sent[:100])
        shell.run(PAGE, "another number of receivers")
        scaled.send_lines(sent[100:])
        wait_until("all is printed", lambda: set(sent) <= set(read(tmp_path, before)), scaled.patience)
    assert len(scaled.receivers()) == FEWER
    assert Counter({text: times for text, times in read(tmp_path, before).items() if text in sent}) == Counter(sent)
    shown = shell.run(PAGE, "watching a group")
    assert all(f"{name.removeprefix(scaled.project)[1:]} " in shown for name in scaled.receivers())
    scaled.scale(RECEIVERS)
    scaled.wait_for_receivers(RECEIVERS)


def test_nothing_is_lost_if_a_receiver_is_killed(scaled: ScaledStack) -> None:
    names = scaled.receivers()
    sent = texts("killing", 200)
    scaled.send_lines(sent[:100])
    docker("kill", names[0])
    scaled.send_lines(sent[100:])
    counts = wait_until_printed(scaled, sent, names)
    assert sum(counts.values()) - len(sent) <= MAX_REPEATS
    docker("start", names[0])
    scaled.wait_for_receivers(RECEIVERS)


def test_both_ways_to_name_the_files_are_the_same_stack() -> None:
    settings = {"IDENTITY_NAME": "alice._device.example.com", "COMPOSE_PROJECT_NAME": "messenger"}
    base, override, scale = "docker-compose.yml", "docker-compose.override.yml", "docker-compose.scale.yml"
    shown = [
        docker("compose", *(f"--file={file}" for file in files), "config", environment=settings).stdout
        for files in ((base, scale), (base, override, scale))
    ]
    services = [yaml.safe_load(text)["services"] for text in shown]
    for name in services[0].keys() - {"resolver"}:
        assert services[0][name] == services[1][name]
