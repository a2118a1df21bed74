"""A user's own broker: through TLS, with a certificate and a password for each device."""

import ipaddress
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, find
from testbed.lab import Lab
from testbed.programs import RECEIVER, Device

PASSWORD = "correct horse"


class Authority:
    """A certification authority that issues certificates into a directory.

    Args:
        directory: An existing one.
        name: Its name.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = directory / f"{name}.pem"
        self._write(self.file, self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for this machine's loopback, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))])
        certificate, key_file = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        self._write(certificate, subject, key.public_key(), loopback)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key_file

    def _write(
        self, path: Path, subject: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> None:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def strict_broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    directory = tmp_path_factory.mktemp("strict-broker")
    subprocess.run([find("mosquitto_passwd"), "-b", "-c", str(directory / "passwords"), "device", PASSWORD], check=True)
    certificate, key = authority.issue("broker")
    extra = (
        f"cafile {authority.file}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n"
        f"password_file {directory / 'passwords'}\n"
    )
    with Mosquitto(directory, anonymous=False, extra=extra) as broker:
        yield broker


@pytest.fixture(scope="module")
def device(
    lab: Lab, strict_broker: Mosquitto, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Device:
    password = tmp_path_factory.mktemp("password") / "password"
    password.write_text(f"{PASSWORD}\n")
    certificate, key = authority.issue("device")
    return lab.published_device("strict").with_settings(
        MQTT_HOST=strict_broker.host,
        MQTT_PORT=str(strict_broker.port),
        MQTT_TLS="on",
        MQTT_CA_FILE=str(authority.file),
        MQTT_CERT_FILE=str(certificate),
        MQTT_KEY_FILE=str(key),
        MQTT_USERNAME="device",
        MQTT_PASSWORD_FILE=str(password),
    )


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_message_arrives_over_tls(version: str, device: Device, tmp_path: Path) -> None:
    spoken = device.with_settings(MQTT_VERSION=version, DATA_PATH=str(tmp_path))
    with spoken.receiver() as receiver:
        assert spoken.send(device, f"in private over {version}").status == 0
        receiver.wait_for_message(f"in private over {version}")


def refused(device: Device, *words: str) -> None:
    """Check that sender and receiver report in one line why they cannot connect, and that the receiver retries."""
    result = device.send(device, "never sent", "--timeout", "5")
    assert result.status == 3
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(word in line for word in words), line
    assert "_ssl.c" not in line
    with device.start(RECEIVER) as receiver:
        receiver.wait_for(
            "line on the broker", lambda: any(all(word in line for word in words) for line in receiver.stderr)
        )
        assert receiver.is_running
        assert not any("Traceback" in line or "_ssl.c" in line for line in receiver.stderr)


def test_a_broker_certificate_of_another_ca_is_rejected(device: Device, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    refused(
        device.with_settings(MQTT_CA_FILE=str(other.file), DATA_PATH=str(tmp_path)),
        "certificate verify failed",
        "not issued by a CA in MQTT_CA_FILE",
    )


def test_a_broker_certificate_of_an_unknown_ca_is_rejected_with_a_hint(device: Device, tmp_path: Path) -> None:
    refused(
        device.without_setting("MQTT_CA_FILE").with_settings(DATA_PATH=str(tmp_path)),
        "certificate verify failed",
        "set MQTT_CA_FILE to its CA's file",
    )


def test_a_broker_certificate_for_another_name_is_rejected(device: Device, tmp_path: Path) -> None:
    other = device.with_settings(MQTT_HOST="localhost", DATA_PATH=str(tmp_path))
    refused(other, "certificate verify failed", "is not for localhost; set MQTT_HOST to a name in it")


def test_tls_to_a_port_without_tls_is_recognized(device: Device, lab: Lab, tmp_path: Path) -> None:
    refused(
        device.with_settings(MQTT_PORT=str(lab.mosquitto.port), DATA_PATH=str(tmp_path)), "check that the port uses TLS"
    )


def test_the_broker_refuses_a_wrong_password(device: Device, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    wrong = device.with_settings(MQTT_PASSWORD_FILE=str(tmp_path / "password"), DATA_PATH=str(tmp_path))
    refused(wrong, "Not authorized", "MQTT_USERNAME", "the first line of MQTT_PASSWORD_FILE")


def test_the_broker_requires_a_password(device: Device, tmp_path: Path) -> None:
    without = device.without_setting("MQTT_PASSWORD_FILE").with_settings(DATA_PATH=str(tmp_path))
    refused(without, "Not authorized; set MQTT_PASSWORD_FILE, or check")


def test_a_private_ca_made_as_mosquitto_tls_says_is_accepted(
    device: Device, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    directory = tmp_path_factory.mktemp("private-ca")
    # The commands of mosquitto-tls(7), without a password for the CA's key; the name of the server is its CN.
    commands = (
        "openssl req -new -x509 -days 1 -extensions v3_ca -keyout ca.key -out ca.crt -nodes -subj /CN=private",
        "openssl genrsa -out server.key 2048",
        "openssl req -out server.csr -key server.key -new -subj /CN=localhost",
        "openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 1",
    )
    for command in commands:
        subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    extra = f"certfile {directory}/server.crt\nkeyfile {directory}/server.key\n"
    with Mosquitto(directory, extra=extra) as broker:
        private = (
            device.without_setting("MQTT_CERT_FILE")
            .without_setting("MQTT_KEY_FILE")
            .with_settings(
                MQTT_HOST="localhost",
                MQTT_PORT=str(broker.port),
                MQTT_CA_FILE=str(directory / "ca.crt"),
                DATA_PATH=str(tmp_path),
            )
        )
        with private.receiver() as receiver:
            assert private.send(device, "from a private CA").status == 0
            receiver.wait_for_message("from a private CA")


def test_a_password_is_not_sent_in_the_clear_without_permission(device: Device, silent_broker: socket.socket) -> None:
    plain = device.with_settings(MQTT_HOST="192.0.2.1", MQTT_PORT=str(silent_broker.getsockname()[1]))
    for name in ("MQTT_TLS", "MQTT_CA_FILE", "MQTT_CERT_FILE", "MQTT_KEY_FILE"):
        plain = plain.without_setting(name)
    result = plain.send(device, "never sent")
    assert result.status == 1
    assert "MQTT_PLAINTEXT_LOGIN=on" in result.stderr
    files = device.with_settings(MQTT_TLS="off", MQTT_HOST=silent_broker.getsockname()[0])
    for result in (files.send(device, "never sent"), files.run(RECEIVER)):
        assert result.status == 1
        assert "MQTT_CA_FILE is set, and MQTT_TLS is off" in result.stderr


def refused_at_once(device: Device, said: str) -> None:
    """Check that the sender reports in one line why its connection ended, without waiting for its timeout."""
    started = time.monotonic()
    result = device.send(device, "never sent", "--timeout", "50")
    assert result.status == 3
    assert time.monotonic() - started < 25
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert re.search(said, result.stderr), result.stderr


def test_a_broker_that_requires_our_certificate_is_reported_at_once(device: Device) -> None:
    without = device.without_setting("MQTT_CERT_FILE").without_setting("MQTT_KEY_FILE")
    # The broker's reset can overtake its alert.
    alert = r"TLSV13_ALERT_CERTIFICATE_REQUIRED\] [^(]*; the broker requires a client certificate; set"
    refused_at_once(without, f"did not accept the connection: .*({alert}|reset.*) MQTT_CERT_FILE")


def test_a_broker_that_requires_our_certificate_is_reported_by_the_receiver(device: Device, tmp_path: Path) -> None:
    without = device.without_setting("MQTT_CERT_FILE").without_setting("MQTT_KEY_FILE")
    refused(without.with_settings(DATA_PATH=str(tmp_path)), "did not accept the connection: ", "MQTT_CERT_FILE")


def test_a_broker_that_does_not_know_the_ca_of_our_certificate_is_reported(device: Device, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "other").issue("device")
    unknown = device.with_settings(
        MQTT_CERT_FILE=str(certificate), MQTT_KEY_FILE=str(key), DATA_PATH=str(tmp_path / "data")
    )
    refused(unknown, "did not accept the connection: ", "the certificate in MQTT_CERT_FILE")


def test_a_port_that_does_not_answer_in_tls_is_reported(
    device: Device, silent_broker: socket.socket, tmp_path: Path
) -> None:
    silent = device.with_settings(MQTT_PORT=str(silent_broker.getsockname()[1]), DATA_PATH=str(tmp_path))
    refused(silent, "cannot be reached: no TLS answer within 5 s; check that the port uses TLS")


def test_a_port_that_expects_tls_is_recognized_at_once(device: Device) -> None:
    without = device.with_settings(MQTT_TLS="off")
    for name in ("MQTT_CA_FILE", "MQTT_CERT_FILE", "MQTT_KEY_FILE"):
        without = without.without_setting(name)
    refused_at_once(without, "did not accept the connection: (the broker closed the connection|.*MQTT_TLS|.*reset)")


def test_a_port_that_does_not_speak_tls_is_recognized_at_once(device: Device, lab: Lab) -> None:
    refused_at_once(
        device.with_settings(MQTT_PORT=str(lab.mosquitto.port)),
        "TLS with the broker .* fails|cannot be reached: .*reset",
    )


@pytest.mark.parametrize("variable", ["MQTT_CA_FILE", "MQTT_CERT_FILE", "MQTT_KEY_FILE", "MQTT_PASSWORD_FILE"])
def test_an_unusable_file_is_named(variable: str, device: Device, tmp_path: Path) -> None:
    result = device.with_settings(**{variable: str(tmp_path / "missing")}).send(device, "never sent")
    assert result.status == 1
    assert variable in result.stderr
    assert "Traceback" not in result.stderr
