"""The receiver's own keys: awaited until the record that others encrypt by is in DNS, then watched for new ones."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.bootstrap import Bootstrap
from idlib.errors import IdlibError, KeyFileError, UnusableRecordError, quoted
from idlib.keys import certificate_path, key_path, previous_key_paths, read_certificate, read_private_key
from idlib.names import IdentityName
from idlib.records import WHOLE_CERTIFICATE, render
from idlib.settings import Settings

_LOG = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.25


def wait_for_own_key(settings: Settings, stopping: threading.Event) -> PrivateKey | None:
    """Return our private key once its record is in DNS; until then say every 10 s what is missing.

    Args:
        settings: What the environment says.
        stopping: Set when the receiver is told to stop; the result is None then.

    Raises:
        ConfigurationError: The settings cannot be used together, or the trust anchors cannot be read.
    """
    result: Future[PrivateKey | None] = Future()

    def look() -> None:
        try:
            result.set_result(_look_for_own_key(settings, stopping))
        except IdlibError as error:
            result.set_exception(error)

    # Beside the main thread, which must hear at once that it is to stop, however long DNS keeps silent.
    threading.Thread(target=look, name="Own-Identity", daemon=True).start()
    while not stopping.is_set():
        try:
            return result.result(_POLL_SECONDS)
        except TimeoutError:
            continue
    return None


def _look_for_own_key(settings: Settings, stopping: threading.Event) -> PrivateKey | None:
    bootstrap = Bootstrap.from_settings(settings)
    path = key_path(settings.crypto_path, settings.identity_name)
    while not stopping.is_set():
        try:
            if bootstrap.public_identity_is_valid():
                _LOG.info("Reading %s", quoted(path))
                return read_private_key(path)
        except KeyFileError as error:
            _LOG.error("%s", error)
        _LOG.error("Public identity is not valid!")
        _LOG.error("Ensure that your identity is provisioned at %s", settings.identity_name)
        _tell_record_to_publish(settings)
        stopping.wait(LOOK_AGAIN_SECONDS)
    return None


def _tell_record_to_publish(settings: Settings) -> None:
    try:
        certificate = read_certificate(certificate_path(settings.crypto_path, settings.identity_name))
        record = render(certificate, WHOLE_CERTIFICATE)
    except (KeyFileError, UnusableRecordError) as error:
        _LOG.error("%s", error)
    else:
        _LOG.error("Publish this record: %s. IN TLSA %s", settings.identity_name, record)


class OwnKeys:
    """Our private keys, the present one and those that it has replaced, as the files hold them.

    Args:
        crypto_path: The directory of the key files.
        name: Our own name.
        present: The present key, read already.
    """

    def __init__(self, crypto_path: Path, name: IdentityName, present: PrivateKey) -> None:
        self._paths = (key_path(crypto_path, name), *previous_key_paths(crypto_path, name))
        self._states = self._look()
        self._present = present
        self._keys = (present, *self._read_previous())

    @property
    def keys(self) -> tuple[PrivateKey, ...]:
        """The keys that open what is sealed to us, the present one first; at most four."""
        return self._keys

    @property
    def present(self) -> PrivateKey:
        """The key that others are to encrypt to."""
        return self._present

    def refresh(self) -> None:
        """Read the files if one of them was replaced, added or removed; a present key that cannot be read is kept."""
        states = self._look()
        if states == self._states:
            return
        # Looked at before they are read: what changes in between is read once more.
        self._states = states
        path = self._paths[0]
        try:
            self._present = read_private_key(path)
            _LOG.info("Reading %s", quoted(path))
        except KeyFileError as error:
            _LOG.error("The key read before stays in use: %s", error)
        self._keys = (self._present, *self._read_previous())

    def _look(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(map(_state_of, self._paths))

    def _read_previous(self) -> Iterator[PrivateKey]:
        for path, state in zip(self._paths[1:], self._states[1:], strict=True):
            if state is None:
                continue
            try:
                key = read_private_key(path)
            except KeyFileError as error:
                _LOG.warning("A previous key is left out: %s", error)
            else:
                _LOG.info("Reading %s", quoted(path))
                yield key


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced or written; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
