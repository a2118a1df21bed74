import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

Run = Callable[..., subprocess.CompletedProcess[str]]
Files = Callable[[], dict[str, bytes]]
NAME = "alice._device.example.test"


def test_it_creates_a_key_and_a_request_and_prints_the_next_step(run: Run, files: Files, crypto_path: Path) -> None:
    ended = run("create_id_csr.py", ORGANIZATION="Beispiel")
    assert ended.returncode == 0
    assert sorted(files()) == [".csr.pem", ".key.pem"]
    assert ended.stdout.encode() == files()[".csr.pem"]
    request = x509.load_pem_x509_csr(ended.stdout.encode())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == f"CN={NAME},O=Beispiel,L=San Francisco,ST=CA,C=US"
    assert f"{crypto_path}/{NAME}.crt.pem" in ended.stderr
    assert ended.stderr.index("install_certificate.py") < ended.stderr.index("generate_tlsa.py")


def test_an_existing_key_is_kept_and_used(run: Run, files: Files) -> None:
    run("create_selfsigned_id.py")
    before = files()
    ended = run("create_id_csr.py")
    assert ended.returncode == 0
    assert "is kept and used" in ended.stderr
    assert files() == {**before, ".csr.pem": ended.stdout.encode()}
    certificate = x509.load_pem_x509_certificate(before[".crt.pem"])
    assert x509.load_pem_x509_csr(ended.stdout.encode()).public_key() == certificate.public_key()


def test_force_creates_a_new_key_and_keeps_the_old(run: Run, files: Files) -> None:
    run("create_id_csr.py")
    before = files()
    ended = run("create_id_csr.py", "--force")
    assert ended.returncode == 0
    assert files()[".key.previous.pem"] == before[".key.pem"]
    assert files()[".csr.pem"] != before[".csr.pem"]


def test_an_unusable_key_is_reported_and_kept(run: Run, files: Files, crypto_path: Path) -> None:
    crypto_path.mkdir()
    (crypto_path / f"{NAME}.key.pem").write_bytes(b"garbage")
    ended = run("create_id_csr.py")
    assert ended.returncode == 4
    assert ended.stdout == ""
    assert "holds no private key that can be read" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert files() == {".key.pem": b"garbage"}
