"""Builds an identity's X.509 subject, certificate signing request and self-signed certificate; no I/O."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from idlib.algorithms import PrivateKey
from idlib.errors import ConfigurationError
from idlib.names import IdentityName

LIFETIME: Final = timedelta(days=3653)
CLOCK_SKEW: Final = timedelta(days=1)

# The upper bounds of RFC 5280, appendix A.1.
_MAX_CHARACTERS: Final = MappingProxyType(
    {
        NameOID.COUNTRY_NAME: 2,
        NameOID.STATE_OR_PROVINCE_NAME: 128,
        NameOID.LOCALITY_NAME: 128,
        NameOID.ORGANIZATION_NAME: 64,
        NameOID.COMMON_NAME: 64,
    }
)


def build_subject(name: IdentityName, *, country: str, state: str, locality: str, organization: str) -> x509.Name:
    """Return the subject of the device: country, state, locality, organization, and its name if that fits.

    A common name has at most 64 characters (RFC 5280, appendix A.1). A longer name is left out, because a
    shortened one could be another device's; the subject alternative name always has the whole name.

    Args:
        name: The device.
        country: Two letters.
        state: 1 to 128 characters.
        locality: 1 to 128 characters.
        organization: 1 to 64 characters.

    Raises:
        ConfigurationError: A certificate cannot have one of the parts.
    """
    parts = [
        (NameOID.COUNTRY_NAME, country),
        (NameOID.STATE_OR_PROVINCE_NAME, state),
        (NameOID.LOCALITY_NAME, locality),
        (NameOID.ORGANIZATION_NAME, organization),
    ]
    if len(name.text) <= _MAX_CHARACTERS[NameOID.COMMON_NAME]:
        parts.append((NameOID.COMMON_NAME, name.text))
    refusal = ConfigurationError(
        f"A certificate's subject cannot have the country {country!a}, state {state!a}, locality {locality!a} and"
        f" organization {organization!a}; use two letters for the country, and 1 to 64 characters for the others"
    )
    if not all(1 <= len(text) <= _MAX_CHARACTERS[kind] for kind, text in parts):
        raise refusal
    try:
        subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
        subject.public_bytes()  # finds texts that cannot be encoded
    except ValueError as error:
        raise refusal from error
    return subject


def build_subject_alternative_name(name: IdentityName) -> x509.SubjectAlternativeName:
    """Return the device's whole name as a dNSName, underscores included (RFC 5280, section 4.2.1.6)."""
    return x509.SubjectAlternativeName([x509.DNSName(name.text)])


def build_request(
    key: PrivateKey,
    subject: x509.Name,
    alternative_name: x509.SubjectAlternativeName,
    *further: x509.ExtensionType,
) -> x509.CertificateSigningRequest:
    """Return a certificate signing request (RFC 2986) with the extensions that a device needs.

    Args:
        key: The device's key.
        subject: The device.
        alternative_name: The device's name.
        further: Extensions that are not critical, as for a certificate.
    """
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(alternative_name, critical=False)
        .add_extension(_key_usage(key), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    for extension in further:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key.native, hashes.SHA256())


def build_self_signed_certificate(
    key: PrivateKey,
    subject: x509.Name,
    alternative_name: x509.SubjectAlternativeName,
    now: datetime,
    *further: x509.ExtensionType,
) -> x509.Certificate:
    """Return a self-signed end-entity certificate, valid for ten years (RFC 5280).

    Args:
        key: The device's key.
        subject: The device.
        alternative_name: The device's name.
        now: The certificate is valid from a day earlier, for devices whose clocks are behind.
        further: Extensions that are not critical, such as the mark of epoch keys (`idlib.marks.EXTENSION`).
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public.native)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key), critical=True)
        .add_extension(alternative_name, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public.native), critical=False)
    )
    for extension in further:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key.native, hashes.SHA256())


def is_for(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Return whether a certificate, which may have a key of any kind, is for a private key."""
    try:
        return certificate.public_key() == key.public.native
    except (ValueError, UnsupportedAlgorithm):
        return False


def concerns(certificate: x509.Certificate, name: IdentityName, now: datetime) -> Iterator[str]:
    """Yield a line for each reason why other software may reject a certificate whose TLSA record 3 0 0 is good.

    Args:
        certificate: One for the device's key.
        name: The device.
        now: The time that its dates are compared with.
    """
    if name.text not in _dns_names(certificate):
        yield (
            f"The certificate does not have {name} as a dNSName; a TLSA record 3 0 0 does not need it, but all other"
            " usages do"
        )
    for is_outside, what in (
        (now < certificate.not_valid_before_utc, f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"),
        (now > certificate.not_valid_after_utc, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"),
    ):
        if is_outside:
            yield f"The certificate {what}; a TLSA record 3 0 0 works with it, but no other usage does"


def _dns_names(certificate: x509.Certificate) -> set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return set()
    return {text.lower() for text in extension.value.get_values_for_type(x509.DNSName)}


def _key_usage(key: PrivateKey) -> x509.KeyUsage:
    is_rsa = isinstance(key.native, rsa.RSAPrivateKey)
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=is_rsa,
        data_encipherment=False,
        key_agreement=not is_rsa,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
