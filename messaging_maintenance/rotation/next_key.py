"""Creates the next key of a rotation, and its certificate."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, keys
from idlib.algorithms import PrivateKey
from idlib.commands import command
from idlib.errors import KeyFileError, UnusableRecordError, quoted
from idlib.key_places import retire_next_key, write_next_key
from idlib.marks import EXTENSION
from idlib.pem import read_certificates
from idlib.publishing.change import PublishedSet
from idlib.records import TlsaRecord, is_marked, key_of, render
from messaging_maintenance.rotation.device import RotatingDevice, RotationError, present_keys, under_way
from messaging_maintenance.rotation.next_step import rotate_command
from messaging_maintenance.rotation.state import RotationState, Stage, Way

# A reader tries a signature with 3 keys (docs/protocol.md, "Keys in DNS").
_MAX_OTHER_KEYS: Final = 1


class NextKey:
    """The next key of a device.

    Args:
        device: The device.
    """

    def __init__(self, device: RotatingDevice) -> None:
        self._device = device

    def prepare(self, way: Way) -> None:
        """Create the directory of the key files if the key may be lost with it, as with a memory card.

        Args:
            way: How one key follows the other.

        Raises:
            KeyFileError: It cannot be created.
        """
        if way is Way.COMPROMISED:
            keys.make_directory(self._device.settings.crypto_path, self._device.settings.app_uid)

    def create(self, way: Way, replaced: RotationState | None) -> RotationState:
        """Create the key and its self-signed certificate, and return the state of the rotation that begins.

        Args:
            way: How one key follows the other.
            replaced: The state of the rotation that this one takes the place of.

        Raises:
            RotationError: There are too many records of other keys.
            KeyFileError: A file cannot be read or written.
            PublishingError: The records of the device cannot be read.
        """
        begun = self._begun(way, replaced)
        key = keys.generate_private_key(self._device.settings.key_type)
        certificate = certificates.build_self_signed_certificate(
            key,
            self._device.identity.build_x509_name(),
            self._device.identity.build_subject_alt_name(),
            datetime.now(UTC),
            *self._extensions_to_keep(way),
        )
        return self._begin(begun, key, certificate, replaced)

    def create_without_certificate(self, way: Way, replaced: RotationState | None) -> RotationState:
        """Create the key, for which a CA issues the certificate; see `create`.

        Args:
            way: How one key follows the other.
            replaced: The state of the rotation that this one takes the place of.
        """
        begun = self._begun(way, replaced)
        return self._begin(begun, keys.generate_private_key(self._device.settings.key_type), None, replaced)

    def signing_request(self) -> bytes:
        """Return the certificate signing request for the key in PEM form.

        Raises:
            KeyFileError: The key is missing or unusable.
        """
        return certificates.build_request(
            keys.read_private_key(keys.next_key_path(*self._device.place)),
            self._device.identity.build_x509_name(),
            self._device.identity.build_subject_alt_name(),
            *self._device.identity.extensions_to_keep(),
        ).public_bytes(Encoding.PEM)

    def install(self, pem: bytes, state: RotationState) -> RotationState:
        """Install the certificate that a CA has issued for the key, and return the state afterwards.

        Args:
            pem: One or more certificates in PEM form.
            state: How far the rotation has come.

        Raises:
            KeyFileError: No certificate is for the key, or a file cannot be written.
        """
        certificate = self._certificate_in(pem)
        self._device.identity.require_the_mark(certificate)
        record = _record_of(certificate, self._device.settings.tlsa_selector)
        with keys.locked(self._device.settings.crypto_path):
            self._write_next_certificate(certificate)
            state = state.at(Stage.PREPARED, self._device.now(), new=record.to_rdata())
            self._device.file.write(state)
        for concern in certificates.concerns(certificate, self._device.settings.identity_name, datetime.now(UTC)):
            self._device.report(concern)
        return state

    def replaceable(self, way: Way) -> RotationState | None:
        """Return the state of the rotation that is under way, if one that goes this way continues or replaces it.

        Args:
            way: How one key follows the other.

        Raises:
            RotationError: It does neither.
        """
        state = self._device.file.read()
        # What was stolen with the current key is the next one, too.
        if state is None or way is Way.COMPROMISED or self._leaves_room(state):
            return state
        if state.way is not way or state.stage is Stage.WITHDRAWN:
            raise under_way(state)
        return state

    def _leaves_room(self, state: RotationState) -> bool:
        """Return whether the next key was given up, and its private key and others have places for as long as needed.

        Its record may have been in DNS, whatever is there now, so it is kept until the end of the next rotation.
        """
        # After a switch, the old key is among those that leave.
        is_aborted = state.stage is Stage.WITHDRAWN and state.old_key not in {None, *state.leaving}
        # The next rotation adds one key, whether it ends or is aborted.
        return is_aborted and len(state.leaving) < keys.MAX_PREVIOUS_KEYS

    def _begun(self, way: Way, replaced: RotationState | None) -> RotationState:
        """Return the state of a rotation that begins; nothing has changed yet.

        Args:
            way: How one key follows the other.
            replaced: The state of the rotation that this one takes the place of.
        """
        old = self._old_record(way)
        before = self._device.publishing.read()
        if way is Way.OVERLAP:
            _require_few_keys(before, key_of(old.to_rdata()) if old else None)
        return RotationState(
            Stage.REQUESTED,
            way,
            self._device.now(),
            before.ttl if before.rdatas else self._device.publishing.negative_ttl,
            None if old is None else old.to_rdata(),
            None,
            self._leaving_of(way, replaced),
        )

    def _leaving_of(self, way: Way, replaced: RotationState | None) -> tuple[bytes, ...]:
        if way is Way.COMPROMISED:
            return self._leaving(replaced)
        return () if replaced is None else replaced.leaving

    def _leaving(self, replaced: RotationState | None) -> tuple[bytes, ...]:
        """Return the keys that a stolen or lost key leaves behind, also if its certificate is lost."""
        found = () if replaced is None else (*replaced.leaving, *present_keys(replaced.old_key, replaced.new_key))
        with suppress(KeyFileError):
            found = (*found, keys.read_private_key(keys.next_key_path(*self._device.place)).public.der)
        with suppress(KeyFileError):
            found = (*found, keys.read_private_key(keys.key_path(*self._device.place)).public.der)
        return tuple(dict.fromkeys(found))

    def _begin(
        self,
        begun: RotationState,
        key: PrivateKey,
        certificate: x509.Certificate | None,
        replaced: RotationState | None,
    ) -> RotationState:
        """Write the next key, its certificate if there is one, and the state."""
        record = None if certificate is None else _record_of(certificate, self._device.settings.tlsa_selector)
        with keys.locked(self._device.settings.crypto_path):
            if replaced is not None and replaced.stage is not Stage.WITHDRAWN:
                # Its record may be published. At the other stages, a call was interrupted before that.
                retire_next_key(*self._device.place, self._device.settings.app_uid)
            write_next_key(*self._device.place, keys.encode_private_key(key), self._device.settings.app_uid)
            if certificate is not None and record is not None:
                self._write_next_certificate(certificate)
                begun = begun.at(Stage.PREPARED, self._device.now(), new=record.to_rdata())
            self._device.file.write(begun)
        return begun

    def _extensions_to_keep(self, way: Way) -> tuple[x509.ExtensionType, ...]:
        """Return what the certificate takes over from the present one; of a lost one, from what DNS has."""
        kept = self._device.identity.extensions_to_keep()
        if kept or way is not Way.COMPROMISED:
            return kept
        return (EXTENSION,) if any(map(is_marked, self._device.publishing.read().rdatas)) else ()

    def _old_record(self, way: Way) -> TlsaRecord | None:
        """Return the record of the present key; None if the key was lost, and so cannot follow."""
        if way is not Way.COMPROMISED:
            return self._device.identity.tlsa_record(self._device.settings.tlsa_selector)
        try:
            return _record_of(self._device.identity.get_local_cert_obj(), self._device.settings.tlsa_selector)
        except (KeyFileError, UnusableRecordError):
            return None

    def _certificate_in(self, pem: bytes) -> x509.Certificate:
        """Return the certificate of the next key; a file may hold those of CAs as well, whatever their keys."""
        path = keys.next_key_path(*self._device.place)
        key = keys.read_private_key(path)
        found = read_certificates(pem)
        if not found.readable:
            raise keys.no_certificate("the input has", pem)
        for certificate in found.readable:
            if certificates.is_for(key, certificate):
                return certificate
        raise KeyFileError(
            "; ".join([f"the certificate is not for the key {quoted(path)}", *found.broken]),
            f"give the CA the request that {rotate_command('start --csr')} prints",
        )

    def _write_next_certificate(self, certificate: x509.Certificate) -> None:
        keys.replace(
            keys.next_certificate_path(*self._device.place),
            certificate.public_bytes(Encoding.PEM),
            self._device.settings.app_uid,
        )


def _require_few_keys(published: PublishedSet, own: bytes | None) -> None:
    """Check that recipients try both keys of the device: they try those of 3 different keys at most.

    Raises:
        RotationError: There are too many records of other keys.
    """
    others = {key for rdata in published.rdatas if (key := key_of(rdata)) is not None} - {own}
    if len(others) > _MAX_OTHER_KEYS:
        raise RotationError(
            f"the name has records of {len(others)} other keys, so recipients would not try both keys of the device",
            f"remove them with {command('identity publish')} --remove-foreign",
        )


def _record_of(certificate: x509.Certificate, selector: int) -> TlsaRecord:
    try:
        return render(certificate, selector)
    except UnusableRecordError as error:
        raise KeyFileError(
            f"no device would accept the record of this certificate: {error.fact}", error.hint
        ) from error
