"""The published class `Bootstrap`: creates, reads and writes a device's identity; uses keys, records and discovery."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, keys, settings
from idlib.algorithms import NativePrivateKey, PrivateKey
from idlib.commands import command
from idlib.errors import (
    ConfigurationError,
    DiscoveryError,
    KeyFileError,
    UnknownAssetError,
    UnusableRecordError,
    quoted,
)
from idlib.marks import EXTENSION, Mark, mark_of
from idlib.names import IdentityName
from idlib.pem import Certificates, read_certificates
from idlib.records import PUBLIC_KEY_INFO, WHOLE_CERTIFICATE, TlsaRecord, render
from idlib.settings import KeyType, Settings

if TYPE_CHECKING:
    from idlib.discovery import Discovery

_USER_NUMBERS: Final = range(2**32 - 1)

_LOGGER: Final = logging.getLogger(__name__)


class Bootstrap:
    """The identity of one device: its private key, certificate and certificate signing request, as files.

    Args:
        identity_name: The device's DNS name.
        identity_path: The directory of the files; created with the first key.
        app_userid: The numeric ID of the user who owns the files, if this process is allowed to change the owner.
        state: For the subject of certificates and requests, as are the next three.
        country: Two letters.
        locality: For example, a city.
        organization: At most 64 characters.
        key_type: The type and size of new private keys.

    Raises:
        MalformedNameError: `identity_name` is not a device name.
        ConfigurationError: `app_userid` is not a user ID, or a certificate cannot have the subject.
    """

    def __init__(
        self,
        identity_name: str,
        identity_path: str,
        app_userid: int | str,
        *,
        state: str = "CA",
        country: str = "US",
        locality: str = "San Francisco",
        organization: str = "example",
        key_type: KeyType = KeyType.RSA2048,
    ) -> None:
        self.identity_name = IdentityName(identity_name)
        self._directory = Path(identity_path)
        try:
            self._uid = int(app_userid)
        except ValueError as error:
            raise _no_user_number(app_userid) from error
        if self._uid not in _USER_NUMBERS:
            raise _no_user_number(app_userid)
        self._subject = {
            "country": country,
            "state": state,
            "locality": locality,
            "organization": organization,
        }
        self._key_type = key_type
        self._paths = {
            "key": keys.key_path(self._directory, self.identity_name),
            "cert": keys.certificate_path(self._directory, self.identity_name),
            "csr": keys.request_path(self._directory, self.identity_name),
        }
        self.build_x509_name()  # reports an invalid subject before a key is created

    @classmethod
    def from_settings(cls, read: Settings) -> Self:
        """Return the identity that the settings describe."""
        return cls(
            read.identity_name.text,
            str(read.crypto_path),
            read.app_uid,
            key_type=read.key_type,
            **read.certificate_subject,
        )

    def has_private_key(self) -> bool:
        """Return whether there is a private key, usable or not."""
        return os.path.lexists(self._paths["key"])

    def generate_private_key(self) -> None:
        """Create the private key; to replace an existing key, use `replace_private_key`.

        Raises:
            KeyFileError: The key already exists or cannot be written.
        """
        key = self._new_key_unless_one_exists()
        with keys.locked(self._directory):
            keys.write_new(self._paths["key"], keys.encode_private_key(key), self._uid)
        self._log_written("key")

    def replace_private_key(self) -> None:
        """Create a new private key; an existing key is kept as NAME.key.previous.pem.

        The certificate and the request of the old key are kept, and do not match the new key.

        Raises:
            KeyFileError: A file cannot be read or written, or a rotation is under way.
        """
        key = self._new_key()
        with keys.locked(self._directory):
            keys.require_no_rotation(self._directory, self.identity_name)
            keys.replace_key(self._directory, self.identity_name, keys.encode_private_key(key), self._uid)
        self._log_written("key")

    def generate_csr(self) -> None:
        """Create the certificate signing request (RFC 2986) for the private key; an existing one is replaced.

        Raises:
            KeyFileError: The private key is missing or unusable, or the request cannot be written.
        """
        with keys.locked(self._directory):
            request = certificates.build_request(
                self._read_private_key(),
                self.build_x509_name(),
                self.build_subject_alt_name(),
                *self.extensions_to_keep(),
            )
            keys.replace(self._paths["csr"], request.public_bytes(Encoding.PEM), self._uid)
        self._log_written("csr")

    def generate_selfsigned_certificate(self) -> None:
        """Create a self-signed certificate for the private key, valid for ten years; an existing one is replaced.

        Raises:
            KeyFileError: The private key is missing or unusable, or the certificate cannot be written.
        """
        self._issue_again(*self.extensions_to_keep())

    def is_marked(self) -> bool:
        """Return whether the certificate says that the device has epoch keys; False if there is no usable one."""
        try:
            return mark_of(self.get_local_cert_obj()) is not Mark.UNMARKED
        except KeyFileError:
            return False

    def mark_certificate(self) -> None:
        """Replace the certificate with a self-signed one of the same key that says that the device has epoch keys.

        Raises:
            KeyFileError: The private key is missing or unusable, or the certificate cannot be written.
        """
        self._issue_again(EXTENSION)

    def unmark_certificate(self) -> None:
        """Replace the certificate with a self-signed one of the same key that says nothing of epoch keys.

        Raises:
            KeyFileError: The private key is missing or unusable, or the certificate cannot be written.
        """
        self._issue_again()

    def extensions_to_keep(self) -> tuple[x509.ExtensionType, ...]:
        """Return what the device's next certificate takes over from the present one: the mark of epoch keys.

        A certificate without it would tell senders that they may encrypt to the identity key again.
        """
        return (EXTENSION,) if self.is_marked() else ()

    def create_selfsigned_identity(self) -> None:
        """Create a private key and its self-signed certificate; an existing key is never replaced.

        Raises:
            KeyFileError: There is already a key, or a file cannot be written; no file has changed.
        """
        key = self._new_key_unless_one_exists()
        with keys.locked(self._directory):
            keys.write_new(
                self._paths["key"],
                keys.encode_private_key(key),
                self._uid,
                {self._paths["cert"]: self._self_signed(key, *self.extensions_to_keep())},
            )
        self._log_written("key", "cert")

    def replace_selfsigned_identity(self) -> None:
        """Create a private key and its self-signed certificate; existing ones are replaced.

        The old key is kept as NAME.key.previous.pem, so that messages sealed to it can still be opened.

        Raises:
            KeyFileError: A file cannot be read or written, or a rotation is under way; the key and the certificate have
                not changed.
        """
        key = self._new_key()
        with keys.locked(self._directory):
            keys.require_no_rotation(self._directory, self.identity_name)
            keys.replace_key(
                self._directory,
                self.identity_name,
                keys.encode_private_key(key),
                self._uid,
                {self._paths["cert"]: self._self_signed(key, *self.extensions_to_keep())},
            )
        self._log_written("key", "cert")

    def install_certificate(self, pem: bytes) -> None:
        """Install a certificate that a CA has issued for the private key; an existing one is replaced.

        Names or dates that other software may reject are logged as a warning.

        Args:
            pem: One or more certificates in PEM form, in any order. The one for the private key is installed; damaged
                others are skipped.

        Raises:
            KeyFileError: No certificate is for the private key, no device would accept its TLSA record, it lacks the
                mark that the present one has, the key is missing or unusable, or the file cannot be written.
        """
        found = read_certificates(pem)
        if not found.readable:
            raise keys.no_certificate("the input has", pem)
        with keys.locked(self._directory):
            certificate = self._for_our_key(found)
            self.require_the_mark(certificate)
            keys.replace(self._paths["cert"], certificate.public_bytes(Encoding.PEM), self._uid)
        for broken in found.broken:
            _LOGGER.warning("Damaged certificate skipped: %s", broken)
        self._log_written("cert")
        for concern in certificates.concerns(certificate, self.identity_name, datetime.now(UTC)):
            _LOGGER.warning("%s", concern)

    def require_the_mark(self, certificate: x509.Certificate) -> None:
        """Check that a CA's certificate has the mark of epoch keys if the present one has it.

        Args:
            certificate: The one that is to take the place of the present one.

        Raises:
            KeyFileError: It does not have it.
        """
        if self.is_marked() and mark_of(certificate) is Mark.UNMARKED:
            raise KeyFileError(
                "the certificate does not have the mark of epoch keys that the present one has",
                "have the CA copy every extension of the request, or run"
                f" {command('identity epoch off')} and wait until that has ended",
            )

    def build_x509_name(self) -> x509.Name:
        """Return the subject: country, state, locality, organization, and the name if it has at most 64 characters.

        Raises:
            ConfigurationError: A certificate cannot have one of the parts.
        """
        return certificates.build_subject(self.identity_name, **self._subject)

    def build_subject_alt_name(self) -> x509.SubjectAlternativeName:
        """Return the subject alternative name: the device's whole name as a dNSName, underscores included."""
        return certificates.build_subject_alternative_name(self.identity_name)

    def public_identity_is_valid(self, discovery: "Discovery | None" = None) -> bool:
        """Return whether DNS has a record of this device's key that other devices accept; if not, log why.

        Args:
            discovery: Asks DNS; by default one that the environment variables of `idlib.settings` configure.

        Raises:
            ConfigurationError: An environment variable has a bad value.
            KeyFileError: The private key is missing or unusable.
        """
        # Imported late, because most users of this class do not ask DNS.
        from idlib.discovery import find_key

        _LOGGER.info("Reading %s", quoted(self._paths["key"]))
        own = self._read_private_key().public.der
        finder = discovery or self._discovery_of_environment()
        try:
            if own in find_key(finder, self.identity_name, own).accepted:
                return True
        except DiscoveryError as error:
            _LOGGER.warning("%s", error)
            return False
        _LOGGER.warning("No TLSA record of %s is for the key %s", self.identity_name, quoted(self._paths["key"]))
        return False

    def get_private_key_obj(self) -> NativePrivateKey:
        """Return the private key, as an object of the cryptography package.

        Raises:
            KeyFileError: It is missing or unusable.
        """
        return self._read_private_key().native

    def get_local_cert_obj(self) -> x509.Certificate:
        """Return the certificate, as an object of the cryptography package.

        Raises:
            KeyFileError: It is missing or unusable.
        """
        return keys.parse_certificate(self.get_pki_asset("cert"), self._paths["cert"])

    def get_pki_asset(self, asset_type: str) -> bytes:
        """Return the bytes of a file.

        Args:
            asset_type: One of key, cert, csr.

        Raises:
            KeyFileError: It cannot be read.
            UnknownAssetError: There is no such type.
        """
        path = Path(self.get_path_for_pki_asset(asset_type))
        _LOGGER.debug("Reading %s", quoted(path))
        return keys.read_file(path)

    def write_pki_asset(self, asset: bytes, asset_type: str) -> None:
        """Write a file unchanged; an existing certificate or request is replaced, an existing key never.

        Args:
            asset: In PEM form; it is not checked.
            asset_type: One of key, cert, csr.

        Raises:
            KeyFileError: It cannot be written, or there is already a key.
            UnknownAssetError: There is no such type.
        """
        path = Path(self.get_path_for_pki_asset(asset_type))
        keys.make_directory(self._directory, self._uid)
        write = keys.write_new if asset_type == "key" else keys.replace
        with keys.locked(self._directory):
            write(path, asset, self._uid)
        self._log_written(asset_type)

    def get_path_for_pki_asset(self, asset_type: str) -> str:
        """Return the path of a file.

        Args:
            asset_type: One of key, cert, csr.

        Raises:
            UnknownAssetError: There is no such type.
        """
        try:
            return str(self._paths[asset_type])
        except KeyError as error:
            raise UnknownAssetError(f"{asset_type!a} is not a type of identity file", "use key, cert or csr") from error

    def cert_matches_private_key(self, cert_obj: x509.Certificate) -> bool:
        """Return whether a certificate is for the private key.

        Raises:
            KeyFileError: The private key is missing or unusable.
        """
        return certificates.is_for(self._read_private_key(), cert_obj)

    def render_tlsa_record(self) -> str:
        """Return the TLSA record to publish at the device's name: `3 0 0 HEX` (RFC 6698, section 2.2).

        Raises:
            KeyFileError: The key or certificate is missing or unusable, they do not match, or no device would accept
                the record.
        """
        return str(self.tlsa_record(WHOLE_CERTIFICATE))

    def render_public_key_tlsa_record(self) -> str:
        """Return the TLSA record of only the public key: `3 1 0 HEX`. It is smaller, but dane-jwe-jws cannot read it.

        Raises:
            KeyFileError: The key or certificate is missing or unusable, or they do not match.
        """
        return str(self.tlsa_record(PUBLIC_KEY_INFO))

    def tlsa_record(self, selector: int) -> TlsaRecord:
        """Return the TLSA record to publish at the device's name, as a value.

        Args:
            selector: 0 for the whole certificate, 1 for its public key.

        Raises:
            KeyFileError: The key or certificate is missing or unusable, they do not match, or no device would accept
                the record.
        """
        return self._checked_record(self._own_certificate(), selector)

    def _checked_record(self, certificate: x509.Certificate, selector: int) -> TlsaRecord:
        try:
            return render(certificate, selector)
        except UnusableRecordError as error:
            raise KeyFileError(
                f"no device would accept the TLSA record of this certificate: {error.fact}",
                error.hint or f"create a new key with {command('identity create')} --force",
            ) from error

    def _for_our_key(self, found: Certificates) -> x509.Certificate:
        key = self._read_private_key()
        certificate = next((candidate for candidate in found.readable if certificates.is_for(key, candidate)), None)
        if certificate is not None:
            self._checked_record(certificate, WHOLE_CERTIFICATE)
            return certificate
        raise KeyFileError(
            "; ".join([f"the certificate is not for the key {quoted(self._paths['key'])}", *found.broken]),
            f"give the CA the request {quoted(self._paths['csr'])}, which {command('identity csr')} creates",
        )

    def _own_certificate(self) -> x509.Certificate:
        key, certificate = self._read_private_key(), self.get_local_cert_obj()
        if not certificates.is_for(key, certificate):
            raise KeyFileError(
                f"the certificate {quoted(self._paths['cert'])} is not for the key {quoted(self._paths['key'])}",
                f"create a new key and certificate with {command('identity create')} --force, or have a CA sign the"
                f" request that {command('identity csr')} prints and install the certificate with"
                f" {command('identity install')}",
            )
        return certificate

    def _new_key_unless_one_exists(self) -> PrivateKey:
        # write_new() checks this again; this check saves the time to generate a key.
        if self.has_private_key():
            raise keys.refusal_to_overwrite(self._paths["key"])
        return self._new_key()

    def _new_key(self) -> PrivateKey:
        keys.make_directory(self._directory, self._uid)
        return keys.generate_private_key(self._key_type)

    def _issue_again(self, *further: x509.ExtensionType) -> None:
        with keys.locked(self._directory):
            keys.replace(self._paths["cert"], self._self_signed(self._read_private_key(), *further), self._uid)
        self._log_written("cert")

    def _self_signed(self, key: PrivateKey, *further: x509.ExtensionType) -> bytes:
        return certificates.build_self_signed_certificate(
            key, self.build_x509_name(), self.build_subject_alt_name(), datetime.now(UTC), *further
        ).public_bytes(Encoding.PEM)

    def _read_private_key(self) -> PrivateKey:
        return keys.parse_private_key(self.get_pki_asset("key"), self._paths["key"])

    def _discovery_of_environment(self) -> "Discovery":
        from idlib.discovery import Discovery

        environment = {**os.environ, "IDENTITY_NAME": self.identity_name.text}
        return Discovery.from_settings(settings.load(environment, settings.DISCOVERY_READS))

    def _log_written(self, *asset_types: str) -> None:
        for asset_type in asset_types:
            path = self._paths[asset_type]
            _LOGGER.info("Wrote %s", quoted(path))
            if asset_type == "key" and keys.is_open_to_others(path):
                _LOGGER.warning(
                    "All users of this system can read the private key %s: its file system has no permissions",
                    quoted(path),
                )


def _no_user_number(text: int | str) -> ConfigurationError:
    return ConfigurationError(f"{text!a} is not a user ID; use a number such as 1001")
