"""What is reported if a file is not a certificate or a key in PEM form."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from idlib.pem import Kind, blocks, describe, read_certificates
from testbed.certificate_maker import Authority, der, rsa_key

AUTHORITY = Authority()
ROOT = AUTHORITY.certificate
LEAF = AUTHORITY.issue()
LEAF_PEM = LEAF.public_bytes(Encoding.PEM)
AUTHORITY_PEM = ROOT.public_bytes(Encoding.PEM)
CUT_OFF = AUTHORITY_PEM[:300] + b"\n"
DAMAGED = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(rsa_key(), hashes.SHA256())
KEY_PEM = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
KEY_DER = rsa_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
OPENSSH = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
PUBLIC = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "contents",
    [
        LEAF_PEM + AUTHORITY_PEM,
        (LEAF_PEM + AUTHORITY_PEM).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + LEAF_PEM + AUTHORITY_PEM,
        b"Certificate:\n    Data: 1\n" + LEAF_PEM + b"depth 1\n" + AUTHORITY_PEM + b"---\n",
        KEY_PEM + LEAF_PEM + PUBLIC + AUTHORITY_PEM,
    ],
    ids=["chain", "Windows", "mark", "words", "other blocks"],
)
def test_every_certificate_is_found_whatever_is_around_it(contents: bytes) -> None:
    found = read_certificates(contents)
    assert found.readable == (LEAF, ROOT)
    assert found.broken == ()


@pytest.mark.parametrize(
    ("contents", "broken"),
    [
        (LEAF_PEM + CUT_OFF, f"block 2, at line {len(LEAF_PEM.splitlines()) + 1}, has no END line"),
        (CUT_OFF + LEAF_PEM, "block 1, at line 1, has no END line"),
        (DAMAGED + LEAF_PEM, "block 1, at line 1, is damaged"),
    ],
    ids=["cut off behind", "cut off before", "damaged"],
)
def test_a_broken_block_is_reported_and_the_others_are_read(contents: bytes, broken: str) -> None:
    found = read_certificates(contents)
    assert found.readable == (LEAF,)
    assert found.broken == (broken,)


@pytest.mark.parametrize(
    ("contents", "what", "remedy"),
    [
        (b" \n", "it is empty", "copy"),
        (b"hello", "it has no -----BEGIN line", "both lines"),
        (LEAF_PEM.decode().encode("utf-16"), "it is text in UTF-16", "UTF-8"),
        (LEAF_PEM.decode().encode("utf-16-le"), "it is text in UTF-16", "UTF-8"),
        (LEAF_PEM.replace(b"\n", b"\\n"), "it has the two characters \\n instead of line breaks", "printf '%b'"),
        (der(LEAF), "it is a certificate in DER form", "openssl x509 -inform DER -in FILE"),
        (LEAF_PEM.replace(b" CERT", b" TRUSTED CERT"), "it is an OpenSSL TRUSTED CERTIFICATE", "openssl x509"),
        (pkcs7.serialize_certificates([LEAF], Encoding.PEM), "it is a PKCS #7 file (.p7b)", "openssl pkcs7"),
        (pkcs7.serialize_certificates([LEAF], Encoding.DER), "it is a PKCS #7 file (.p7b)", "-inform DER"),
        (REQUEST.public_bytes(Encoding.PEM), "it is a certificate request", "that the CA returns"),
        (REQUEST.public_bytes(Encoding.DER), "it is a certificate request", "that the CA returns"),
        (KEY_PEM, "it holds a private key", "use the certificate"),
        (KEY_DER, "it is a private key in DER form", "use the certificate"),
        (PUBLIC, "its type is PUBLIC KEY", "use the certificate"),
        (CUT_OFF, "block 1, at line 1, has no END line", "copy the whole block"),
        (DAMAGED, "block 1, at line 1, is a damaged certificate", "copy the whole block"),
        (
            pkcs12.serialize_key_and_certificates(b"x", rsa_key(), None, None, BestAvailableEncryption(b"secret")),
            "it is binary",
            "openssl pkcs12",
        ),
    ],
)
def test_the_content_of_a_file_without_a_certificate_is_described(contents: bytes, what: str, remedy: str) -> None:
    assert read_certificates(contents).readable == ()
    finding = describe(contents, Kind.CERTIFICATE)
    assert finding.what == what
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("contents", "what", "remedy"),
    [
        (OPENSSH, "it is a key in OpenSSH's own format", "ssh-keygen -p -m PEM -f FILE"),
        (KEY_PEM.replace(b"\n", b"\\n"), "it has the two characters \\n instead of line breaks", "printf '%b'"),
        (KEY_DER, "it is a private key in DER form", "openssl pkey -inform DER -in FILE"),
        (KEY_PEM[:300], "block 1, at line 1, has no END line", "copy the whole block"),
        (LEAF_PEM, "it holds a certificate", "use the private key file"),
        (REQUEST.public_bytes(Encoding.PEM), "it is a certificate request", "use the private key file"),
    ],
)
def test_the_content_of_a_file_without_a_private_key_is_described(contents: bytes, what: str, remedy: str) -> None:
    finding = describe(contents, Kind.PRIVATE_KEY)
    assert finding.what == what
    assert remedy in finding.remedy


PIECES = st.sampled_from([LEAF_PEM, CUT_OFF, DAMAGED, KEY_PEM, OPENSSH, der(LEAF), b"\\n", b"-----BEGIN ", b"\xff\xfe"])


@given(st.lists(st.binary(max_size=60) | PIECES).map(b"".join))
def test_any_contents_are_described_and_every_block_has_the_right_line(contents: bytes) -> None:
    for block in blocks(contents):
        assert block.text.startswith(b"-----BEGIN ")
        assert block.text.rstrip(b"\n") in contents
        assert contents.count(b"\n", 0, contents.index(block.text[:-1])) + 1 <= block.line
    read_certificates(contents)
    for kind in Kind:
        finding = describe(contents, kind)
        assert finding.what
        assert finding.remedy
        assert finding.what.isprintable()
