"""The maintenance programs: a device's key, certificate and record."""

import datetime as dt
import os
import signal
from pathlib import Path

import dns.rdataclass
import dns.rdatatype
import dns.zonefile
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from testbed.lab import Lab
from testbed.programs import (
    CREATE_ID_CSR,
    CREATE_SELFSIGNED_ID,
    GENERATE_TLSA,
    INSTALL_CERTIFICATE,
    MAINTENANCE,
    SENDER,
    Device,
    Program,
)

_SUBJECT = {
    "COUNTRY": (NameOID.COUNTRY_NAME, "DE"),
    "STATE": (NameOID.STATE_OR_PROVINCE_NAME, "Thüringen"),
    "LOCALITY": (NameOID.LOCALITY_NAME, "Jena"),
    "ORGANIZATION": (NameOID.ORGANIZATION_NAME, "Optik & Söhne"),
}


def _certificate(device: Device) -> x509.Certificate:
    return x509.load_pem_x509_certificate(device.certificate_path.read_bytes())


def _issue(request: x509.CertificateSigningRequest) -> bytes:
    """Return a certificate of a CA for a request, in PEM form."""
    ca_key = rsa.generate_private_key(65537, 2048)
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(request.subject).public_key(request.public_key())
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab CA")]))
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    builder = builder.not_valid_after(now + dt.timedelta(days=30))
    for extension in request.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_identity_is_a_private_key_and_a_certificate_for_ten_years(lab: Lab) -> None:
    device = lab.device_with_key("new")
    assert sorted(path.name for path in device.crypto_path.iterdir() if not path.name.startswith(".")) == [
        f"{device.name}.crt.pem",
        f"{device.name}.key.pem",
    ]
    assert (_mode(device.key_path), _mode(device.certificate_path)) == (0o600, 0o600)
    assert device.key_path.read_text().startswith("-----BEGIN RSA PRIVATE KEY-----")
    certificate = _certificate(device)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 3640 <= lifetime.days <= 3660
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [device.name]
    key = load_pem_private_key(device.key_path.read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_the_files_belong_to_the_applications_user_if_the_process_may_change_owners(lab: Lab) -> None:
    device = lab.device("given").with_settings(APP_UID="4711")
    assert device.run(CREATE_SELFSIGNED_ID).status == 0
    assert {path.stat().st_uid for path in (device.key_path, device.certificate_path)} == {
        4711 if os.geteuid() == 0 else os.geteuid()
    }


@pytest.mark.parametrize("program", [CREATE_SELFSIGNED_ID, CREATE_ID_CSR], ids=["certificate", "request"])
def test_the_subject_has_the_settings(program: Path, lab: Lab) -> None:
    device = lab.device("subject").with_settings(**{name: value for name, (_, value) in _SUBJECT.items()})
    assert device.run(program).status == 0
    if program is CREATE_SELFSIGNED_ID:
        subject = _certificate(device).subject
    else:
        path = device.crypto_path / f"{device.name}.csr.pem"
        assert _mode(path) == 0o600
        subject = x509.load_pem_x509_csr(path.read_bytes()).subject
    for oid, value in _SUBJECT.values():
        assert [attribute.value for attribute in subject.get_attributes_for_oid(oid)] == [value]


def test_an_existing_key_is_replaced_only_with_force(lab: Lab) -> None:
    device = lab.device_with_key("precious")
    before = device.key_path.read_bytes(), device.certificate_path.read_bytes()
    result = device.run(CREATE_SELFSIGNED_ID)
    assert result.status == 4
    assert "--force" in result.stderr
    assert (device.key_path.read_bytes(), device.certificate_path.read_bytes()) == before
    device.run(CREATE_ID_CSR)
    assert device.key_path.read_bytes() == before[0]
    assert device.run(CREATE_SELFSIGNED_ID, "--force").status == 0
    assert device.key_path.read_bytes() != before[0]
    assert device.run(GENERATE_TLSA).status == 0


def test_a_certificate_of_a_ca_is_installed_and_published(lab: Lab, bob: Device, bob_receiver: Program) -> None:
    device = lab.device("certified")
    made = device.run(CREATE_ID_CSR)
    assert made.status == 0
    assert str(device.certificate_path) in made.stdout + made.stderr
    assert "install_certificate.py" in made.stdout + made.stderr
    request = x509.load_pem_x509_csr((device.crypto_path / f"{device.name}.csr.pem").read_bytes())
    assert request.is_signature_valid
    pem = _issue(request)
    installed = device.run(INSTALL_CERTIFICATE, stdin=pem)
    assert installed.status == 0, installed
    assert _mode(device.certificate_path) == 0o600
    assert _certificate(device) == x509.load_pem_x509_certificate(pem)
    shown = device.run(GENERATE_TLSA).stdout.splitlines()[0]
    lab.knot.add_tlsa(device.name, shown.removeprefix(f"TLSA record for {device.name}: "))
    assert device.send(bob, "with a CA's certificate").status == 0
    bob_receiver.wait_for_message("with a CA's certificate")


def test_a_certificate_for_another_key_is_not_installed(lab: Lab) -> None:
    device, other = lab.device("own"), lab.device_with_key("other")
    assert device.run(CREATE_ID_CSR).status == 0
    result = device.run(INSTALL_CERTIFICATE, stdin=other.certificate_path.read_bytes())
    assert result.status == 4
    assert not device.certificate_path.exists()
    assert device.run(INSTALL_CERTIFICATE, stdin="rubbish").status == 4
    assert device.run(INSTALL_CERTIFICATE).status == 4


def test_the_record_is_printed_in_both_forms(lab: Lab) -> None:
    device = lab.device_with_key("shown")
    result = device.run(GENERATE_TLSA)
    assert result.status == 0
    first, second = result.stdout.splitlines()
    der = _certificate(device).public_bytes(Encoding.DER)
    assert first == f"TLSA record for {device.name}: {device.tlsa_record()}"
    (rrset,) = dns.zonefile.read_rrsets(second, rdclass=None, origin=".", relativize=False)
    assert (str(rrset.name), rrset.rdclass, rrset.rdtype) == (
        f"{device.name}.",
        dns.rdataclass.IN,
        dns.rdatatype.TLSA,
    )
    (record,) = rrset
    assert (record.usage, record.selector, record.mtype, record.cert) == (3, 0, 0, der)


def test_no_record_is_printed_without_a_matching_key_and_certificate(lab: Lab) -> None:
    device, other = lab.device("mixed"), lab.device_with_key("other")
    assert device.run(GENERATE_TLSA).status == 4
    assert device.run(CREATE_ID_CSR).status == 0
    assert device.run(GENERATE_TLSA).status == 4
    device.certificate_path.write_bytes(other.certificate_path.read_bytes())
    result = device.run(GENERATE_TLSA)
    assert result.status == 4
    assert result.stdout == ""


@pytest.mark.parametrize("program", [MAINTENANCE, SENDER], ids=["maintenance", "messaging_sender"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_container_is_kept_open_until_a_signal(program: Path, number: signal.Signals, alice: Device) -> None:
    with alice.start(program) as application:
        application.wait_for("word of it", lambda: bool(application.stderr))
        assert application.is_running
        application.signal(number)
        assert application.wait_for_end(5) == 0
        assert application.stdout == []
