"""The commands of the documents that need a container engine, run unchanged."""

from collections.abc import Iterator, Set
from pathlib import Path

import pytest

from testbed.containers.engine import REPOSITORY, wait_until
from testbed.containers.lab_world import LabWorld
from testbed.containers.stack import DEVICE, Stack
from tests import documents
from tests.containers.shell import Shell

pytestmark = pytest.mark.timeout(900)


def _elsewhere(stack: Stack, directory: Path, without: Set[str] = frozenset()) -> Shell:
    """Return a shell outside the checkout, in which the documents' commands use a stack.

    Args:
        stack: Which.
        directory: Where the shell is.
        without: Variables that the commands are to set themselves.
    """
    files = ":".join(str(REPOSITORY / file) for file in stack.environment["COMPOSE_FILE"].split(":"))
    environment = {name: value for name, value in stack.environment.items() if name not in without}
    return Shell({**environment, "COMPOSE_FILE": files}, directory)


@pytest.fixture(scope="module")
def laptop() -> Iterator[tuple[Stack, Shell]]:
    # Not the one of the other tests, whose images would be removed with it.
    with Stack(4) as stack:
        yield stack, Shell(stack.environment)


def test_the_commands_of_the_readme_for_a_laptop(laptop: tuple[Stack, Shell], tmp_path: Path) -> None:
    stack, _ = laptop
    # In a separate directory, because .env is written there, and only that file has the name.
    shell = _elsewhere(stack, tmp_path, without={"IDENTITY_NAME"})
    printed = shell.run("README.md", "laptop: start")
    assert (tmp_path / ".env").read_text() == f"IDENTITY_NAME={DEVICE}\n"
    stack.publish(printed)
    stack.wait_for_line("messaging_receiver", "MQTT subscription active.")
    assert "MQTT subscription active." in shell.run("README.md", "laptop: watch")
    # The stack has one device, so it writes to itself.
    stack.run("messaging_sender", "./send_message.py", DEVICE, "The kettle is on.")
    stack.wait_for_message("The kettle is on.")
    sending = documents.block("README.md", "laptop: send")
    assert "docker compose run --rm messaging_sender ./send_message.py" in sending


def test_the_commands_for_backup_and_update(laptop: tuple[Stack, Shell], tmp_path: Path) -> None:
    stack, _ = laptop
    shell = _elsewhere(stack, tmp_path)
    key = f"/identity/{DEVICE}.key.pem"
    before = stack.exec("maintenance", "sha256sum", key).stdout
    shell.run("docs/operations.md", "backing up")
    stack.exec("maintenance", "sh", "-c", "rm /identity/*")
    shell.run("docs/operations.md", "restoring")
    assert stack.exec("maintenance", "sha256sum", key).stdout == before
    shell.run("docs/operations.md", "giving files away")
    assert stack.exec("maintenance", "sha256sum", key).stdout == before
    (tmp_path / "ca.pem").write_text("a certificate")
    (tmp_path / "update.key").write_text("a TSIG key")
    shell.run("docs/operations.md", "the credential with Compose")
    shown = stack.exec("maintenance", "sh", "-c", "stat -c %a /credentials/update.key; cat /credentials/update.key")
    assert shown.stdout == "600\na TSIG key"
    shell.run("docs/operations.md", "a file of a CA")
    assert stack.exec("messaging_receiver", "cat", "/identity/ca.pem").stdout == "a certificate"
    (tmp_path / "update.key").write_text("a key")
    shell.run("docs/dns.md", "a credential in the stack")
    assert stack.exec("maintenance", "stat", "--format", "%a %U", "/credentials/update.key").stdout == "600 messenger\n"
    assert stack.exec("maintenance", "cat", "/credentials/update.key").stdout == "a key"
    updating = documents.block("docs/operations.md", "updating").splitlines()
    assert updating == ["git pull", "docker compose build --pull --no-cache", "docker compose up --detach"]
    # The base images of the tests are only on this machine, and cannot be pulled.
    stack.compose("build", seconds=600)
    stack.up()
    stack.wait_for_line("messaging_receiver", "MQTT subscription active.")


def test_the_commands_of_the_lab_page() -> None:
    lab = LabWorld()
    shell = Shell(lab.environment)
    try:
        shell.run("docs/lab.md", "lab: start")
        shell.run("docs/lab.md", "lab: send")
        lab.wait_for_message("alice._device.example.test says: Hello")
        shell.run("docs/lab.md", "lab: attack")
        for reason in ("replay", "decryption-failed", "signature-invalid"):
            lab.wait_for_line("bob_receiver", f"refused reason={reason}")
        shell.run("docs/lab.md", "lab: stop")
        wait_until("the lab is gone", lambda: not lab.compose("ps", "--all", "--quiet").stdout)
    finally:
        lab.down("--volumes")
