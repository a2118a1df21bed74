"""Reads certificates from PEM files (RFC 7468), and explains what is wrong with files of certificates and keys."""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.utils import CryptographyDeprecationWarning

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9][A-Z0-9 #.]{0,40})-----")
_MARKS_OF_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff", b"-\0-\0-\0", b"\0-\0-\0-")
_LITERAL_LINE_BREAK: Final = b"\\n"
# The object identifier of PKCS #7 signed data (RFC 2315, section 14), as DER writes it.
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
_HEADER_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Block:
    """What is between a BEGIN line and its END line.

    Args:
        number: Its number in the file, from 1.
        line: The number of its first line, from 1.
        label: Its type in the BEGIN line.
        text: The whole block, with the BEGIN line and, unless it is cut off, the END line.
        is_cut_off: Whether there is no END line.
    """

    number: int
    line: int
    label: str
    text: bytes
    is_cut_off: bool

    def __str__(self) -> str:
        return f"block {self.number}, at line {self.line},"


class Kind(StrEnum):
    """What a file should contain."""

    CERTIFICATE = "certificate"
    PRIVATE_KEY = "private key"


_LABELS: Final = {
    Kind.CERTIFICATE: frozenset({"CERTIFICATE", "X509 CERTIFICATE"}),
    Kind.PRIVATE_KEY: frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"}),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file contains instead of a certificate or key.

    Args:
        what: The problem, as a clause.
        remedy: What the user can do if the file should contain this kind.
        kind: The kind that the file contains; None if unknown.
    """

    what: str
    remedy: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates of a file.

    Args:
        readable: Those that can be read, in the file's order.
        broken: A phrase for each certificate block that cannot be read.
    """

    readable: tuple[x509.Certificate, ...]
    broken: tuple[str, ...]


_CERTIFICATE_REQUEST: Final = Finding(
    "it is a certificate request",
    "give the request to the CA, and use the certificate that the CA returns",
    Kind.CERTIFICATE,
)
_SIGNED_DATA_FILE: Final = Finding(
    "it is a PKCS #7 file (.p7b)",
    "convert it with openssl pkcs7 -print_certs -in FILE (add -inform DER if it is binary)",
    Kind.CERTIFICATE,
)
_OF_LABELS: Final = {
    "TRUSTED CERTIFICATE": Finding(
        "it is an OpenSSL TRUSTED CERTIFICATE", "convert it with openssl x509 -in FILE", Kind.CERTIFICATE
    ),
    "CERTIFICATE REQUEST": _CERTIFICATE_REQUEST,
    "NEW CERTIFICATE REQUEST": _CERTIFICATE_REQUEST,
    "PKCS7": _SIGNED_DATA_FILE,
    "CMS": _SIGNED_DATA_FILE,
    "PKCS #7 SIGNED DATA": _SIGNED_DATA_FILE,
    "OPENSSH PRIVATE KEY": Finding(
        "it is a key in OpenSSH's own format", "convert it in place with ssh-keygen -p -m PEM -f FILE", Kind.PRIVATE_KEY
    ),
}


def blocks(contents: bytes) -> Iterator[Block]:
    """Yield the PEM blocks of a file; text around them, indentation and a byte order mark are ignored."""
    begins = list(_BEGIN.finditer(contents))
    line, counted = 1, 0
    for number, begin in enumerate(begins, 1):
        limit = begins[number].start() if number < len(begins) else len(contents)
        line += contents.count(b"\n", counted, begin.start())
        counted = begin.start()
        end_line = b"-----END " + begin[1] + b"-----"
        end = contents.find(end_line, begin.end(), limit)
        stop = limit if end < 0 else end + len(end_line)
        yield Block(number, line, begin[1].decode(), contents[begin.start() : stop] + b"\n", end < 0)


def read_certificates(contents: bytes) -> Certificates:
    """Return all readable certificates of a file, even if another block is broken."""
    readable, broken = [], []
    for block in blocks(contents):
        if block.label not in _LABELS[Kind.CERTIFICATE]:
            continue
        if block.is_cut_off:
            broken.append(f"{block} has no END line")
            continue
        try:
            with warnings.catch_warnings():
                # Certificates of old authorities may break today's rules, and still be readable.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                readable.append(x509.load_pem_x509_certificate(block.text))
        except (ValueError, x509.InvalidVersion):
            broken.append(f"{block} is damaged")
    return Certificates(tuple(readable), tuple(broken))


def describe(contents: bytes, wanted: Kind) -> Finding:
    """Return what is wrong with a file that has no readable certificate or key, with a remedy.

    Args:
        contents: The whole file.
        wanted: What it should contain.
    """
    finding = _find(contents, wanted)
    if finding.kind in {None, wanted}:
        return finding
    what = f"it holds a {finding.kind}" if finding.what.startswith("block") else finding.what
    return replace(finding, what=what, remedy=f"use the {wanted} file")


def _find(contents: bytes, wanted: Kind) -> Finding:
    if not contents.strip():
        return Finding("it is empty", "copy its contents again")
    if any(mark in contents[:_HEADER_BYTES] for mark in _MARKS_OF_UTF_16):
        return Finding("it is text in UTF-16", "save it as plain text, in ASCII or UTF-8")
    if contents[:1] == b"\x30":
        return _find_der(contents)
    found = list(blocks(contents))
    if found and _LITERAL_LINE_BREAK in contents and contents.count(b"\n") <= len(found):
        return Finding(
            "it has the two characters \\n instead of line breaks", "convert them to line breaks with printf '%b' TEXT"
        )
    if not found:
        return Finding(
            "it has no -----BEGIN line",
            "copy everything from the -----BEGIN line to the -----END line, including both lines",
        )
    return _find_block(next((block for block in found if block.label in _LABELS[wanted]), found[0]))


def _find_block(block: Block) -> Finding:
    if block.is_cut_off:
        return Finding(f"{block} has no END line", "copy the whole block, including its last line")
    if block.label in _OF_LABELS:
        return _OF_LABELS[block.label]
    for kind, labels in _LABELS.items():
        if block.label in labels:
            return Finding(f"{block} is a damaged {kind}", "copy the whole block again", kind)
    return Finding(f"its type is {block.label}", "use the certificate or private key file")


def _find_der(contents: bytes) -> Finding:
    if _SIGNED_DATA in contents[:_HEADER_BYTES]:
        return _SIGNED_DATA_FILE
    if _is_read_by(x509.load_der_x509_certificate, contents):
        return Finding(
            "it is a certificate in DER form", "convert it with openssl x509 -inform DER -in FILE", Kind.CERTIFICATE
        )
    if _is_read_by(x509.load_der_x509_csr, contents):
        return _CERTIFICATE_REQUEST
    if _is_read_by(_load_der_key, contents):
        return Finding(
            "it is a private key in DER form", "convert it with openssl pkey -inform DER -in FILE", Kind.PRIVATE_KEY
        )
    return Finding("it is binary", "convert a .p12 or .pfx file with openssl pkcs12 -nodes -in FILE")


def _load_der_key(contents: bytes) -> object:
    return load_der_private_key(contents, None, unsafe_skip_rsa_key_validation=True)


def _is_read_by(load: Callable[[bytes], object], contents: bytes) -> bool:
    try:
        load(contents)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False
    return True
