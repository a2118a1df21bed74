from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from idlib.discovery import authorities
from idlib.discovery.authorities import read_authorities, read_system_authorities
from idlib.errors import ConfigurationError
from testbed.certificate_maker import Authority


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_file_without_certificates_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"PKIX_CA_FILE.*ca\.pem"):
        read_authorities(tmp_path / "ca.pem")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PKIX_CA_FILE"):
        read_authorities(tmp_path / "ca.pem")


def system_trusts(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return read_system_authorities() is not None


def test_one_bad_authority_of_the_system_does_not_disable_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Authority().certificate.public_bytes(Encoding.PEM)
    bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert system_trusts(bad + good, tmp_path, monkeypatch)
    assert not system_trusts(bad, tmp_path, monkeypatch)


def test_a_system_without_authorities_trusts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not system_trusts(None, tmp_path, monkeypatch)
    assert authorities.read_system_authorities() is None
