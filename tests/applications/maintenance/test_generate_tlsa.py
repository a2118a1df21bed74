import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from idlib.names import IdentityName
from idlib.records import TlsaRecord, judge

Run = Callable[..., subprocess.CompletedProcess[str]]
Files = Callable[[], dict[str, bytes]]
NAME = "alice._device.example.test"


def test_it_prints_the_record_and_a_line_of_a_zone_file(run: Run, files: Files) -> None:
    run("create_selfsigned_id.py")
    ended = run("generate_tlsa.py")
    association = x509.load_pem_x509_certificate(files()[".crt.pem"]).public_bytes(Encoding.DER).hex()
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        f"TLSA record for {NAME}: 3 0 0 {association}",
        f"{NAME}. 300 IN TLSA 3 0 0 {association}",
    ]


def test_the_name_is_shown_in_its_normal_form(run: Run) -> None:
    run("create_selfsigned_id.py")
    assert run("generate_tlsa.py", IDENTITY_NAME="ALICE._device.example.test.").stdout.startswith(
        f"TLSA record for {NAME}: "
    )


def test_missing_files_are_reported_with_a_hint(run: Run, crypto_path: Path) -> None:
    missing = run("generate_tlsa.py")
    assert (missing.returncode, missing.stdout) == (4, "")
    assert "create_selfsigned_id.py" in missing.stderr
    assert not crypto_path.exists()
    run("create_id_csr.py")
    unfinished = run("generate_tlsa.py")
    assert (unfinished.returncode, unfinished.stdout) == (4, "")
    assert "install_certificate.py" in unfinished.stderr


def test_a_key_without_a_matching_certificate_is_reported_with_a_hint(run: Run) -> None:
    run("create_selfsigned_id.py")
    run("create_id_csr.py", "--force")
    ended = run("generate_tlsa.py")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "is not for the key" in ended.stderr
    assert "create_selfsigned_id.py --force" in ended.stderr
    assert "install_certificate.py" in ended.stderr


def test_a_broken_certificate_is_reported(run: Run, crypto_path: Path) -> None:
    run("create_selfsigned_id.py")
    (crypto_path / f"{NAME}.crt.pem").write_bytes(b"garbage")
    ended = run("generate_tlsa.py")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "no certificate in PEM form" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("key_type", ["rsa2048", "rsa3072", "p256"])
@pytest.mark.parametrize("selector", ["0", "1"])
def test_the_record_contains_the_key_of_each_type(key_type: str, selector: str, run: Run, files: Files) -> None:
    assert run("create_selfsigned_id.py", KEY_TYPE=key_type).returncode == 0
    printed = run("generate_tlsa.py", "--selector", selector)
    record = TlsaRecord(3, int(selector), 0, bytes.fromhex(printed.stdout.splitlines()[0].split()[-1]))
    usable = judge(record, IdentityName(NAME), datetime.now(UTC), None)
    key = load_pem_private_key(files()[".key.pem"], None)
    assert usable.public_key.native == key.public_key()
    can_be_read_by_all = selector == "0" and key_type != "p256"
    assert ("dane-jwe-jws" in printed.stderr) is not can_be_read_by_all


def test_a_record_that_no_device_would_accept_is_not_printed(run: Run, crypto_path: Path) -> None:
    crypto_path.mkdir()
    key, certificate = crypto_path / f"{NAME}.key.pem", crypto_path / f"{NAME}.crt.pem"
    subprocess.run(["openssl", "genpkey", "-quiet", "-algorithm", "RSA-PSS", "-out", str(key)], check=True)
    request = ["openssl", "req", "-x509", "-key", str(key), "-subj", f"/CN={NAME}", "-out", str(certificate)]
    subprocess.run(request, check=True)
    ended = run("generate_tlsa.py")
    assert ended.returncode == 4
    assert ended.stdout == ""
    assert "restricted to RSASSA-PSS" in ended.stderr
    pem = certificate.read_text()
    certificate.unlink()
    ended = run("install_certificate.py", stdin=pem)
    assert ended.returncode == 4
    assert "restricted to RSASSA-PSS" in ended.stderr
    assert not certificate.exists()


def test_only_the_record_and_the_next_step_are_printed(run: Run) -> None:
    run("create_selfsigned_id.py")
    ended = run("generate_tlsa.py")
    assert "INFO" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("resolver", "server"),
    [
        (None, "@127.0.0.1"),
        ("192.0.2.1", "@192.0.2.1"),
        ("192.0.2.1:5353", "@192.0.2.1 -p 5353"),
        ("[2001:db8::1]:5353", "@2001:db8::1 -p 5353"),
        ("tls://192.0.2.1", "@192.0.2.1 +tls +tls-ca"),
        ("tls://192.0.2.1:8853#dns.example", "@192.0.2.1 -p 8853 +tls +tls-ca +tls-hostname=dns.example"),
        ("https://dns.example/q", "@dns.example +https=/q +tls-ca"),
        ("https://dns.example:8443/q#192.0.2.1", "@192.0.2.1 -p 8443 +https=/q +tls-ca +tls-hostname=dns.example"),
    ],
)
def test_the_dig_command_asks_the_trusted_resolver(run: Run, resolver: str | None, server: str) -> None:
    run("create_selfsigned_id.py")
    ended = run("generate_tlsa.py", **({} if resolver is None else {"DNS_RESOLVER": resolver}))
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"Publish it at {NAME} in a zone that is signed with DNSSEC. Look it up only after that")
    assert line.endswith(f": dig {server} +dnssec {NAME} TLSA")


def test_the_dig_command_verifies_the_resolver_with_its_own_ca(run: Run) -> None:
    run("create_selfsigned_id.py")
    ended = run("generate_tlsa.py", DNS_RESOLVER="tls://192.0.2.1", DNS_CA_FILE="/etc/my ca.pem")
    assert f": dig @192.0.2.1 +tls '+tls-ca=/etc/my ca.pem' +dnssec {NAME} TLSA" in ended.stderr
