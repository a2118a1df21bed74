from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from idlib import certificates
from idlib.algorithms import PrivateKey
from idlib.errors import ConfigurationError
from idlib.names import IdentityName

NAME = IdentityName("alice._device.example.test")
OTHER_NAME = IdentityName("bob._device.example.test")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
P256_KEY = PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def subject_of(name: IdentityName) -> x509.Name:
    return certificates.build_subject(name, country="US", state="CA", locality="San Francisco", organization="example")


def certificate_of(name: IdentityName, key: PrivateKey = P256_KEY, now: datetime = NOW) -> x509.Certificate:
    alternative_name = certificates.build_subject_alternative_name(name)
    return certificates.build_self_signed_certificate(key, subject_of(name), alternative_name, now)


def test_the_subject_has_the_published_order() -> None:
    assert [(attribute.oid, attribute.value) for attribute in subject_of(NAME)] == [
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
        (NameOID.LOCALITY_NAME, "San Francisco"),
        (NameOID.ORGANIZATION_NAME, "example"),
        (NameOID.COMMON_NAME, NAME.text),
    ]


@pytest.mark.parametrize(("length", "has_common_name"), [(64, True), (65, False), (253, False)])
def test_a_name_too_long_for_a_common_name_is_only_in_the_alternative_name(
    length: int, *, has_common_name: bool
) -> None:
    text = ("a" * 60 + ".") * 4 + "_b." + "c" * 6
    name = IdentityName(text[-length:])
    assert len(name.text) == length
    certificate = certificate_of(name)
    common_names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    assert common_names == ([name.text] if has_common_name else [])
    alternative_name = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative_name.get_values_for_type(x509.DNSName) == [name.text]


@pytest.mark.parametrize(
    "part", [{"country": "USA"}, {"state": ""}, {"locality": "\udcff"}, {"organization": "a" * 65}]
)
def test_an_invalid_subject_is_reported(part: dict[str, str]) -> None:
    parts = {"country": "US", "state": "CA", "locality": "San Francisco", "organization": "example", **part}
    with pytest.raises(ConfigurationError, match="two letters for the country") as caught:
        certificates.build_subject(NAME, **parts)
    assert str(caught.value).isascii()


def test_a_subject_may_use_any_script() -> None:
    subject = certificates.build_subject(NAME, country="BR", state="São Paulo", locality="София", organization="例え")
    assert [attribute.value for attribute in subject][1:4] == ["São Paulo", "София", "例え"]


def test_a_self_signed_certificate_is_for_an_end_entity_and_ten_years() -> None:
    certificate = certificate_of(NAME)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == datetime(2040, 1, 2, tzinfo=UTC)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign


def test_the_key_usage_matches_the_type_of_the_key() -> None:
    rsa_key = PrivateKey(rsa.generate_private_key(65537, 2048))
    usages = [
        certificate_of(NAME, key).extensions.get_extension_for_class(x509.KeyUsage).value for key in (rsa_key, P256_KEY)
    ]
    assert [(usage.key_encipherment, usage.key_agreement) for usage in usages] == [(True, False), (False, True)]


def test_two_certificates_have_different_serial_numbers() -> None:
    assert certificate_of(NAME).serial_number != certificate_of(NAME).serial_number


@pytest.mark.parametrize("year", [1970, 2049, 2106])
def test_a_certificate_can_be_created_whatever_the_clock_shows(year: int) -> None:
    certificate = certificate_of(NAME, now=datetime(year, 1, 1, tzinfo=UTC))
    assert certificate.not_valid_after_utc.year == year + 10


def test_a_request_asks_for_the_name_and_for_client_authentication() -> None:
    request = certificates.build_request(P256_KEY, subject_of(NAME), certificates.build_subject_alternative_name(NAME))
    assert request.is_signature_valid
    assert request.public_key() == P256_KEY.public.native
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME.text]
    usage = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_good_certificate_causes_no_warning() -> None:
    assert list(certificates.concerns(certificate_of(NAME), NAME, NOW)) == []


@pytest.mark.parametrize(
    ("name", "now", "concern"),
    [
        (OTHER_NAME, NOW, "does not have alice._device.example.test"),
        (NAME, NOW - timedelta(days=2), "not valid before 2029-12-31"),
        (NAME, NOW + timedelta(days=4000), "expired on 2040-01-02"),
    ],
)
def test_a_name_or_date_that_other_software_may_reject_causes_a_warning(
    name: IdentityName, now: datetime, concern: str
) -> None:
    (warning,) = certificates.concerns(certificate_of(name), NAME, now)
    assert concern in warning
    assert "3 0 0" in warning


def test_a_certificate_without_an_alternative_name_causes_a_warning() -> None:
    subject = subject_of(NAME)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(P256_KEY.public.native)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .sign(P256_KEY.native, hashes.SHA256())
    )
    assert len(list(certificates.concerns(certificate, NAME, NOW))) == 1
