"""The README's commands, run unchanged, and its outputs, compared with the real ones."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.lab import SECURE, Lab
from testbed.programs import ROOT, SUBSCRIBED, Device, Program
from tests import documents

ALICE = f"alice._device.{SECURE}"
BOB = f"bob._device.{SECURE}"


def block(mark: str, document: str = "README.md") -> str:
    """Return the block of code below a mark in a document, with names in our own zone."""
    return documents.block(document, mark).replace("example.com", SECURE)


def without_chance(text: str) -> str:
    """Return a text without what is different at each run: numbers, times, and what is encoded."""
    return re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", text)


def test_the_demo_shows_what_the_readme_says() -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "lab.demo"]
    demo = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    shown = words(demo.stdout)
    assert shown == words(block("the output of make demo", "docs/lab.md"))
    rest, parts = " ".join(shown), block("part of the output of make demo").split("…\n")
    assert len(parts) > 1
    for part in parts:
        before, found, rest = rest.partition(" ".join(words(part)))
        assert found, f"the demo does not show {part!r} after {before!r}"


def words(text: str) -> list[str]:
    return [without_chance(word) for word in text.split()]


class Laptop:
    """A shell in the checkout, on the device of a reader of the README, with a separate home directory.

    Args:
        home: The directory.
        lab: The lab with the broker and the resolver, which a real reader finds at the default ports.
        name: The name that the reader uses instead of alice in the README.
    """

    def __init__(self, home: Path, lab: Lab, name: str) -> None:
        home.mkdir()
        # dig has no other way to use a port for all its commands.
        (home / ".digrc").write_text(f"-p {lab.unbound.port}\n")
        self._name = name
        self._resolver = lab.unbound.address
        settings = {
            "HOME": str(home),
            "MQTT_HOST": lab.mosquitto.host,
            "MQTT_PORT": str(lab.mosquitto.port),
        }
        self.device = Device(name, home / "messenger" / "identity", settings)

    def command(self, commands: str) -> list[str]:
        # make would set up the environment that runs this test, and the lab's resolver has another port.
        programs = Path(sys.executable).parent
        here = (
            commands.replace(ALICE, self._name)
            .replace("make setup\n", "")
            .replace(". .venv/bin/activate\n", f"PATH={programs}:$PATH\n")
            .replace(".venv/bin/", f"{programs}/")
            .replace("DNS_RESOLVER=127.0.0.1\n", f"DNS_RESOLVER={self._resolver}\n")
        )
        return ["bash", "-euc", f"cd {ROOT}\n{here}"]

    def run(self, commands: str) -> str:
        done = subprocess.run(
            self.command(commands), env=self.device.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, commands: str) -> Program:
        return Program(self.command(commands), self.device.environment())


def terminal() -> str:
    """Return the commands of the README after which a terminal is ready for the others."""
    return "".join(f"{line}\n" for line in block("on each device").splitlines() if line.startswith((".", "export")))


@pytest.fixture
def homes(lab: Lab, tmp_path: Path) -> tuple[Laptop, Laptop]:
    return Laptop(tmp_path / "alice", lab, ALICE), Laptop(tmp_path / "bob", lab, BOB)


def test_the_first_message_arrives_with_only_the_readmes_commands(homes: tuple[Laptop, Laptop], lab: Lab) -> None:
    alice, bob = homes
    on_each_device = block("on each device")
    environment = terminal()
    for laptop in homes:
        printed = laptop.run(on_each_device)
        lab.knot.add_tlsa(laptop.device.name, printed.splitlines()[0].partition(": ")[2])
        assert re.search(
            r"^;; flags:.* ad[ ;]",
            laptop.run(environment + block("on each device, once the record is published")),
            re.M,
        )
    record = re.sub("3082[0-9a-f]+", "308203…", alice.run(environment + on_each_device.splitlines()[-1]))
    assert record == block("the output of identity tlsa")
    with bob.start(environment + block("on bob's device, until stopped")) as receiver:
        receiver.wait_for_log(SUBSCRIBED)
        alice.run(environment + block("on alice's device"))
        receiver.wait_for_message(block("bob's receiver prints").strip())


def test_changing_the_key_as_documented_loses_nothing(lab: Lab, tmp_path: Path) -> None:
    writer = Laptop(tmp_path / "writer", lab, f"writer._device.{SECURE}")
    changer = Laptop(tmp_path / "changer", lab, f"changer._device.{SECURE}")
    environment = terminal()
    records = {}
    for laptop in (writer, changer):
        records[laptop] = laptop.run(block("on each device")).splitlines()[0].partition(": ")[2]
        lab.knot.add_tlsa(laptop.device.name, records[laptop], ttl=1)
    name = changer.device.name
    send = block("on alice's device").replace(BOB, name)
    with changer.start(environment + block("on bob's device, until stopped")) as receiver:
        receiver.wait_for_log(SUBSCRIBED)
        printed = changer.run(environment + block("changing the key: before", "docs/operations.md"))
        new = printed.splitlines()[0].partition(": ")[2]
        lab.knot.add_tlsa(name, new, ttl=1)
        receiver.wait_for("the waiting key", lambda: sum("Reading '" in line for line in receiver.stderr) >= 2)
        # With each record alone and with both, for a sender that encrypts to either key.
        changes: list[Callable[[], object]] = [
            lambda: None,
            lambda: lab.knot.remove_tlsa(name, records[changer]),
            lambda: changer.run(environment + block("changing the key: after", "docs/operations.md")),
            lambda: lab.knot.add_tlsa(name, records[changer], ttl=1),
            lambda: lab.knot.remove_tlsa(name, new),
        ]
        for number, change in enumerate(changes):
            change()
            # Until a resolver no longer caches the earlier records.
            time.sleep(3)
            writer.run(environment + send.replace("The kettle is on.", f"number {number}"))
            receiver.wait_for_message(f"number {number}")
        assert [line for line in receiver.stderr if "refused reason=" in line] == []
