"""Reads private keys and certificates from files, and says what to do if they are missing or are something else."""

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idlib.commands import command
from idlib.errors import KeyFileError, UnsuitableKeyError, chmod_hint, permission_hint, quoted
from idlib.files import read_regular
from idlib.keys.faults import SERVICE
from idlib.keys.paths import CERTIFICATE_SUFFIX, KEY_SUFFIX, NEXT_SUFFIX

if TYPE_CHECKING:
    from cryptography import x509

    from idlib.algorithms import PrivateKey

MAX_FILE_BYTES: Final = 65536
_DEFAULT_DIRECTORY: Final = Path("/identity")
_MAX_NAMES_SHOWN: Final = 3


def read_private_key(path: Path) -> "PrivateKey":
    """Return the private key in a PEM file.

    Raises:
        KeyFileError: The file is missing, cannot be read, is protected by a password, or has no supported key.
    """
    return parse_private_key(read_file(path), path)


def read_certificate(path: Path) -> "x509.Certificate":
    """Return the first certificate in a PEM file.

    Raises:
        KeyFileError: The file is missing, cannot be read, or has no certificate.
    """
    return parse_certificate(read_file(path), path)


def read_file(path: Path) -> bytes:
    """Return the bytes of a key, certificate or request file.

    Raises:
        KeyFileError: The file is missing, cannot be read, is not a regular file, or has more than `MAX_FILE_BYTES`
            bytes.
    """
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise KeyFileError(f"there is no {quoted(path)}", _how_to_get(path)) from error
    except PermissionError as error:
        raise KeyFileError(f"cannot read {quoted(path)}: {error.strerror}", _how_to_read(path)) from error
    except OSError as error:
        raise KeyFileError(f"cannot read {quoted(path)}: {error.strerror}", "put the right file there") from error


def parse_private_key(pem: bytes, source: Path) -> "PrivateKey":
    """Return the private key in PEM text.

    Args:
        pem: PKCS #1, SEC 1 or PKCS #8 in PEM form.
        source: The file that it comes from, for error messages.

    Raises:
        KeyFileError: It is protected by a password, or is not a supported key.
    """
    # Imported late, here and below, because some programs only need the files' names, and to know that they exist.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from idlib.algorithms import PrivateKey

    try:
        # The device's own file is trusted, and the skipped checks take 50 ms.
        native = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
        return PrivateKey(native)  # type: ignore[arg-type]  # PrivateKey checks the type
    except TypeError as error:
        raise KeyFileError(
            f"{quoted(source)} is protected by a password", "store the key without a password"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_private_key(pem, source) from error
    except UnsuitableKeyError as error:
        raise KeyFileError(f"{quoted(source)} holds a key that cannot be used: {error.fact}", error.hint) from error


def parse_certificate(pem: bytes, source: Path) -> "x509.Certificate":
    """Return the first certificate in PEM text.

    Args:
        pem: One or more certificates in PEM form.
        source: The file that it comes from, for error messages.

    Raises:
        KeyFileError: There is none.
    """
    from idlib.pem import read_certificates

    found = read_certificates(pem)
    if found.readable:
        return found.readable[0]
    raise no_certificate(f"{quoted(source)} holds", pem)


def no_certificate(subject: str, contents: bytes) -> KeyFileError:
    """Return an error with what was found instead of a certificate in PEM form, and what to do.

    Args:
        subject: The beginning of the sentence: its subject and verb.
        contents: What was found.
    """
    from idlib.pem import Kind, describe

    finding = describe(contents, Kind.CERTIFICATE)
    return KeyFileError(f"{subject} no certificate in PEM form: {finding.what}", finding.remedy)


def how_to_get_a_key() -> str:
    """Return the hint how to create an identity."""
    return f"create an identity with {command('identity create')}, or with {command('identity csr')} and a CA"


def how_to_get_the_next_key() -> str:
    """Return the hint what to do if the next key of a rotation is missing."""
    rotate = command("identity rotate")
    return (
        f"restore it from a backup; without one, run {rotate} --abort or, after the switch has begun,"
        f" {rotate} start --compromised"
    )


def _no_private_key(contents: bytes, source: Path) -> KeyFileError:
    from idlib.pem import Kind, describe

    finding = describe(contents, Kind.PRIVATE_KEY)
    remedy = finding.remedy.replace("FILE", shlex.quote(str(source)))
    return KeyFileError(
        f"{quoted(source)} holds no private key that can be read: {finding.what}",
        f"{remedy}, or create a new key with {command('identity create')} --force",
    )


def _how_to_get(path: Path) -> str:
    directory = path.parent
    if directory == _DEFAULT_DIRECTORY and not directory.exists():
        return f"the default directory is {quoted(directory)}; set CRYPTO_PATH to the directory of your identity"
    if path.name.endswith(NEXT_SUFFIX):
        return how_to_get_the_next_key()
    if path.name.endswith(CERTIFICATE_SUFFIX):
        return _how_to_get_a_certificate()
    others = _names_with_keys(directory)
    if path.name.endswith(KEY_SUFFIX) and others:
        what = f"{quoted(directory)} has a key of {', '.join(others)}"
        return f"{what}: is IDENTITY_NAME right? If so, {how_to_get_a_key()}"
    return how_to_get_a_key()


def _how_to_get_a_certificate() -> str:
    return (
        f"install a CA's certificate with {command('identity install')},"
        f" or create a new key and certificate with {command('identity create')} --force"
    )


def _names_with_keys(directory: Path) -> list[str]:
    try:
        files = sorted(file.name for file in directory.glob(f"*{KEY_SUFFIX}"))
    except OSError:
        return []
    return [name.removesuffix(KEY_SUFFIX) for name in files[:_MAX_NAMES_SHOWN]]


def _how_to_read(path: Path) -> str:
    hint = chmod_hint(path.parent)
    if hint is not None:
        return hint
    with suppress(OSError):
        if path.stat().st_uid == os.geteuid():
            return f"run chmod 600 {shlex.quote(str(path))}"
    return permission_hint(path.parent, SERVICE)
