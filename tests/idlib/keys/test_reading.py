import errno
import os
import re
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
from hypothesis import given
from hypothesis import strategies as st

from idlib import certificates, keys
from idlib.algorithms import PrivateKey
from idlib.errors import ExitStatus, KeyFileError
from idlib.names import IdentityName
from tests.idlib.identity_files import NAME


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
        "huge": (b"x" * (keys.MAX_FILE_BYTES + 1), "more than 65536 bytes"),
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
    with pytest.raises(
        KeyFileError,
        match="create an identity with dane-messenger identity create, or with dane-messenger identity csr and a CA",
    ):
        keys.read_private_key(tmp_path / "key.pem")


def test_the_hint_for_a_missing_certificate_names_the_program_that_installs_one(tmp_path: Path) -> None:
    with pytest.raises(
        KeyFileError, match="install a CA's certificate with dane-messenger identity install, or create a new key"
    ):
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


def test_a_named_pipe_is_rejected_as_a_key_file_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key.pem")
    with pytest.raises(KeyFileError, match="it is a named pipe, not a regular file"):
        keys.read_private_key(tmp_path / "key.pem")


def test_the_hint_for_an_own_unreadable_key_is_chmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "my key.pem"
    path.touch(0o000)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KeyFileError) as caught:
        keys.read_private_key(path)
    assert caught.value.hint == f"run chmod 600 '{path}'"


def test_the_hint_for_a_missing_key_names_other_keys_in_the_directory(tmp_path: Path) -> None:
    keys.key_path(tmp_path, NAME).touch()
    with pytest.raises(KeyFileError) as caught:
        keys.read_private_key(keys.key_path(tmp_path, IdentityName("alcie._device.example.test")))
    assert caught.value.hint.startswith(f"'{tmp_path}' has a key of {NAME}: is IDENTITY_NAME right? If so, create")


def test_the_hint_names_crypto_path_if_the_default_directory_is_missing() -> None:
    if Path("/identity").exists():
        pytest.fail("this test needs a system without the directory /identity")
    with pytest.raises(KeyFileError, match="set CRYPTO_PATH to"):
        keys.read_private_key(keys.key_path(Path("/identity"), NAME))
