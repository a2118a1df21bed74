"""Files of private keys, certificates and requests: read with limits, written atomically, keys kept when replaced."""

import errno
import fcntl
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from idlib.errors import KeyFileError, UnsuitableKeyError, chmod_hint, permission_hint, quoted
from idlib.files import DIRECTORY_MODE, FILE_MODE, kind_of_obstacle, make_durable, read_regular
from idlib.names import IdentityName
from idlib.settings import KeyType
from idlib.system import update_lock

if TYPE_CHECKING:
    from cryptography import x509

    from idlib.algorithms import PrivateKey

MAX_FILE_OCTETS: Final = 65536
MAX_PREVIOUS_KEYS: Final = 3
HOW_TO_GET_A_KEY: Final = (
    "create an identity with dane-messenger identity create (create_selfsigned_id.py), or with dane-messenger identity"
    " csr (create_id_csr.py) and a CA"
)

HOW_TO_GET_THE_NEXT_KEY: Final = (
    "restore it from a backup; without one, run rotate_id.py --abort or, after the switch has begun,"
    " rotate_id.py start --compromised"
)

_PUBLIC_EXPONENT: Final = 65537
_RSA_BITS: Final = MappingProxyType({KeyType.RSA2048: 2048, KeyType.RSA3072: 3072})
_MAX_FILE_NAME_OCTETS: Final = 255
_LONGEST_SUFFIX: Final = ".key.previous3.pem"
_KEY_SUFFIX: Final = ".key.pem"
_CERTIFICATE_SUFFIX: Final = ".crt.pem"
_NEXT_SUFFIX: Final = ".next.pem"
_DEFAULT_DIRECTORY: Final = Path("/identity")
_MAX_NAMES_SHOWN: Final = 3
_HOW_TO_GET_A_CERTIFICATE: Final = (
    "install a CA's certificate with install_certificate.py,"
    " or create a new key and certificate with create_selfsigned_id.py --force"
)
_STAGED_PREFIX: Final = ".idlib-"
_STAGED_SUFFIX: Final = ".new"
_SERVICE: Final = "maintenance"
_LOCK_PAUSE_SECONDS: Final = 0.05
# The errors of link(2) on FAT, exFAT and other file systems without hard links.
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_OTHERS: Final = 0o077
_NO_COMPANIONS: Final[Mapping[Path, bytes]] = MappingProxyType({})


def key_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the device's private key: NAME.key.pem."""
    return crypto_path / f"{_file_stem(name)}{_KEY_SUFFIX}"


def certificate_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the device's certificate: NAME.crt.pem."""
    return crypto_path / f"{_file_stem(name)}{_CERTIFICATE_SUFFIX}"


def request_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the device's certificate signing request: NAME.csr.pem."""
    return crypto_path / f"{_file_stem(name)}.csr.pem"


def previous_key_paths(crypto_path: Path, name: IdentityName) -> tuple[Path, ...]:
    """Return the paths of replaced private keys, newest first: NAME.key.previous.pem, …previous2.pem and so on."""
    numbers = ("", *range(2, MAX_PREVIOUS_KEYS + 1))
    return tuple(crypto_path / f"{_file_stem(name)}.key.previous{number}.pem" for number in numbers)


def next_key_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the private key that will replace the current one: NAME.key.next.pem."""
    return crypto_path / f"{_file_stem(name)}.key{_NEXT_SUFFIX}"


def next_certificate_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of that key's certificate: NAME.crt.next.pem."""
    return crypto_path / f"{_file_stem(name)}.crt{_NEXT_SUFFIX}"


def rotation_path(crypto_path: Path, name: IdentityName) -> Path:
    """Return the path of the file that holds the stage of a key rotation: NAME.rotation.json."""
    return crypto_path / f"{_file_stem(name)}.rotation.json"


def generate_private_key(key_type: KeyType) -> "PrivateKey":
    """Return a new private key of this type, without writing it to the disk."""
    # Imported late, here and below, because some programs only need the files' names, and to know that they exist.
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from idlib.algorithms import PrivateKey

    if key_type is KeyType.P256:
        return PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    return PrivateKey(rsa.generate_private_key(_PUBLIC_EXPONENT, _RSA_BITS[key_type]))


def encode_private_key(key: "PrivateKey") -> bytes:
    """Return the key in traditional PEM form; for RSA that is PKCS #1 (RFC 8017, appendix A.1.2)."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.native.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


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
        KeyFileError: The file is missing, cannot be read, is not a regular file, or has more than `MAX_FILE_OCTETS`
            bytes.
    """
    try:
        return read_regular(path, MAX_FILE_OCTETS)
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


def make_directory(path: Path, uid: int) -> None:
    """Create the directory of the key files, with mode 0700, and its parents, unless it exists.

    Raises:
        KeyFileError: It cannot be created.
    """
    with _os_errors_reported("create", path), suppress(FileExistsError):
        if not path.is_dir():
            path.mkdir(mode=DIRECTORY_MODE, parents=True)
            _give_away_directory(path, uid)


@contextmanager
def locked(directory: Path, timeout: float = 10.0) -> Iterator[None]:
    """Lock the key files against other writing processes and hold off balena's updates; do not nest calls.

    Unfinished files of a killed process are removed.

    Args:
        directory: The directory of the key files.
        timeout: How many seconds to wait if another process has the lock.

    Raises:
        KeyFileError: There is no such directory, or another process has the lock.
    """
    with ExitStack() as stack:
        with _os_errors_reported("open", directory, directory):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            _wait_for_lock(descriptor, directory, time.monotonic() + timeout)
            for leftover in directory.glob(f"{_STAGED_PREFIX}*{_STAGED_SUFFIX}"):
                leftover.unlink(missing_ok=True)
        stack.enter_context(update_lock.held(update_lock.PATH))
        yield


def write_new(path: Path, data: bytes, uid: int, companions: Mapping[Path, bytes] = _NO_COMPANIONS) -> None:
    """Write a new file atomically, with mode 0600 from the start; call this while `locked`.

    Args:
        path: The file; a symbolic link counts as existing.
        data: All of its bytes.
        uid: The owner's user ID, if this process is allowed to change the owner.
        companions: More files in the same directory, written after it; existing ones are replaced.

    Raises:
        KeyFileError: The file already exists, or a file cannot be written; no file has changed.
    """
    with _os_errors_reported("write", path, path.parent), ExitStack() as stack:
        _require_free(companions)
        temporary = stack.enter_context(_staged(path, data, uid))
        staged = [(stack.enter_context(_staged(other, octets, uid)), other) for other, octets in companions.items()]
        try:
            _put_in_place(temporary, path)
        except FileExistsError as error:
            raise refusal_to_overwrite(path) from error
        make_durable(path.parent)
        _move_into_place(staged)


def replace(path: Path, data: bytes, uid: int) -> None:
    """Write or replace a file atomically, with mode 0600 from the start; call this while `locked`.

    A symbolic link is replaced, not followed.

    Raises:
        KeyFileError: It cannot be written; no file has changed.
    """
    replace_all({path: data}, uid)


def replace_all(changes: Mapping[Path, bytes], uid: int) -> None:
    """Write or replace files of one directory in this order, each atomically; call this while `locked`.

    Args:
        changes: The contents of each file.
        uid: The owner's user ID, if this process is allowed to change the owner.

    Raises:
        KeyFileError: A file cannot be written; if it is for lack of space or permission, no file has changed.
    """
    first = next(iter(changes))
    with _os_errors_reported("write", first, first.parent), ExitStack() as stack:
        _require_free(changes)
        # All data is on the disk before the first file changes, so that a full disk changes none.
        _move_into_place([(stack.enter_context(_staged(path, data, uid)), path) for path, data in changes.items()])


def remove(*paths: Path) -> None:
    """Remove files of one directory in this order, durably; a file that does not exist is skipped.

    Args:
        paths: The files; call this while `locked`.

    Raises:
        KeyFileError: A file cannot be removed.
    """
    for path in paths:
        with _os_errors_reported("remove", path, path.parent):
            path.unlink(missing_ok=True)
            make_durable(path.parent)


def replace_key(
    crypto_path: Path, name: IdentityName, data: bytes, uid: int, companions: Mapping[Path, bytes] = _NO_COMPANIONS
) -> None:
    """Replace the current private key, which becomes the first previous key; call this while `locked`.

    Older previous keys move up by one number, and the fourth is deleted. If the process is killed, either the old or
    the new key is in place, and the next call continues.

    Args:
        crypto_path: The directory of the key files.
        name: The device.
        data: The new key in PEM form.
        uid: The owner's user ID, if this process is allowed to change the owner.
        companions: More files that are written after it, such as its certificate.

    Raises:
        KeyFileError: A file cannot be read or written; the old key is still in place.
    """
    path, previous = key_path(crypto_path, name), previous_key_paths(crypto_path, name)
    kind = _kind_instead_of_a_key(path)
    if kind is not None:
        raise _obstruction(path, kind)
    # Each key once, so that a key that a killed call has already copied does not push out an older one.
    kept = list(dict.fromkeys(read_file(old) for old in (path, *previous) if os.path.lexists(old)))
    oldest_first = reversed(list(zip(previous, kept, strict=False)))
    replace_all({**dict(oldest_first), path: data, **companions}, uid)


def refusal_to_overwrite(path: Path) -> KeyFileError:
    """Return an error that a key already exists, or that something other than a file is in its place."""
    kind = _kind_instead_of_a_key(path)
    if kind is not None:
        return _obstruction(path, kind)
    previous = f"{path.name.removesuffix('.pem')}.previous.pem"
    return KeyFileError(
        f"{quoted(path)} already exists",
        f"use --force to replace it (the old key is kept as {previous})",
    )


def require_no_rotation(crypto_path: Path, name: IdentityName) -> None:
    """Check that no rotation of the key is under way; call this while `locked`, before the key is replaced.

    Args:
        crypto_path: The directory of the key files.
        name: The device.

    Raises:
        KeyFileError: One is under way: it would go on with the records and keys that it knows.
    """
    path = rotation_path(crypto_path, name)
    if os.path.lexists(path):
        raise KeyFileError(
            f"a rotation of the key is under way ({quoted(path)})",
            "finish it with rotate_id.py, give it up with rotate_id.py --abort, or replace a stolen or lost key with"
            " rotate_id.py start --compromised",
        )


def is_open_to_others(path: Path) -> bool:
    """Return whether other users can read or write a file, as on a file system without permissions.

    Raises:
        KeyFileError: Its mode cannot be read.
    """
    with _os_errors_reported("read", path):
        return bool(path.stat().st_mode & _OTHERS)


def _kind_instead_of_a_key(path: Path) -> str | None:
    if os.path.islink(path) and not os.path.exists(path):
        return "a broken symbolic link"
    return kind_of_obstacle(path)


def _obstruction(path: Path, kind: str) -> KeyFileError:
    return KeyFileError(f"{quoted(path)} is {kind}", "move it away")


def _require_free(paths: Iterable[Path]) -> None:
    """Raise an error if a path is not free for a file; otherwise the second write would fail after the first."""
    for path in paths:
        kind = kind_of_obstacle(path)
        if kind is not None:
            raise _obstruction(path, kind)


def _no_private_key(contents: bytes, source: Path) -> KeyFileError:
    from idlib.pem import Kind, describe

    finding = describe(contents, Kind.PRIVATE_KEY)
    remedy = finding.remedy.replace("FILE", shlex.quote(str(source)))
    return KeyFileError(
        f"{quoted(source)} holds no private key that can be read: {finding.what}",
        f"{remedy}, or create a new key with create_selfsigned_id.py --force",
    )


def _how_to_get(path: Path) -> str:
    directory = path.parent
    if directory == _DEFAULT_DIRECTORY and not directory.exists():
        return f"the default directory is {quoted(directory)}; set CRYPTO_PATH to the directory of your identity"
    if path.name.endswith(_NEXT_SUFFIX):
        return HOW_TO_GET_THE_NEXT_KEY
    if path.name.endswith(_CERTIFICATE_SUFFIX):
        return _HOW_TO_GET_A_CERTIFICATE
    others = _names_with_keys(directory)
    if path.name.endswith(_KEY_SUFFIX) and others:
        what = f"{quoted(directory)} has a key of {', '.join(others)}"
        return f"{what}: is IDENTITY_NAME right? If so, {HOW_TO_GET_A_KEY}"
    return HOW_TO_GET_A_KEY


def _names_with_keys(directory: Path) -> list[str]:
    try:
        files = sorted(file.name for file in directory.glob(f"*{_KEY_SUFFIX}"))
    except OSError:
        return []
    return [name.removesuffix(_KEY_SUFFIX) for name in files[:_MAX_NAMES_SHOWN]]


def _how_to_read(path: Path) -> str:
    hint = chmod_hint(path.parent)
    if hint is not None:
        return hint
    with suppress(OSError):
        if path.stat().st_uid == os.geteuid():
            return f"run chmod 600 {shlex.quote(str(path))}"
    return permission_hint(path.parent, _SERVICE)


def _file_stem(name: IdentityName) -> str:
    # The longest names exceed a file system's limit. No name has a ~, so a shortened one cannot collide with another.
    if len(name.text) + len(_LONGEST_SUFFIX) <= _MAX_FILE_NAME_OCTETS:
        return name.text
    # Imported late, because hardly any name is that long.
    import hashlib

    return f"{name.text[:190]}~{hashlib.sha256(name.text.encode()).hexdigest()[:32]}"


@contextmanager
def _os_errors_reported(action: str, path: Path, directory: Path | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if directory is not None and isinstance(error, PermissionError):
            # The published programs ran as root, and left files that no other user can read.
            hint = permission_hint(directory, _SERVICE)
        else:
            hint = "CRYPTO_PATH must be a directory that this user can write to, on a disk with free space"
        raise KeyFileError(f"cannot {action} {quoted(path)}: {error.strerror}", hint) from error


def _wait_for_lock(descriptor: int, directory: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise KeyFileError(
                    f"another program is writing keys in {quoted(directory)}", "try again when it has finished"
                ) from error
            time.sleep(_LOCK_PAUSE_SECONDS)


@contextmanager
def _staged(path: Path, data: bytes, uid: int) -> Iterator[Path]:
    temporary = path.parent / f"{_STAGED_PREFIX}{os.urandom(8).hex()}{_STAGED_SUFFIX}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            _give_away(descriptor, uid)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    """Give a staged file its final name, if that is free.

    Raises:
        FileExistsError: The name is taken, perhaps by a symbolic link.
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _reserve_and_replace(temporary, path)


def _reserve_and_replace(temporary: Path, path: Path) -> None:
    # An empty file reserves the name against other programs; the staged file replaces it.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE))
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _move_into_place(staged: list[tuple[Path, Path]]) -> None:
    for temporary, path in staged:
        temporary.replace(path)
        make_durable(path.parent)


def _give_away_directory(path: Path, uid: int) -> None:
    # By descriptor, not by path: a user who can write to the parent could put a symbolic link in its place meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give_away(descriptor, uid)
    finally:
        os.close(descriptor)


def _give_away(descriptor: int, uid: int) -> None:
    try:
        os.fchown(descriptor, uid, -1)
    except OSError as error:
        # Only root may do this, and not in every container; a user namespace may not have this user ID.
        if error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
