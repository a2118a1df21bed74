import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from idlib import certificates, keys
from idlib.algorithms import PrivateKey
from idlib.errors import ExitStatus, KeyFileError
from idlib.names import IdentityName
from tests.idlib.identity_files import NAME, OWN_UID, files_in, put_keys


def test_files_are_named_after_the_identity(tmp_path: Path) -> None:
    assert keys.key_path(tmp_path, NAME) == tmp_path / "alice._device.example.test.key.pem"
    assert keys.certificate_path(tmp_path, NAME) == tmp_path / "alice._device.example.test.crt.pem"
    assert keys.request_path(tmp_path, NAME) == tmp_path / "alice._device.example.test.csr.pem"
    assert [path.name for path in keys.previous_key_paths(tmp_path, NAME)] == [
        "alice._device.example.test.key.previous.pem",
        "alice._device.example.test.key.previous2.pem",
        "alice._device.example.test.key.previous3.pem",
    ]


def test_the_longest_names_have_distinct_files(tmp_path: Path) -> None:
    start = ".".join(["a" * 63] * 3)
    one, other = IdentityName(f"{start}.{'b' * 61}"), IdentityName(f"{start}.{'b' * 60}c")
    for name in (one, other):
        for path in (keys.key_path(tmp_path, name), *keys.previous_key_paths(tmp_path, name)):
            keys.write_new(path, name.text.encode(), OWN_UID)
    assert keys.key_path(tmp_path, one).read_bytes() == one.text.encode()
    assert len(files_in(tmp_path)) == 8


def test_a_new_key_is_written_as_pkcs1_and_read_back(tmp_path: Path, key_pem: bytes) -> None:
    path = tmp_path / "key.pem"
    keys.write_new(path, key_pem, OWN_UID)
    assert key_pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    key = keys.read_private_key(path)
    assert key.native.key_size == 2048
    assert keys.encode_private_key(key) == key_pem


def test_a_p256_key_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    native = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(native.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert keys.read_private_key(path).native.public_key() == native.public_key()


def _unusable_keys() -> dict[str, tuple[bytes, str]]:
    p384 = ec.generate_private_key(ec.SECP384R1())
    p256 = ec.generate_private_key(ec.SECP256R1())
    edwards = ed25519.Ed25519PrivateKey.generate()
    small = rsa.generate_private_key(65537, 1024)
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    return {
        "empty": (b"", "it is empty"),
        "text": (b"hello\n", "no -----BEGIN line"),
        "broken": (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "no private key"),
        "der": (p256.private_bytes(Encoding.DER, pkcs8, NoEncryption()), "a private key in DER form"),
        "password": (p256.private_bytes(pem, pkcs8, BestAvailableEncryption(b"secret")), "protected by a password"),
        "p384": (p384.private_bytes(pem, pkcs8, NoEncryption()), "curve secp384r1"),
        "ed25519": (edwards.private_bytes(pem, pkcs8, NoEncryption()), "Ed25519PrivateKey"),
        "rsa1024": (small.private_bytes(pem, pkcs8, NoEncryption()), "1024 bits"),
        "huge": (b"x" * (keys.MAX_FILE_OCTETS + 1), "more than 65536 bytes"),
    }


@pytest.mark.parametrize("kind", ["empty", "text", "broken", "der", "password", "p384", "ed25519", "rsa1024", "huge"])
def test_an_unusable_key_file_is_reported_in_one_line(tmp_path: Path, kind: str) -> None:
    octets, fact = _unusable_keys()[kind]
    path = tmp_path / "key.pem"
    path.write_bytes(octets)
    with pytest.raises(KeyFileError, match=re.escape(fact)) as caught:
        keys.read_private_key(path)
    assert "\n" not in str(caught.value)
    assert str(path) in caught.value.fact
    assert caught.value.hint
    assert caught.value.exit_status is ExitStatus.KEY


def test_the_hint_for_a_missing_key_names_the_programs_that_create_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"create_selfsigned_id\.py"):
        keys.read_private_key(tmp_path / "key.pem")


def test_the_hint_for_a_missing_certificate_names_the_program_that_installs_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"install_certificate\.py"):
        keys.read_certificate(keys.certificate_path(tmp_path, NAME))


def test_a_directory_in_the_place_of_a_key_is_reported(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="it is a directory"):
        keys.read_private_key(tmp_path)


@given(octets=st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"-----BEGIN CERTIFICATE-----\n" + b))
def test_arbitrary_bytes_as_a_key_or_certificate_are_a_key_file_error(octets: bytes) -> None:
    with pytest.raises(KeyFileError):
        keys.parse_private_key(octets, Path("key.pem"))
    with pytest.raises(KeyFileError):
        keys.parse_certificate(octets, Path("crt.pem"))


def test_replaced_keys_move_up_and_the_fourth_is_deleted(tmp_path: Path) -> None:
    for number in range(5):
        keys.replace_key(tmp_path, NAME, b"key %d" % number, OWN_UID, {tmp_path / "crt": b"crt %d" % number})
    assert keys.key_path(tmp_path, NAME).read_bytes() == b"key 4"
    assert [path.read_bytes() for path in keys.previous_key_paths(tmp_path, NAME)] == [b"key 3", b"key 2", b"key 1"]
    assert (tmp_path / "crt").read_bytes() == b"crt 4"
    assert len(files_in(tmp_path)) == 5


@pytest.mark.parametrize("renames_before_the_kill", range(6))
def test_no_key_is_lost_if_the_process_is_killed_while_replacing_one(
    tmp_path: Path, renames_before_the_kill: int
) -> None:
    put_keys(tmp_path, current=b"C", previous=(b"P1", b"P2", b"P3"))
    certificate = keys.certificate_path(tmp_path, NAME)
    certificate.write_bytes(b"crt of C")
    script = f"""
import os, signal
from pathlib import Path
from typing import Any, Final
from idlib import keys
from idlib.names import IdentityName
directory, certificate, name = Path({str(tmp_path)!r}), Path({str(certificate)!r}), IdentityName({NAME.text!r})
left, rename = {renames_before_the_kill}, Path.replace
def killing(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(self, target)
Path.replace = killing
with keys.locked(directory):
    keys.replace_key(directory, name, b"N", {OWN_UID}, {{certificate: b"crt of N"}})
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == (-9 if renames_before_the_kill < 5 else 0)

    current = keys.key_path(tmp_path, NAME).read_bytes()
    previous = [path.read_bytes() for path in keys.previous_key_paths(tmp_path, NAME)]
    assert current in {b"C", b"N"}
    assert {b"C", b"P1", b"P2"} <= {current, *previous}
    assert certificate.read_bytes() in {b"crt of C", b"crt of N"}

    with keys.locked(tmp_path):
        keys.replace_key(tmp_path, NAME, b"M", OWN_UID)
    previous = [path.read_bytes() for path in keys.previous_key_paths(tmp_path, NAME)]
    assert previous == ([b"C", b"P1", b"P2"] if current == b"C" else [b"N", b"C", b"P1"])
    assert len(files_in(tmp_path)) == 5


def test_the_lock_excludes_a_second_writer_until_it_is_released(tmp_path: Path) -> None:
    with (
        keys.locked(tmp_path),
        pytest.raises(KeyFileError, match="another program is writing keys"),
        keys.locked(tmp_path, timeout=0),
    ):
        pass
    with keys.locked(tmp_path, timeout=0):
        pass
    assert files_in(tmp_path) == {}


def test_a_second_writer_waits_for_the_lock(tmp_path: Path) -> None:
    entered = threading.Event()
    with keys.locked(tmp_path):

        def enter() -> None:
            with keys.locked(tmp_path):
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()


def test_the_first_certificate_of_a_chain_is_read(tmp_path: Path) -> None:
    path = tmp_path / "crt"
    chain = []
    for common_name in ("leaf", "ca"):
        key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
        subject = x509.Name.from_rfc4514_string(f"CN={common_name}")
        alternative_name = certificates.build_subject_alternative_name(NAME)
        certificate = certificates.build_self_signed_certificate(key, subject, alternative_name, datetime.now(UTC))
        chain.append(certificate.public_bytes(Encoding.PEM))
    path.write_bytes(b"".join(chain))
    assert keys.read_certificate(path).subject == x509.Name.from_rfc4514_string("CN=leaf")


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.binary(max_size=2000))
def test_what_is_written_is_read(tmp_path: Path, data: bytes) -> None:
    keys.replace(tmp_path / "file", data, OWN_UID)
    assert keys.read_file(tmp_path / "file") == data
