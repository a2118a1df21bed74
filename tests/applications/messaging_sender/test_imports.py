"""What each way to call the sender's programs imports: on a small device the imports take most of the time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idlib.keys import encode_private_key, generate_private_key, key_path, locked, write_new
from idlib.names import IdentityName
from idlib.settings import KeyType
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from testbed.programs import ROOT, SEND_MESSAGE, SENDER

ALICE = "alice._device.example.com"
BOB = "bob._device.example.com"
CRYPTOGRAPHY = {"cryptography", "jwcrypto"}
NETWORK = {"dns", "paho", "ssl", "email", "importlib.metadata", "idlib.discovery", "idlib.transport"}
STORAGE = {"sqlite3", "idlib.storage.database"}
PROGRAMS = {
    "send_message.py": [str(SEND_MESSAGE)],
    "dane-messenger send": [str(ROOT / "dane_messenger/__main__.py"), "send"],
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a device with a key, from which nothing answers: neither DNS nor the broker."""
    identity = tmp_path / "identity"
    identity.mkdir()
    key = generate_private_key(KeyType.P256)
    with locked(identity):
        write_new(key_path(identity, IdentityName(ALICE)), encode_private_key(key), os.geteuid())
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "IDENTITY_NAME": ALICE,
        "CRYPTO_PATH": str(identity),
        "DATA_PATH": str(tmp_path / "data"),
        "MQTT_HOST": "127.0.0.1",
        "MQTT_PORT": "1",
        "DNS_RESOLVER": "127.0.0.1:1",
    }


def imported(command: list[str], environment: dict[str, str], status: int) -> set[str]:
    """Return the modules that a program has imported, and the packages that they are in."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == status, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 64)])
def test_help_and_usage_need_none_of_the_large_libraries(
    program: list[str], arguments: list[str], status: int, environment: dict[str, str]
) -> None:
    assert not imported([*program, *arguments], environment, status) & (CRYPTOGRAPHY | NETWORK | STORAGE)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_message_is_queued_behind_others_without_cryptography_and_network(
    program: list[str], environment: dict[str, str]
) -> None:
    with Outbox(Path(environment["DATA_PATH"])) as outbox:
        outbox.put(NewOutgoingMessage(BOB, "the first", "first", int(time.time()), None))
        modules = imported([*program, BOB, "second", "--queue"], environment, 0)
        assert outbox.waiting().number == 2
    assert modules >= STORAGE
    assert not modules & (
        CRYPTOGRAPHY
        | NETWORK
        | {"psycopg", "idlib.storage.postgresql", "random", "hashlib", "shutil", "ctypes", "idlib.trust"}
    )


ENCRYPTED = {"h2", "hpack", "idlib.discovery.encrypted_channel", "idlib.discovery.https_connection"}


@pytest.mark.parametrize(
    ("resolver", "needed"),
    [
        ("127.0.0.1:1", set()),
        ("tls://127.0.0.1:1", {"idlib.discovery.encrypted_channel"}),
        ("https://127.0.0.1:1", ENCRYPTED),
    ],
    ids=["clear text", "TLS", "HTTPS"],
)
def test_only_an_encrypted_path_to_the_resolver_imports_what_it_needs(
    environment: dict[str, str], resolver: str, needed: set[str]
) -> None:
    modules = imported([str(SEND_MESSAGE), BOB, "text"], {**environment, "DNS_RESOLVER": resolver}, 2)
    assert modules & ENCRYPTED == needed


@pytest.mark.parametrize("settings", [{}, {"STORE": "postgresql://receiver@127.0.0.1:1/messages"}], ids=["-", "STORE"])
def test_a_message_is_sent_without_what_only_other_ways_need(
    settings: dict[str, str], environment: dict[str, str]
) -> None:
    modules = imported([str(SEND_MESSAGE), BOB, "text"], {**environment, **settings}, 2)
    assert {"cryptography", "dns", "paho", "idlib.transport.publisher"} <= modules
    others = {"messaging_sender.lines", "messaging_sender.receipt_listener", "messaging_sender.queuing", "idlib.trust"}
    others |= {
        "psycopg",
        "messaging_sender.several_recipients",
        "messaging_sender.mark_memory",
        "idlib.epochs",
        "cryptography.hazmat.primitives.hpke",
    }
    assert not modules & (others | STORAGE | {"ctypes", "publicsuffixlist", "dns.dnssec"})


def test_the_resident_sender_needs_only_the_outbox_until_there_is_a_message(environment: dict[str, str]) -> None:
    (Path(environment["DATA_PATH"])).mkdir()
    assert not imported([str(SENDER), "--help"], environment, 0) & (CRYPTOGRAPHY | NETWORK)
    assert not imported([str(SENDER), "--trust-clock"], environment, 0) & (CRYPTOGRAPHY | NETWORK)
