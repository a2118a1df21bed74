"""The README's commands, run unchanged, and its outputs, compared with the real ones."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.desec.limits import MINIMUM_TTL
from testbed.desec.server import DesecServer
from testbed.lab import SECURE, Lab
from testbed.programs import ROOT, SUBSCRIBED, Device, Program
from tests import documents

ALICE = f"alice._device.{SECURE}"
BOB = f"bob._device.{SECURE}"


def block(mark: str, document: str = "README.md") -> str:
    """Return the block of code below a mark in a document, with names in our own zone."""
    return documents.block(document, mark).replace("example.com", SECURE).replace("example.dedyn.io", SECURE)


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
        desec: The stand-in for deSEC, where the reader has an account.
    """

    def __init__(self, home: Path, lab: Lab, name: str, desec: DesecServer) -> None:
        token = home / "messenger" / "desec.token"
        token.parent.mkdir(parents=True)
        token.touch(mode=0o600)
        token.write_text(f"{desec.token_for(name)}\n")
        # dig has no other way to use a port for all its commands.
        (home / ".digrc").write_text(f"-p {lab.unbound.port}\n")
        self._name = name
        self._resolver = lab.unbound.address
        settings = {
            "HOME": str(home),
            "MQTT_HOST": lab.mosquitto.host,
            "MQTT_PORT": str(lab.mosquitto.port),
            "DESEC_URL": desec.url,
            "DNS_SERVER_PORT": str(lab.knot.port),
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
def homes(lab: Lab, tmp_path: Path) -> Iterator[tuple[Laptop, Laptop]]:
    with DesecServer({SECURE: MINIMUM_TTL}, lab.knot.replace) as desec:
        yield Laptop(tmp_path / "alice", lab, ALICE, desec), Laptop(tmp_path / "bob", lab, BOB, desec)


def test_the_first_message_arrives_with_only_the_readmes_commands(homes: tuple[Laptop, Laptop]) -> None:
    alice, bob = homes
    environment = terminal()
    printed = [laptop.run(block("on each device")) for laptop in homes]
    shown = re.sub("agrees: .*", "agrees: …", printed[0])
    assert re.sub("3082[0-9a-f]+…, key [0-9a-f]+", "308203…, key 5f1c…", shown) == block("the output of identity new")
    with bob.start(environment + block("on bob's device, until stopped")) as receiver:
        receiver.wait_for_log(SUBSCRIBED)
        alice.run(environment + block("on alice's device"))
        receiver.wait_for_message(block("bob's receiver prints").strip())
