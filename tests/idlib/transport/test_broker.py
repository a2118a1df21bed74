"""Which settings of the broker can be combined, and which errors are reported for their files."""

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import Settings
from idlib.transport import Broker
from testbed.certificate_maker import Authority, ec_key, rsa_key

Load = Callable[..., Settings]
File = Callable[[str, bytes], str]
AUTHORITY = Authority()
CA = AUTHORITY.certificate.public_bytes(Encoding.PEM)
CERTIFICATE = AUTHORITY.issue(key=rsa_key()).public_bytes(Encoding.PEM)
KEY = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OTHER_KEY = ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
LOCKED_KEY = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def problems(read: Settings) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Broker.from_settings(read)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def problem(read: Settings) -> str:
    (only,) = problems(read)
    return only


def password_of(read: Settings) -> str | None:
    return Broker.from_settings(read).password


@pytest.mark.parametrize("name", ["MQTT_CA_FILE", "MQTT_CERT_FILE"])
def test_a_tls_file_without_tls_is_rejected(name: str, load_with: Load) -> None:
    # Even if the file does not exist: it is not read.
    assert problem(load_with(**{name: "/no/such/file"})) == (
        f"{name} is set, and MQTT_TLS is off: set MQTT_TLS=on, or unset {name}"
    )


def test_all_conflicting_settings_are_reported_at_once(load_with: Load) -> None:
    read = load_with(MQTT_KEY_FILE="/key", MQTT_PASSWORD_FILE="/password", MQTT_CA_FILE="/ca")
    assert [problem.partition(" ")[0] for problem in problems(read)] == [
        "MQTT_CA_FILE",
        "MQTT_KEY_FILE",
        "MQTT_KEY_FILE",
        "MQTT_PASSWORD_FILE",
    ]


def test_a_key_without_its_certificate_is_rejected(load_with: Load) -> None:
    assert "MQTT_CERT_FILE is not" in problem(load_with(MQTT_TLS="on", MQTT_KEY_FILE="/key"))


@pytest.mark.parametrize(
    "host", ["broker.example", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "localhost.example", "10.0.0.1"]
)
def test_a_login_in_the_clear_needs_permission(host: str, load_with: Load, file: File) -> None:
    login = {"MQTT_HOST": host, "MQTT_USERNAME": "alice", "MQTT_PASSWORD_FILE": file("password", b"secret\n")}
    said = problem(load_with(**login))
    assert said.startswith("MQTT_USERNAME is set, and MQTT_TLS is off")
    assert "MQTT_PLAINTEXT_LOGIN=on" in said
    assert password_of(load_with(**login, MQTT_TLS="on")) == "secret"
    assert password_of(load_with(**login, MQTT_PLAINTEXT_LOGIN="on")) == "secret"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_a_login_that_stays_on_this_machine_is_allowed(host: str, load_with: Load) -> None:
    assert Broker.from_settings(load_with(MQTT_HOST=host, MQTT_USERNAME="alice")).username == "alice"


def test_a_login_through_a_proxy_does_not_stay_on_this_machine(load_with: Load) -> None:
    proxied = load_with(MQTT_HOST="localhost", MQTT_USERNAME="alice", MQTT_PROXY="socks5://proxy.example.com:1080")
    with pytest.raises(ConfigurationError, match="anyone on the path to the broker could read the password"):
        Broker.from_settings(proxied)


def test_a_setting_that_is_ignored_without_harm_is_a_warning(load_with: Load, caplog: pytest.LogCaptureFixture) -> None:
    Broker.from_settings(load_with(MQTT_VERSION="3.1.1"))
    Broker.from_settings(load_with(MQTT_SESSION_EXPIRY="3600"))
    assert caplog.records == []
    Broker.from_settings(load_with(MQTT_VERSION="3.1.1", MQTT_SESSION_EXPIRY="3600"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("MQTT_SESSION_EXPIRY is ignored")


@pytest.mark.parametrize(
    ("contents", "password"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\nmore\r\n", "secret"),
        (b"\xef\xbb\xbfsecret\r\n", "secret"),
        ("pässwort \n".encode(), "pässwort "),
    ],
    ids=["bare", "Unix", "Windows", "mark", "white space"],
)
def test_the_password_is_the_first_line(contents: bytes, password: str, load_with: Load, file: File) -> None:
    read = load_with(MQTT_TLS="on", MQTT_USERNAME="alice", MQTT_PASSWORD_FILE=file("password", contents))
    assert password_of(read) == password


@pytest.mark.parametrize(
    ("contents", "fault"),
    [
        (b"", "its first line is empty"),
        (b"\nsecret\n", "its first line is empty"),
        (b"\xef\xbb\xbf\n", "its first line is empty"),
        ("secret".encode("utf-16"), "is in UTF-16"),
        ("pässwort".encode("latin-1"), "has byte 2 of line 1 that is not UTF-8"),
        (b"x" * 65536, "more than 65535 bytes"),
    ],
    ids=["empty", "empty line", "mark alone", "UTF-16", "Latin-1", "too long"],
)
def test_an_unusable_password_is_reported(contents: bytes, fault: str, load_with: Load, file: File) -> None:
    path = file("password", contents)
    said = problem(load_with(MQTT_TLS="on", MQTT_USERNAME="alice", MQTT_PASSWORD_FILE=path))
    assert said.startswith(f"Bad value of env var MQTT_PASSWORD_FILE: '{path}' ")
    assert fault in said
    assert "secret" not in said


def test_a_file_that_cannot_be_read_is_reported_with_the_reason(load_with: Load, tmp_path: Path, file: File) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (("missing", "cannot be read: No such file"), ("pipe", "it is a named pipe")):
        path = str(tmp_path / name)
        for tls in (
            {"MQTT_CA_FILE": path},
            {"MQTT_CERT_FILE": path},
            {"MQTT_CERT_FILE": file("c", CERTIFICATE), "MQTT_KEY_FILE": path},
            {"MQTT_USERNAME": "alice", "MQTT_PASSWORD_FILE": path},
        ):
            said = problem(load_with(MQTT_TLS="on", **tls))
            assert said.startswith(f"Bad value of env var {[*tls][-1]}: '{path}' ")
            assert fault in said


@pytest.mark.parametrize(
    ("contents", "fault"),
    [
        (b"", "it is empty"),
        (CA[:200], "block 1, at line 1, has no END line"),
        (CA + CERTIFICATE[:200], f"block 2, at line {len(CA.splitlines()) + 1}, has no END line"),
        (KEY, "it holds a private key"),
        (CA.decode().encode("utf-16"), "it is text in UTF-16"),
    ],
    ids=["empty", "cut off", "second cut off", "key", "UTF-16"],
)
def test_a_ca_file_with_other_contents_is_reported(contents: bytes, fault: str, load_with: Load, file: File) -> None:
    said = problem(load_with(MQTT_TLS="on", MQTT_CA_FILE=file("ca.pem", contents)))
    assert said.startswith("Bad value of env var MQTT_CA_FILE: ")
    assert fault in said


@pytest.mark.parametrize(
    ("certificate", "key", "name", "fault"),
    [
        (CERTIFICATE, None, "MQTT_CERT_FILE", "holds no private key; name the file of the key in MQTT_KEY_FILE"),
        (CERTIFICATE, OTHER_KEY, "MQTT_KEY_FILE", "holds the private key of another certificate"),
        (CERTIFICATE + OTHER_KEY, None, "MQTT_CERT_FILE", "holds the private key of another certificate"),
        (CERTIFICATE, LOCKED_KEY, "MQTT_KEY_FILE", "protected by a password"),
        (CERTIFICATE, CERTIFICATE, "MQTT_KEY_FILE", "it holds a certificate"),
        (KEY, KEY, "MQTT_CERT_FILE", "it holds a private key"),
        (CERTIFICATE[:200], KEY, "MQTT_CERT_FILE", "block 1, at line 1, has no END line"),
    ],
    ids=["no key", "other key", "other key beside it", "locked", "no key but a certificate", "no certificate", "cut"],
)
def test_a_certificate_and_key_that_cannot_be_used_are_reported(
    certificate: bytes, key: bytes | None, name: str, fault: str, load_with: Load, file: File
) -> None:
    files = {"MQTT_CERT_FILE": file("c.pem", certificate)}
    if key is not None:
        files["MQTT_KEY_FILE"] = file("k.pem", key)
    said = problem(load_with(MQTT_TLS="on", **files))
    assert said.startswith(f"Bad value of env var {name}: '{files[name]}' ")
    assert fault in said


def test_a_certificate_and_its_key_are_loaded_from_one_file_or_two(load_with: Load, file: File) -> None:
    one = load_with(MQTT_TLS="on", MQTT_CERT_FILE=file("both.pem", CERTIFICATE + KEY))
    two = load_with(MQTT_TLS="on", MQTT_CERT_FILE=file("c.pem", CERTIFICATE), MQTT_KEY_FILE=file("k.pem", KEY))
    assert Broker.from_settings(one).tls is not None
    assert Broker.from_settings(two).tls is not None


@pytest.mark.parametrize("with_file", [False, True])
def test_tls_checks_are_the_same_on_every_python(with_file: bool, load_with: Load, file: File) -> None:  # noqa: FBT001
    files = {"MQTT_CA_FILE": file("ca.pem", CA)} if with_file else {}
    context = Broker.from_settings(load_with(MQTT_TLS="on", **files)).tls
    assert context is not None
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@given(st.binary(max_size=100) | st.sampled_from([CA[:100], KEY[:100], CA, KEY]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_file_is_used_or_reported_as_wrong(load_with: Load, file: File, contents: bytes) -> None:
    path = file("any", contents)
    for name in ("MQTT_CA_FILE", "MQTT_CERT_FILE", "MQTT_PASSWORD_FILE"):
        try:
            Broker.from_settings(load_with(MQTT_TLS="on", MQTT_USERNAME="alice", **{name: path}))
        except ConfigurationError as error:
            assert name in str(error)
