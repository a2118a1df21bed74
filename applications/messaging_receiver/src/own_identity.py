"""The receiver's own key, once the record that others encrypt by is in DNS."""

import logging
import threading
from concurrent.futures import Future
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.bootstrap import Bootstrap
from idlib.errors import IdlibError, KeyFileError
from idlib.keys import certificate_path, key_path, read_certificate, read_private_key
from idlib.records import render
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
                _LOG.info("Reading %s", path)
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
    except KeyFileError as error:
        _LOG.error("%s", error)
    else:
        _LOG.error("Publish this record: %s. IN TLSA %s", settings.identity_name, render(certificate, 0))
