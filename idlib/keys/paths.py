"""The paths of a device's key, certificate, request and rotation files."""

from pathlib import Path
from typing import Final

from idlib.names import IdentityName

MAX_PREVIOUS_KEYS: Final = 3
KEY_SUFFIX: Final = ".key.pem"
CERTIFICATE_SUFFIX: Final = ".crt.pem"
NEXT_SUFFIX: Final = ".next.pem"
_MAX_FILE_NAME_BYTES: Final = 255
_LONGEST_SUFFIX: Final = ".key.previous3.pem"


def key_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the device's private key: NAME.key.pem."""
    return crypto_path / f"{file_stem(name)}{KEY_SUFFIX}"


def certificate_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the device's certificate: NAME.crt.pem."""
    return crypto_path / f"{file_stem(name)}{CERTIFICATE_SUFFIX}"


def request_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the device's certificate signing request: NAME.csr.pem."""
    return crypto_path / f"{file_stem(name)}.csr.pem"


def previous_key_paths(crypto_path: Path, name: IdentityName) -> tuple[Path, ...]:
    """Return the paths of replaced private keys, newest first: NAME.key.previous.pem, …previous2.pem and so on."""
    numbers = ("", *range(2, MAX_PREVIOUS_KEYS + 1))
    return tuple(crypto_path / f"{file_stem(name)}.key.previous{number}.pem" for number in numbers)


def next_key_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the private key that will replace the current one: NAME.key.next.pem."""
    return crypto_path / f"{file_stem(name)}.key{NEXT_SUFFIX}"


def next_certificate_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of that key's certificate: NAME.crt.next.pem."""
    return crypto_path / f"{file_stem(name)}.crt{NEXT_SUFFIX}"


def rotation_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the file that holds the stage of a key rotation: NAME.rotation.json."""
    return crypto_path / f"{file_stem(name)}.rotation.json"


def epoch_progress_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the file that holds how far the use of epoch keys is turned on or off: NAME.epochs.json."""
    return crypto_path / f"{file_stem(name)}.epochs.json"


def file_stem(name: IdentityName) -> str:
    """Return the beginning of the names of a device's files: its name, or a shorter form of one that is too long.

    Args:
        name: The device.
    """
    # The longest names exceed a file system's limit. No name has a ~, so a shortened one cannot collide with another.
    if len(name.text) + len(_LONGEST_SUFFIX) <= _MAX_FILE_NAME_BYTES:
        return name.text
    # Imported late, because hardly any name is that long.
    import hashlib

    return f"{name.text[:190]}~{hashlib.sha256(name.text.encode()).hexdigest()[:32]}"
