import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

Run = Callable[..., subprocess.CompletedProcess[str]]
Files = Callable[[], dict[str, bytes]]
NAME = "alice._device.example.test"
CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA_NAME = x509.Name.from_rfc4514_string("CN=Example CA")


def issue(request_pem: str, *extensions: x509.ExtensionType, expires_in: timedelta = timedelta(days=90)) -> str:
    """Return the certificate that a CA issues for a request."""
    request = x509.load_pem_x509_csr(request_pem.encode())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(CA_NAME)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=365))
        .not_valid_after(now + expires_in)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def alternative_name(name: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name)])


@pytest.fixture
def request_pem(run: Run) -> str:
    return run("create_id_csr.py").stdout


def test_a_certificate_from_a_ca_gives_a_record(run: Run, files: Files, request_pem: str) -> None:
    certificate = issue(request_pem, alternative_name(NAME))
    installed = run("install_certificate.py", stdin=certificate)
    assert installed.returncode == 0
    assert installed.stdout == ""
    assert "publish_tlsa.py" in installed.stderr
    assert "WARNING" not in installed.stderr
    assert files()[".crt.pem"].decode() == certificate
    shown = run("generate_tlsa.py")
    der = x509.load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)
    assert shown.stdout.splitlines()[0] == f"TLSA record for {NAME}: 3 0 0 {der.hex()}"


def test_a_renewed_certificate_replaces_the_old_one(run: Run, files: Files, request_pem: str) -> None:
    run("install_certificate.py", stdin=issue(request_pem, alternative_name(NAME)))
    renewed = issue(request_pem, alternative_name(NAME))
    assert run("install_certificate.py", stdin=renewed).returncode == 0
    assert files()[".crt.pem"].decode() == renewed


def test_a_name_or_date_that_other_software_may_reject_causes_a_warning(run: Run, request_pem: str) -> None:
    nameless = run("install_certificate.py", stdin=issue(request_pem))
    assert nameless.returncode == 0
    assert f"does not have {NAME} as a dNSName" in nameless.stderr
    expired = issue(request_pem, alternative_name(NAME), expires_in=timedelta(days=-1))
    ended = run("install_certificate.py", stdin=expired)
    assert ended.returncode == 0
    assert "expired on" in ended.stderr


def test_anything_else_is_rejected_and_changes_nothing(run: Run, files: Files, request_pem: str) -> None:
    foreign = run("create_id_csr.py", IDENTITY_NAME="bob._device.example.test").stdout
    before = files()
    for stdin, fact in (
        ("", "no certificate in PEM form"),
        ("hello", "no certificate in PEM form"),
        (request_pem, "no certificate in PEM form"),
        ("x" * 70_000, "too large"),
        (issue(foreign, alternative_name(NAME)), "not for the key"),
    ):
        ended = run("install_certificate.py", stdin=stdin)
        assert ended.returncode == 4
        assert fact in ended.stderr
        assert "Traceback" not in ended.stderr
    assert files() == before


def test_without_a_key_it_prints_how_to_create_one(run: Run, request_pem: str) -> None:
    ended = run("install_certificate.py", stdin=issue(request_pem), IDENTITY_NAME="bob._device.example.test")
    assert ended.returncode == 4
    assert "create_id_csr.py" in ended.stderr
