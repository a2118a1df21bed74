import logging
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import dns.rdatatype
import dns.zone
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import idlib
from idlib import certificates, keys
from idlib.algorithms import PrivateKey, PublicKey
from idlib.bootstrap import Bootstrap
from idlib.discovery import Discovery, Found, PublishedKey
from idlib.errors import (
    ConfigurationError,
    DiscoveryError,
    ExitStatus,
    KeyFileError,
    MalformedNameError,
    NoRecordError,
    UnknownAssetError,
)
from idlib.names import IdentityName
from idlib.settings import KeyType, load

NAME = "alice._device.example.test"
KEY_TYPE = KeyType.RSA2048


@pytest.fixture(scope="module")
def one_key() -> PrivateKey:
    return keys.generate_private_key(KEY_TYPE)


@pytest.fixture(scope="module")
def other_key() -> PrivateKey:
    return keys.generate_private_key(KEY_TYPE)


@pytest.fixture
def made_keys(monkeypatch: pytest.MonkeyPatch, one_key: PrivateKey, other_key: PrivateKey) -> list[PrivateKey]:
    """Return these keys for the next new keys, in this order, so that no test waits for key generation."""
    upcoming = [one_key, other_key]
    monkeypatch.setattr(keys, "generate_private_key", lambda _: upcoming.pop(0))
    return upcoming


@pytest.fixture
def identity(tmp_path: Path, made_keys: list[PrivateKey]) -> Bootstrap:
    return Bootstrap(NAME, str(tmp_path / "identity"), 1001)


def files_of(identity: Bootstrap) -> dict[str, bytes]:
    directory = Path(identity.get_path_for_pki_asset("key")).parent
    return {path.name.removeprefix(NAME): path.read_bytes() for path in directory.iterdir()}


def foreign_certificate(name: str = NAME, key: PrivateKey | None = None) -> x509.Certificate:
    identity_name = IdentityName(name)
    return certificates.build_self_signed_certificate(
        key or PrivateKey(ec.generate_private_key(ec.SECP256R1())),
        x509.Name([]),
        certificates.build_subject_alternative_name(identity_name),
        datetime.now(UTC),
    )


@dataclass
class FakeDiscovery:
    """Finds the keys in `first`, and those in `again` when the look-up is repeated."""

    first: list[PublicKey]
    again: list[PublicKey] = field(default_factory=list)
    error: DiscoveryError | None = None

    def find(self, name: IdentityName) -> Found:
        if self.error:
            raise self.error
        return self._found(name, self.first)

    def find_again(self, name: IdentityName) -> Found:
        return self._found(name, self.again)

    @staticmethod
    def _found(name: IdentityName, public_keys: list[PublicKey]) -> Found:
        return Found(name, tuple(PublishedKey("3 0 0", key.der) for key in public_keys), (), "by a test")


def is_valid(identity: Bootstrap, discovery: FakeDiscovery) -> bool:
    return identity.public_identity_is_valid(cast("Discovery", discovery))


def test_the_published_name_is_in_the_package() -> None:
    assert idlib.Bootstrap is Bootstrap


def test_the_published_methods_create_key_request_and_certificate(identity: Bootstrap) -> None:
    identity.generate_private_key()
    identity.generate_csr()
    identity.generate_selfsigned_certificate()
    assert sorted(files_of(identity)) == [".crt.pem", ".csr.pem", ".key.pem"]
    assert identity.get_pki_asset("key").startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    certificate = identity.get_local_cert_obj()
    request = x509.load_pem_x509_csr(identity.get_pki_asset("csr"))
    assert request.public_key() == certificate.public_key() == identity.get_private_key_obj().public_key()
    assert request.subject == certificate.subject == identity.build_x509_name()
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == (
        identity.build_subject_alt_name()
    )


def test_only_the_owner_has_access_to_files_and_directory(identity: Bootstrap) -> None:
    identity.create_selfsigned_identity()
    directory = Path(identity.get_path_for_pki_asset("key")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_the_subject_has_the_given_parts(tmp_path: Path) -> None:
    identity = Bootstrap(
        NAME, str(tmp_path), "1001", state="Bayern", country="DE", locality="München", organization="Beispiel"
    )
    assert identity.build_x509_name().rfc4514_string() == f"CN={NAME},O=Beispiel,L=München,ST=Bayern,C=DE"


def test_the_settings_give_the_same_identity(tmp_path: Path) -> None:
    read = load({"IDENTITY_NAME": NAME, "CRYPTO_PATH": str(tmp_path), "LOCALITY": "Lagos", "COUNTRY": "NG"})
    identity = Bootstrap.from_settings(read)
    assert identity.get_path_for_pki_asset("cert") == str(tmp_path / f"{NAME}.crt.pem")
    assert identity.build_x509_name().rfc4514_string() == f"CN={NAME},O=example,L=Lagos,ST=CA,C=NG"


def test_an_unknown_keyword_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="organisation"):
        Bootstrap(NAME, str(tmp_path), 1001, organisation="example")  # type: ignore[call-arg]


@pytest.mark.parametrize("app_userid", ["root", "", -1, 2**32 - 1])
def test_a_user_id_must_be_a_number(tmp_path: Path, app_userid: int | str) -> None:
    with pytest.raises(ConfigurationError, match="not a user ID"):
        Bootstrap(NAME, str(tmp_path), app_userid)


def test_an_invalid_subject_is_reported_before_a_key_is_created(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="USA"):
        Bootstrap(NAME, str(tmp_path), 1001, country="USA")


def test_an_invalid_name_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(MalformedNameError):
        Bootstrap("../evil", str(tmp_path), 1001)


def test_only_the_replacing_methods_replace_an_existing_key(identity: Bootstrap) -> None:
    identity.create_selfsigned_identity()
    before = files_of(identity)
    for attempt in (identity.generate_private_key, identity.create_selfsigned_identity):
        with pytest.raises(KeyFileError, match="--force") as caught:
            attempt()
        assert caught.value.exit_status is ExitStatus.KEY
    with pytest.raises(KeyFileError, match="--force"):
        identity.write_pki_asset(b"another key", "key")
    assert files_of(identity) == before


def test_creating_an_identity_does_not_replace_an_unusable_key(identity: Bootstrap) -> None:
    identity.write_pki_asset(b"a key protected by a password, perhaps", "key")
    with pytest.raises(KeyFileError, match="--force"):
        identity.generate_private_key()
    identity.replace_private_key()
    assert files_of(identity)[".key.previous.pem"] == b"a key protected by a password, perhaps"


def test_replacing_keeps_the_old_key_and_creates_a_matching_pair(identity: Bootstrap) -> None:
    identity.create_selfsigned_identity()
    old = files_of(identity)
    identity.replace_selfsigned_identity()
    new = files_of(identity)
    assert new[".key.previous.pem"] == old[".key.pem"]
    assert new[".key.pem"] != old[".key.pem"]
    assert identity.cert_matches_private_key(identity.get_local_cert_obj())


def test_replacing_creates_an_identity_if_there_is_none(identity: Bootstrap) -> None:
    identity.replace_selfsigned_identity()
    assert sorted(files_of(identity)) == [".crt.pem", ".key.pem"]


def test_the_record_contains_the_certificate(identity: Bootstrap) -> None:
    identity.create_selfsigned_identity()
    record = identity.render_tlsa_record()
    usage, selector, matching_type, association = record.split(" ")
    assert (usage, selector, matching_type) == ("3", "0", "0")
    assert bytes.fromhex(association) == identity.get_local_cert_obj().public_bytes(Encoding.DER)
    zone = dns.zone.from_text(f"{NAME}. 300 IN TLSA {record}\n", origin="example.test.", check_origin=False)
    (rdata,) = zone.find_rdataset("alice._device", dns.rdatatype.TLSA)
    assert rdata.cert.hex() == association


def test_no_record_is_rendered_if_key_and_certificate_do_not_match(identity: Bootstrap) -> None:
    identity.create_selfsigned_identity()
    identity.replace_private_key()
    with pytest.raises(
        KeyFileError, match=r"not for the key .*--force.*install the certificate with dane-messenger identity install"
    ):
        identity.render_tlsa_record()


def test_no_record_is_rendered_without_key_or_certificate(identity: Bootstrap) -> None:
    with pytest.raises(KeyFileError, match=r"there is no '.*key\.pem'; create an identity"):
        identity.render_tlsa_record()
    identity.generate_private_key()
    with pytest.raises(KeyFileError, match=r"there is no '.*crt\.pem'; install"):
        identity.render_tlsa_record()


def test_a_certificate_of_another_key_does_not_match(identity: Bootstrap, one_key: PrivateKey) -> None:
    identity.generate_private_key()
    assert not identity.cert_matches_private_key(foreign_certificate())
    assert identity.cert_matches_private_key(foreign_certificate(key=one_key))


def test_the_leaf_of_a_chain_is_installed_whatever_its_position(
    identity: Bootstrap, one_key: PrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    identity.generate_private_key()
    chain = [foreign_certificate("ca.example.test"), foreign_certificate(key=one_key)]
    identity.install_certificate(b"\r\n".join(c.public_bytes(Encoding.PEM) for c in chain))
    assert identity.get_local_cert_obj() == chain[1]
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_certificate_with_another_name_is_installed_with_a_warning(
    identity: Bootstrap, one_key: PrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    identity.generate_private_key()
    identity.install_certificate(foreign_certificate("bob.example.test", one_key).public_bytes(Encoding.PEM))
    assert "does not have alice._device.example.test" in caplog.text


def test_anything_but_a_certificate_for_the_key_is_rejected_and_changes_nothing(identity: Bootstrap) -> None:
    identity.create_selfsigned_identity()
    before = files_of(identity)
    with pytest.raises(KeyFileError, match="not for the key"):
        identity.install_certificate(foreign_certificate().public_bytes(Encoding.PEM))
    for pem in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(KeyFileError, match="no certificate in PEM form"):
            identity.install_certificate(pem)
    assert files_of(identity) == before


def test_no_certificate_is_installed_without_a_key(identity: Bootstrap, tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    with pytest.raises(KeyFileError, match="there is no"):
        identity.install_certificate(foreign_certificate().public_bytes(Encoding.PEM))
    assert files_of(identity) == {}


@pytest.mark.parametrize("asset_type", ["", "pem", "KEY", "../key"])
def test_an_unknown_type_of_file_is_reported(identity: Bootstrap, asset_type: str) -> None:
    with pytest.raises(UnknownAssetError, match="key, cert or csr"):
        identity.get_path_for_pki_asset(asset_type)
    with pytest.raises(ValueError, match="key, cert or csr"):
        identity.get_pki_asset(asset_type)
    with pytest.raises(ValueError, match="key, cert or csr"):
        identity.write_pki_asset(b"", asset_type)


def test_reading_and_writing_are_logged_and_not_printed(
    identity: Bootstrap, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "idlib")
    identity.write_pki_asset(b"a request", "csr")
    assert identity.get_pki_asset("csr") == b"a request"
    path = identity.get_path_for_pki_asset("csr")
    assert caplog.messages == [f"Wrote '{path}'", f"Reading '{path}'"]
    assert capsys.readouterr().out == ""


def test_the_public_identity_is_valid_if_a_record_has_its_key(
    identity: Bootstrap, one_key: PrivateKey, other_key: PrivateKey
) -> None:
    identity.generate_private_key()
    assert is_valid(identity, FakeDiscovery([one_key.public]))
    assert is_valid(identity, FakeDiscovery([other_key.public, one_key.public]))
    assert is_valid(identity, FakeDiscovery([other_key.public], again=[one_key.public]))


def test_the_reason_for_an_invalid_public_identity_is_logged(
    identity: Bootstrap, other_key: PrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    identity.generate_private_key()
    assert not is_valid(identity, FakeDiscovery([other_key.public], again=[other_key.public]))
    assert "is for the key" in caplog.text
    assert not is_valid(identity, FakeDiscovery([], error=NoRecordError(f"{NAME} has no TLSA record")))
    assert f"{NAME} has no TLSA record" in caplog.text


def test_the_environment_configures_how_dns_is_asked(
    identity: Bootstrap, one_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.generate_private_key()
    policies = []

    def from_settings(read: object) -> FakeDiscovery:
        policies.append(getattr(read, "dnssec", None))
        return FakeDiscovery([one_key.public])

    monkeypatch.setattr(Discovery, "from_settings", from_settings)
    monkeypatch.setenv("DNSSEC", "off")
    monkeypatch.delenv("IDENTITY_NAME", raising=False)
    assert identity.public_identity_is_valid()
    assert policies == ["off"]
