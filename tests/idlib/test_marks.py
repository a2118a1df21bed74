"""The mark of epoch keys in a certificate: written, read, damaged, and ignored by software that does not know it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from dane_discovery.dane import DANE
from dane_discovery.pki import PKI

from idlib import certificates, marks
from idlib.algorithms import PrivateKey
from idlib.marks import Mark, mark_of
from idlib.names import IdentityName
from idlib.records import TlsaRecord, judge, render
from tests.idlib.epochs.vectors import PATH, alice

VECTORS = json.loads(PATH.read_text())
NAME = IdentityName("alice._device.example.test")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEYS = {
    "RSA": PrivateKey(rsa.generate_private_key(65537, 2048)),
    "P-256": PrivateKey(ec.generate_private_key(ec.SECP256R1())),
}


def certificate_of(*further: x509.ExtensionType, key: PrivateKey = KEYS["P-256"]) -> x509.Certificate:
    subject = certificates.build_subject(NAME, country="US", state="CA", locality="San Francisco", organization="a")
    alternative_name = certificates.build_subject_alternative_name(NAME)
    return certificates.build_self_signed_certificate(key, subject, alternative_name, NOW, *further)


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def mark_with(value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(marks.OID, value)


@pytest.mark.parametrize("kind", KEYS)
def test_a_certificate_is_marked_only_if_it_is_created_with_the_mark(kind: str) -> None:
    assert mark_of(certificate_of(key=KEYS[kind])) is Mark.UNMARKED
    marked = certificate_of(marks.EXTENSION, key=KEYS[kind])
    assert mark_of(marked) is Mark.MARKED
    assert not marked.extensions.get_extension_for_oid(marks.OID).critical


def test_the_mark_has_the_octets_of_the_protocol() -> None:
    extension = bytes.fromhex("301b 0614 6982def29cc0b2c19a9ecbba838bf9d5cffa8726 0403 020101")
    marked = der_of(certificate_of(marks.EXTENSION))
    assert marked.count(extension) == 1
    assert marks.OID.dotted_string == "2.25.233207977326635908156566472649871360934"
    assert len(extension) == 29


def test_a_certificate_without_any_extension_is_unmarked() -> None:
    subject = x509.Name([])
    builder = x509.CertificateBuilder(subject, subject, KEYS["P-256"].public.native, 1, NOW, NOW)
    assert mark_of(builder.sign(KEYS["P-256"].native, hashes.SHA256())) is Mark.UNMARKED


@pytest.mark.parametrize(
    "value", [b"", b"\2\1\2", b"\2\1\0", b"\2\2\0\1", b"\2\1\1\0", b"\2\1", b"\1\1\xff", bytes(40)]
)
def test_a_mark_with_another_value_needs_newer_software(value: bytes) -> None:
    assert mark_of(certificate_of(mark_with(value))) is Mark.UNSUPPORTED


def test_a_critical_mark_is_a_mark() -> None:
    subject = x509.Name([])
    builder = x509.CertificateBuilder(subject, subject, KEYS["P-256"].public.native, 1, NOW, NOW)
    marked = builder.add_extension(marks.EXTENSION, critical=True).sign(KEYS["P-256"].native, hashes.SHA256())
    assert mark_of(marked) is Mark.MARKED


def altered(certificate: x509.Certificate, old: bytes, new: bytes) -> x509.Certificate:
    der = der_of(certificate)
    assert der.count(old) == 1
    assert len(new) == len(old)
    return x509.load_der_x509_certificate(der.replace(old, new))


def test_two_marks_need_newer_software() -> None:
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.233207977326635908156566472649871360935"), b"\2\1\1")
    last_octets = marks.OID.dotted_string, bytes.fromhex("cffa8726"), bytes.fromhex("cffa8727")
    for first, second in ((marks.EXTENSION, other), (other, marks.EXTENSION)):
        doubled = altered(certificate_of(first, second), last_octets[2], last_octets[1])
        with pytest.raises(x509.DuplicateExtension):
            _ = doubled.extensions
        assert mark_of(doubled) is Mark.UNSUPPORTED


# A SubjectKeyIdentifier (2.5.29.14) whose octet string has another tag, and one that has become a second KeyUsage.
@pytest.mark.parametrize(("old", "new"), [("0603551d0e04160414", "0603551d0e04160514"), ("0603551d0e", "0603551d0f")])
def test_a_damaged_extension_beside_the_mark_does_not_undo_it(old: str, new: str) -> None:
    marked = altered(certificate_of(marks.EXTENSION), bytes.fromhex(old), bytes.fromhex(new))
    with pytest.raises((ValueError, x509.DuplicateExtension)):
        _ = marked.extensions
    assert mark_of(marked) is Mark.UNSUPPORTED
    unmarked = altered(certificate_of(), bytes.fromhex(old), bytes.fromhex(new))
    assert mark_of(unmarked) is Mark.UNMARKED


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("further", [(marks.EXTENSION,), (mark_with(b"\2\1\2"),)])
def test_the_record_of_a_marked_certificate_is_used_as_before(
    kind: str, further: tuple[x509.ExtensionType, ...]
) -> None:
    certificate = certificate_of(*further, key=KEYS[kind])
    record = TlsaRecord.from_rdata(render(certificate, 0).to_rdata())
    assert judge(record, NAME, NOW, None).public_key.native == KEYS[kind].public.native
    dates_and_name = TlsaRecord(4, 0, 0, record.association)
    assert judge(dates_and_name, NAME, NOW, None).public_key.native == KEYS[kind].public.native
    assert list(certificates.concerns(certificate, NAME, NOW)) == []


def read_by_dane_discovery(certificate: x509.Certificate) -> dict[str, Any]:
    names = ("certificate_usage", "selector", "matching_type", "certificate_association")
    record = dict(zip(names, (3, 0, 0, der_of(certificate).hex()), strict=True))
    DANE.validate_tlsa_fields(record)
    read: dict[str, Any] = DANE.process_tlsa(record)
    return read


@pytest.mark.parametrize("kind", KEYS)
def test_dane_discovery_reads_a_marked_certificate_as_before(kind: str) -> None:
    certificate = certificate_of(marks.EXTENSION, key=KEYS[kind])
    read = read_by_dane_discovery(certificate)
    assert read["public_key_object"] == KEYS[kind].public.native
    assert read["certificate_object"] == certificate
    assert PKI.verify_dnsname(NAME.text, der_of(certificate))
    before = read_by_dane_discovery(certificate_of(key=KEYS[kind]))["certificate_metadata"]
    assert before.keys() == read["certificate_metadata"].keys()
    assert before["extensions"].keys() <= read["certificate_metadata"]["extensions"].keys()


@pytest.mark.parametrize(
    ("title", "mark", "kind"),
    [
        ("marked, RSA", Mark.MARKED, "rsa2048"),
        ("marked, P-256", Mark.MARKED, "p256"),
        ("value 2", Mark.UNSUPPORTED, "p256"),
    ],
)
def test_the_vectors_are_read(title: str, mark: Mark, kind: str) -> None:
    certificate = x509.load_der_x509_certificate(bytes.fromhex(VECTORS["certificates"][title]))
    assert mark_of(certificate) is mark
    assert certificate.public_key() == alice(kind).public.native
    certificate.verify_directly_issued_by(certificate)
