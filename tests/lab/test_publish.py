"""Only a record that a device has printed becomes a dynamic update."""

from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.tsig
import dns.update
import pytest

from idlib.errors import ConfigurationError
from lab.publish import build_update, read_key, read_record

ALICE = "alice._device.example.test"
PRINTED = f"TLSA record for {ALICE}: 3 0 0 00ff\n{ALICE}. 300 IN TLSA 3 0 0 00ff\n"
# As `keymgr -t` writes it; the secret is "not secret at all".
KEY_FILE = """\
# hmac-sha256:publisher:bm90IHNlY3JldCBhdCBhbGw=
key:
  - id: publisher
    algorithm: hmac-sha256
    secret: bm90IHNlY3JldCBhdCBhbGw=
"""


def _file(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_the_key_of_the_name_server_is_read(tmp_path: Path) -> None:
    key = read_key(_file(tmp_path, "key.conf", KEY_FILE))
    assert key.name == dns.name.from_text("publisher")
    assert key.algorithm == dns.tsig.HMAC_SHA256
    assert key.secret == b"not secret at all"


@pytest.mark.parametrize("text", ["", "key:\n", "# hmac-sha256:publisher\n", "# hmac-sha256:publisher:a\n"])
def test_a_bad_key_is_reported_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"key\.conf$"):
        read_key(_file(tmp_path, "key.conf", text))


def test_the_record_that_a_device_printed_is_read(tmp_path: Path) -> None:
    record = read_record(_file(tmp_path, ALICE, PRINTED))
    assert record.to_text() == f"{ALICE}. 300 IN TLSA 3 0 0 00ff"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mallory._device.example.test", PRINTED),
        (ALICE, ""),
        (ALICE, "hello\n"),
        (ALICE, f"{ALICE}. 300 IN TLSA 3 0 0 xyz\n"),
        (ALICE, f"{ALICE}. 300 IN A 192.0.2.1\n"),
        (ALICE, f"{ALICE}. soon IN TLSA 3 0 0 00ff\n"),
    ],
)
def test_any_other_record_is_rejected(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_record(_file(tmp_path, name, text))


def test_an_update_makes_the_record_the_only_one_of_its_name_and_is_signed(tmp_path: Path) -> None:
    key = read_key(_file(tmp_path, "key.conf", KEY_FILE))
    update = build_update(dns.name.from_text("example.test"), key, [read_record(_file(tmp_path, ALICE, PRINTED))])
    wire = update.to_wire()
    received = dns.message.from_wire(wire, keyring=key)
    assert isinstance(received, dns.update.UpdateMessage)
    assert received.had_tsig
    assert [change.to_text() for change in received.update] == [
        f"{ALICE}. ANY TLSA",
        f"{ALICE}. 300 IN TLSA 3 0 0 00ff",
    ]
    with pytest.raises(dns.exception.DNSException):
        dns.message.from_wire(wire, keyring=dns.tsig.Key("publisher", b"another", dns.tsig.HMAC_SHA256))
