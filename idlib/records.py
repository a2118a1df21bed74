"""TLSA records (RFC 6698, RFC 7671): parses, ranks, checks and renders them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, PublicKeyAlgorithmOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from idlib.algorithms import NativePublicKey, PublicKey
from idlib.commands import how_to_publish
from idlib.errors import MalformedRecordError, UnsuitableKeyError, UnusableRecordError
from idlib.marks import Mark, mark_of
from idlib.names import IdentityName

PKIX_EE: Final = 1
WHOLE_CERTIFICATE: Final = 0
PUBLIC_KEY_INFO: Final = 1

_PREFERENCE: Final = (b"\3\1\0", b"\3\0\0", b"\4\0\0", b"\1\0\0")
_PARAMETER_BYTES: Final = 3
_RENEW: Final = "publish a record with a certificate that is valid"
_NAME_IT: Final = "the certificate's SubjectAlternativeName must have the identity name as a dNSName, not a wildcard"
_CLIENT_USAGES: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


@dataclass(frozen=True, slots=True, order=True)
class TlsaRecord:
    """One TLSA record, as in DNS (RFC 6698, section 2).

    Args:
        usage: Certificate usage, 0 to 255.
        selector: Which part of the certificate it has, 0 to 255.
        matching_type: Whether it has that part or a digest of it, 0 to 255.
        association: The certificate, its SubjectPublicKeyInfo, or a digest; at least one byte.

    Raises:
        MalformedRecordError: A value is out of its range.
    """

    usage: int
    selector: int
    matching_type: int
    association: bytes = field(repr=False)

    def __post_init__(self) -> None:
        parameters = (self.usage, self.selector, self.matching_type)
        if not all(0 <= parameter <= 255 for parameter in parameters):
            raise MalformedRecordError(f"a TLSA record has a parameter outside 0 to 255: {parameters}")
        if not self.association:
            raise MalformedRecordError("a TLSA record has no certificate association data")

    @classmethod
    def from_rdata(cls, rdata: bytes) -> "TlsaRecord":
        """Return the record in a resource record's data.

        Raises:
            MalformedRecordError: The data is too short.
        """
        if len(rdata) <= _PARAMETER_BYTES:
            raise MalformedRecordError(f"a TLSA record of {len(rdata)} bytes is too short")
        return cls(rdata[0], rdata[1], rdata[2], rdata[_PARAMETER_BYTES:])

    def to_rdata(self) -> bytes:
        """Return the resource record's data."""
        return bytes((self.usage, self.selector, self.matching_type)) + self.association

    @property
    def parameters(self) -> str:
        """Usage, selector and matching type, as in `3 0 0`."""
        return f"{self.usage} {self.selector} {self.matching_type}"

    def __str__(self) -> str:
        return f"{self.parameters} {self.association.hex()}"


@dataclass(frozen=True, slots=True)
class UsableRecord:
    """A TLSA record whose key may be used for the name that it was checked for.

    Args:
        parameters: Its usage, selector and matching type, as in `3 0 0`.
        public_key: The device's key, prepared for use.
        mark: What its certificate says about the device's epoch keys; a bare key says that there are none.
    """

    parameters: str
    public_key: PublicKey
    mark: Mark = Mark.UNMARKED


def judge(record: TlsaRecord, name: IdentityName, now: datetime, authorities: Store | None) -> UsableRecord:
    """Return the record and its key, if the key may be used (docs/protocol.md, "Keys in DNS").

    Args:
        record: A record that DNSSEC has authenticated.
        name: The identity that was looked up; not the target of an alias.
        now: The time, with a time zone, that a certificate's dates are compared with.
        authorities: The trusted certification authorities of PKIX-EE records; None if none are configured.

    Raises:
        UnusableRecordError: It has no key that we may use; the fact is the reason.
    """
    return _judge(record, lambda: _native_key(record, name, now, authorities))


def _judge(record: TlsaRecord, native_key: Callable[[], NativePublicKey]) -> UsableRecord:
    try:
        return UsableRecord(record.parameters, PublicKey(native_key()), _mark_in(record))
    except UnsuitableKeyError as error:
        raise UnusableRecordError(error.fact, error.hint) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise UnusableRecordError(
            "its certificate or key cannot be read", "publish exactly one DER structure"
        ) from error


def rank(rdatas: Iterable[bytes]) -> list[bytes]:
    """Sort the data of records by a sender's preference: 3 1 0, 3 0 0, 4 0 0, 1 0 0, then the rest.

    Ties are decided by the bytes. Nothing is parsed, so this is cheap even for many records.
    """
    return sorted(rdatas, key=lambda rdata: (_preference(rdata), rdata))


def render(certificate: x509.Certificate, selector: int) -> TlsaRecord:
    """Return the DANE-EE record that publishes a certificate, `3 0 0`, or only its public key, `3 1 0`.

    The record has passed the check that other devices apply to it.

    Args:
        certificate: The device's own certificate.
        selector: 0 for the certificate, 1 for its SubjectPublicKeyInfo.

    Raises:
        MalformedRecordError: There is no such selector.
        UnusableRecordError: No device would accept the record; the fact is the reason.
    """
    if selector == WHOLE_CERTIFICATE:
        association = certificate.public_bytes(Encoding.DER)
    elif selector == PUBLIC_KEY_INFO:
        association = _public_key_info(certificate)
    else:
        raise MalformedRecordError(f"there is no TLSA selector {selector}", "use 0 (certificate) or 1 (public key)")
    record = TlsaRecord(3, selector, 0, association)
    # A DANE-EE record is accepted whatever its certificate's name and dates (RFC 7671, section 5.1).
    _judge(record, lambda: _dane_ee_key(record))
    return record


def key_of(rdata: bytes) -> bytes | None:
    """Return the key in a record of any usage as a SubjectPublicKeyInfo; None if it has none, as a digest.

    Args:
        rdata: The resource record's data, which need not be usable.
    """
    try:
        record = TlsaRecord.from_rdata(rdata)
        if record.matching_type:
            return None
        if record.selector == PUBLIC_KEY_INFO:
            load_der_public_key(record.association)
            return record.association
        return _public_key_info(x509.load_der_x509_certificate(record.association))
    except (
        MalformedRecordError,
        UnusableRecordError,
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
    ):
        return None


def is_marked(rdata: bytes) -> bool:
    """Return whether a record holds a certificate that says that its device has epoch keys.

    Args:
        rdata: The record's data in wire form, usable or not.
    """
    try:
        return _mark_in(TlsaRecord.from_rdata(rdata)) is not Mark.UNMARKED
    except (MalformedRecordError, ValueError, TypeError, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
        return False


def _mark_in(record: TlsaRecord) -> Mark:
    if record.selector == PUBLIC_KEY_INFO:
        return Mark.UNMARKED
    return mark_of(x509.load_der_x509_certificate(record.association))


def _public_key_info(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableRecordError("its key cannot be read", "use an RSA or EC P-256 key") from error


def _preference(rdata: bytes) -> int:
    parameters = rdata[:_PARAMETER_BYTES]
    return _PREFERENCE.index(parameters) if parameters in _PREFERENCE else len(_PREFERENCE)


def _native_key(record: TlsaRecord, name: IdentityName, now: datetime, authorities: Store | None) -> NativePublicKey:
    match record.usage, record.selector, record.matching_type:
        case (3, 0 | 1, 0):
            return _dane_ee_key(record)
        case (4, 0, 0):
            certificate = x509.load_der_x509_certificate(record.association)
            _check_dates(certificate, now)
            _check_name(certificate, name)
            return _certified_key(certificate)
        case (1, 0, 0):
            certificate = x509.load_der_x509_certificate(record.association)
            _check_dates(certificate, now)
            _check_name(certificate, name)
            _check_extended_key_usage(certificate)
            _check_path(certificate, now, authorities)
            return _certified_key(certificate)
        case (0 | 2, _, _):
            raise UnusableRecordError("it names a certification authority, not the device's key", how_to_publish())
        case (_, _, 1 | 2):
            raise UnusableRecordError("it is a digest, not a key", how_to_publish())
    raise UnusableRecordError("its usage, selector and matching type are not supported", how_to_publish())


def _dane_ee_key(record: TlsaRecord) -> NativePublicKey:
    if record.selector == PUBLIC_KEY_INFO:
        return _bare_key(record.association)
    return _certified_key(x509.load_der_x509_certificate(record.association))


def _certified_key(certificate: x509.Certificate) -> NativePublicKey:
    if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        raise UnusableRecordError("its key is restricted to RSASSA-PSS", "use an RSA key without that restriction")
    return certificate.public_key()  # type: ignore[return-value]  # PublicKey checks the type


def _bare_key(data: bytes) -> NativePublicKey:
    key = load_der_public_key(data)
    if isinstance(key, rsa.RSAPublicKey) and key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != data:
        # The library also reads a bare RSAPublicKey and a key restricted to RSASSA-PSS.
        raise UnusableRecordError("its key is not a DER SubjectPublicKeyInfo of plain RSA", how_to_publish())
    return key  # type: ignore[return-value]  # PublicKey checks the type


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise UnusableRecordError(f"its certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")
    if now > certificate.not_valid_after_utc:
        raise UnusableRecordError(f"its certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}", _RENEW)


def _check_name(certificate: x509.Certificate, name: IdentityName) -> None:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise UnusableRecordError(
            "its certificate does not have exactly one SubjectAlternativeName", _NAME_IT
        ) from error
    if name.text not in (entry.lower() for entry in alternatives.get_values_for_type(x509.DNSName)):
        raise UnusableRecordError(f"its certificate's SubjectAlternativeName does not have {name}", _NAME_IT)


def _check_extended_key_usage(certificate: x509.Certificate) -> None:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if _CLIENT_USAGES.isdisjoint(usages):
        raise UnusableRecordError(
            "its certificate is not for client authentication", "leave EKU out, or add clientAuth"
        )


def _check_path(certificate: x509.Certificate, now: datetime, authorities: Store | None) -> None:
    if authorities is None:
        raise UnusableRecordError(
            "no certification authority is configured to verify its certificate", how_to_publish()
        )
    issuers = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _require_authority)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _require_certificate_signing)
    )
    # The server verifier rejects names with underscores, and the default policy rejects an EKU of any; both are
    # checked above.
    policy = PolicyBuilder().store(authorities).time(now)
    policy = policy.extension_policies(ca_policy=issuers, ee_policy=ExtensionPolicy.permit_all())
    try:
        policy.build_client_verifier().verify(certificate, [])
    except VerificationError as error:
        raise UnusableRecordError(
            "its certificate was not issued by a trusted certification authority", how_to_publish()
        ) from error


def _require_authority(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("the issuer is not a certification authority")


def _require_certificate_signing(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the issuer may not sign certificates")
