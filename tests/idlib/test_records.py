import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Store
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import MalformedRecordError, UnusableRecordError
from idlib.names import IdentityName
from idlib.records import TlsaRecord, UsableRecord, judge, key_of, rank, render
from testbed.certificate_maker import NAME, NOW, Authority, der, ec_key, rsa_key

AUTHORITY = Authority()
STORE = Store([AUTHORITY.certificate])
DEVICE = IdentityName(NAME)
CERTIFICATE = AUTHORITY.issue()
SPKI = ec_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
RSA_SPKI = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def judged(record: TlsaRecord, authorities: Store | None = STORE) -> UsableRecord:
    return judge(record, DEVICE, NOW, authorities)


def why_not(record: TlsaRecord, authorities: Store | None = STORE) -> str:
    with pytest.raises(UnusableRecordError) as caught:
        judged(record, authorities)
    return caught.value.fact


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_malformed(rdata: bytes) -> None:
    try:
        record = TlsaRecord.from_rdata(rdata)
    except MalformedRecordError:
        assert len(rdata) < 4
    else:
        assert record.to_rdata() == rdata


@pytest.mark.parametrize("parameters", [(256, 0, 0), (3, -1, 0), (3, 0, 1000)])
def test_a_parameter_outside_0_to_255_is_malformed(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(MalformedRecordError, match="outside 0 to 255"):
        TlsaRecord(*parameters, b"x")


def test_a_record_is_shown_as_in_a_zone_file() -> None:
    assert str(TlsaRecord(3, 0, 0, b"\xab\x01")) == "3 0 0 ab01"


@pytest.mark.parametrize("usage", [1, 3, 4])
def test_a_whole_certificate_gives_its_key(usage: int) -> None:
    usable = judged(TlsaRecord(usage, 0, 0, der(CERTIFICATE)))
    assert usable.public_key.native.public_numbers() == ec_key().public_key().public_numbers()


@pytest.mark.parametrize("octets", [SPKI, RSA_SPKI], ids=["EC", "RSA"])
def test_a_public_key_alone_is_usable(octets: bytes) -> None:
    native = judged(TlsaRecord(3, 1, 0, octets)).public_key.native
    assert native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == octets


@pytest.mark.parametrize("usage", [1, 4])
def test_only_dane_ee_accepts_a_public_key_alone(usage: int) -> None:
    assert why_not(TlsaRecord(usage, 1, 0, SPKI)) == "its usage, selector and matching type are not supported"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ((0, 0, 0), "certification authority"),
        ((2, 0, 0), "certification authority"),
        ((2, 1, 1), "certification authority"),
        ((3, 0, 1), "digest"),
        ((3, 1, 2), "digest"),
        ((1, 0, 1), "digest"),
        ((3, 2, 0), "are not supported"),
        ((3, 0, 3), "are not supported"),
        ((5, 0, 0), "are not supported"),
        ((255, 255, 255), "are not supported"),
    ],
)
def test_records_without_the_devices_key_are_unusable(parameters: tuple[int, int, int], reason: str) -> None:
    assert reason in why_not(TlsaRecord(*parameters, der(CERTIFICATE)))


@pytest.mark.parametrize("change", [lambda octets: octets + b"\0", lambda octets: octets[:-1], lambda _: b"0"])
@pytest.mark.parametrize(
    ("selector", "octets"), [(0, der(CERTIFICATE)), (1, SPKI), (1, RSA_SPKI)], ids=["certificate", "EC", "RSA"]
)
def test_anything_but_exactly_one_structure_is_unusable(selector: int, octets: bytes, change: Any) -> None:
    assert why_not(TlsaRecord(3, selector, 0, change(octets)))


def test_a_public_key_alone_must_be_a_subject_public_key_info() -> None:
    pkcs1 = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert "not a DER SubjectPublicKeyInfo" in why_not(TlsaRecord(3, 1, 0, pkcs1))


def test_a_key_restricted_to_pss_is_unusable() -> None:
    plain, restricted = bytes.fromhex("06092a864886f70d0101010500"), bytes.fromhex("06092a864886f70d01010a0500")
    assert plain in RSA_SPKI
    assert why_not(TlsaRecord(3, 1, 0, RSA_SPKI.replace(plain, restricted)))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (rsa_key(1024).public_key(), "1024 bits"),
        (ec.generate_private_key(ec.SECP384R1()).public_key(), "secp384r1"),
        (ed25519.Ed25519PrivateKey.generate().public_key(), "Ed25519PublicKey"),
    ],
)
def test_keys_that_the_profile_does_not_allow_are_unusable(key: Any, reason: str) -> None:
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert reason in why_not(TlsaRecord(3, 1, 0, octets))


@pytest.mark.parametrize("days", [1, -3])
def test_dates_matter_only_for_pkix_usages(days: int) -> None:
    octets = der(AUTHORITY.issue(since=NOW + timedelta(days=days)))
    judged(TlsaRecord(3, 0, 0, octets))
    for usage in (1, 4):
        assert "valid before" in (reason := why_not(TlsaRecord(usage, 0, 0, octets))) or "expired" in reason


@pytest.mark.parametrize(
    "alternatives",
    [None, [], ["*._device.example.test"], ["bob._device.example.test"], [f"{NAME}.example"], [f"x{NAME}"]],
)
def test_a_name_must_be_in_the_alternative_names_only_for_pkix_usages(alternatives: list[str] | None) -> None:
    octets = der(AUTHORITY.issue(alternatives, common_name=NAME))
    judged(TlsaRecord(3, 0, 0, octets))
    for usage in (1, 4):
        assert "SubjectAlternativeName" in why_not(TlsaRecord(usage, 0, 0, octets))


def test_several_alternative_names_are_compared_without_case() -> None:
    certificate = AUTHORITY.issue(["other.example", NAME.upper()])
    for usage in (1, 4):
        judged(TlsaRecord(usage, 0, 0, der(certificate)))


@pytest.mark.parametrize(
    ("usages", "is_usable"),
    [
        ([ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH], False),
        ([ExtendedKeyUsageOID.CODE_SIGNING], False),
    ],
)
def test_extended_key_usage_matters_only_for_pkix_ee(usages: list[x509.ObjectIdentifier], is_usable: bool) -> None:  # noqa: FBT001
    octets = der(AUTHORITY.issue(extensions=[x509.ExtendedKeyUsage(usages)]))
    judged(TlsaRecord(4, 0, 0, octets))
    if is_usable:
        judged(TlsaRecord(1, 0, 0, octets))
    else:
        assert "client authentication" in why_not(TlsaRecord(1, 0, 0, octets))


def test_pkix_ee_needs_a_configured_authority() -> None:
    record = TlsaRecord(1, 0, 0, der(CERTIFICATE))
    assert "no certification authority is configured" in why_not(record, None)
    assert "not issued by a trusted certification authority" in why_not(record, Store([Authority().certificate]))
    judged(TlsaRecord(4, 0, 0, der(CERTIFICATE)), None)


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        (x509.BasicConstraints(ca=False, path_length=None),),
        (
            x509.BasicConstraints(ca=True, path_length=None),
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
        ),
    ],
)
def test_an_issuer_that_may_not_sign_certificates_is_not_trusted(extensions: tuple[x509.ExtensionType, ...]) -> None:
    authority = Authority(extensions)
    record = TlsaRecord(1, 0, 0, der(authority.issue()))
    assert "not issued by a trusted certification authority" in why_not(record, Store([authority.certificate]))


@given(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2), st.binary(min_size=1, max_size=200))
def test_arbitrary_bytes_are_a_record_or_unusable(usage: int, selector: int, matching: int, octets: bytes) -> None:
    with pytest.raises(UnusableRecordError):
        judged(TlsaRecord(usage, selector, matching, octets))


@given(st.sampled_from([(1, 0), (3, 0), (3, 1), (4, 0)]), st.data())
def test_changed_bytes_are_a_record_or_unusable(kind: tuple[int, int], data: st.DataObject) -> None:
    octets = bytearray(SPKI if kind[1] else der(CERTIFICATE))
    for position in data.draw(st.lists(st.integers(0, len(octets) - 1), min_size=1, max_size=4)):
        octets[position] = data.draw(st.integers(0, 255))
    try:
        judged(TlsaRecord(*kind, 0, bytes(octets)))
    except UnusableRecordError as error:
        assert error.fact


def test_records_are_ranked_by_preference_then_by_bytes_with_unusable_ones_last() -> None:
    ranked = [b"\3\1\0x", b"\3\0\0x", b"\3\0\0y", b"\4\0\0x", b"\1\0\0x", b"", b"\0", b"\2\0\0x", b"\3\1\1x"]
    assert rank(reversed(ranked)) == ranked


@given(st.lists(st.binary(max_size=8)))
def test_the_order_of_an_answer_makes_no_difference(rdatas: list[bytes]) -> None:
    assert rank(rdatas) == rank(sorted(rdatas)) == rank(reversed(rdatas))
    assert sorted(rank(rdatas)) == sorted(rdatas)


@pytest.mark.parametrize("selector", [0, 1])
def test_what_is_rendered_is_usable(selector: int) -> None:
    usable = judged(render(CERTIFICATE, selector))
    assert usable.parameters == f"3 {selector} 0"
    assert usable.public_key.native == CERTIFICATE.public_key()


def test_an_unknown_selector_is_rejected() -> None:
    with pytest.raises(MalformedRecordError):
        render(CERTIFICATE, 2)


def test_a_certificate_of_an_unknown_version_is_unusable() -> None:
    octets = der(CERTIFICATE)
    version_3 = base64.b16decode("A003020102")
    assert why_not(TlsaRecord(3, 0, 0, octets.replace(version_3, base64.b16decode("A003020107"))))


@pytest.mark.parametrize("serial_number", ["020100", "0201FF"])
def test_a_serial_number_that_is_not_positive_is_accepted(serial_number: str) -> None:
    """Certificates with the number 0 exist; the library still reads them, with a warning."""
    octets = der(CERTIFICATE)
    beginning = base64.b16decode("A003020102")
    changed = octets.replace(beginning + base64.b16decode("020101"), beginning + base64.b16decode(serial_number))
    assert changed != octets
    assert judged(TlsaRecord(3, 0, 0, changed)).public_key.native == CERTIFICATE.public_key()


def _certificate_of_a_restricted_key() -> x509.Certificate:
    """Return a certificate whose SubjectPublicKeyInfo restricts the key to RSASSA-PSS, as openssl creates it."""
    plain = bytes.fromhex("300d06092a864886f70d0101010500")
    restricted = bytes.fromhex("300b06092a864886f70d01010a")
    certificate = der(AUTHORITY.issue(key=rsa_key()))
    position = certificate.index(plain)
    # The SubjectPublicKeyInfo and the structures around it become two bytes shorter; no one checks the signature.
    parts = [certificate[:position] + restricted + certificate[position + len(plain) :]]
    for start in _sequences_around(certificate, position):
        octets = bytearray(parts[-1])
        length = int.from_bytes(octets[start + 2 : start + 4], "big") - 2
        octets[start + 2 : start + 4] = length.to_bytes(2, "big")
        parts.append(bytes(octets))
    return x509.load_der_x509_certificate(parts[-1])


def _sequences_around(certificate: bytes, position: int) -> tuple[int, ...]:
    # Certificate, TBSCertificate, SubjectPublicKeyInfo, each with a length of two bytes.
    return 0, 4, position - 4


@pytest.mark.parametrize("selector", [0, 1])
def test_a_record_that_no_device_would_accept_is_not_rendered(selector: int) -> None:
    certificate = AUTHORITY.issue(key=rsa_key(1024))
    with pytest.raises(UnusableRecordError, match="1024 bits"):
        render(certificate, selector)


def test_a_key_restricted_to_pss_gives_no_record_of_its_certificate() -> None:
    with pytest.raises(UnusableRecordError, match="restricted to RSASSA-PSS"):
        render(_certificate_of_a_restricted_key(), 0)


@given(
    selector=st.sampled_from([0, 1]), certificate=st.sampled_from([AUTHORITY.issue(), AUTHORITY.issue(key=rsa_key())])
)
def test_what_is_rendered_is_accepted(selector: int, certificate: x509.Certificate) -> None:
    record = render(certificate, selector)
    assert judged(record).parameters == record.parameters


@pytest.mark.parametrize("usage", range(5))
def test_the_key_in_a_record_of_any_usage_is_found(usage: int) -> None:
    assert key_of(TlsaRecord(usage, 0, 0, der(CERTIFICATE)).to_rdata()) == SPKI
    assert key_of(TlsaRecord(usage, 1, 0, SPKI).to_rdata()) == SPKI
    assert key_of(TlsaRecord(usage, 1, 0, RSA_SPKI).to_rdata()) == RSA_SPKI


@pytest.mark.parametrize(
    "record",
    [
        TlsaRecord(3, 1, 1, bytes(32)),
        TlsaRecord(3, 0, 2, bytes(64)),
        TlsaRecord(3, 0, 0, SPKI),
        TlsaRecord(3, 1, 0, der(CERTIFICATE)),
        TlsaRecord(3, 1, 0, b"x"),
    ],
)
def test_a_digest_and_what_is_malformed_have_no_key(record: TlsaRecord) -> None:
    assert key_of(record.to_rdata()) is None


@given(st.binary(max_size=80))
def test_any_bytes_have_no_key(rdata: bytes) -> None:
    assert key_of(rdata) is None


@given(st.integers(min_value=0, max_value=len(der(CERTIFICATE)) - 1), st.integers(min_value=1, max_value=255))
def test_a_damaged_certificate_has_a_key_or_none(position: int, difference: int) -> None:
    damaged = bytearray(der(CERTIFICATE))
    damaged[position] ^= difference
    key = key_of(bytes((3, 0, 0)) + damaged)
    assert key is None or isinstance(key, bytes)
