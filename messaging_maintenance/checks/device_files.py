"""The files of this device: its keys and certificate, and the directory of its data."""

import os
import shlex
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from idlib.algorithms import PrivateKey
from idlib.certificates import concerns
from idlib.commands import command, how_to_publish
from idlib.discovery.found import MAX_KEYS
from idlib.errors import KeyFileError, permission_hint, quoted
from idlib.keys import certificate_path, key_path, next_key_path, previous_key_paths, read_certificate, read_private_key
from idlib.publishing.change import shorten
from idlib.settings import Settings
from messaging_maintenance.checks.catalogue import KEY_IDS
from messaging_maintenance.checks.observation import Observation
from messaging_maintenance.checks.records import Judged
from messaging_maintenance.checks.result import Item, Status, fail, ok, skip, warn
from messaging_maintenance.checks.running import Once

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MEBIBYTE: Final = 1024 * 1024
_LEAST_BYTES: Final = _MEBIBYTE
# The store of waiting messages and the replay memory at their largest, and their logs.
_ENOUGH_BYTES: Final = 128 * _MEBIBYTE
_MOUNTS: Final = Path("/proc/self/mountinfo")
_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})
_WITHOUT_PERMISSIONS: Final = frozenset({"vfat", "exfat", "msdos"})
_DANE_EE: Final = 3
_UNKNOWN: Final = "an unknown key"


def read_own_key(settings: Settings) -> PrivateKey:
    """Return this device's private key.

    Args:
        settings: From the environment.

    Raises:
        KeyFileError: It is missing or unusable.
    """
    return read_private_key(key_path(settings.crypto_path, settings.identity_name))


def check_key_files(settings: Settings, own_key: Once[PrivateKey], rdatas: Sequence[bytes]) -> list[Item]:
    """Return what there is to say about key and certificate.

    Args:
        settings: From the environment.
        own_key: This device's private key.
        rdatas: The data of its records in DNS; empty if it is not known.
    """
    items = [_key_item(settings, own_key)]
    path = certificate_path(settings.crypto_path, settings.identity_name)
    try:
        certificate = read_certificate(path)
    except KeyFileError as error:
        if items[0].status is Status.FAIL and not path.exists():
            # One cause: there is no identity yet.
            return [*items, *(skip(one, "there is no usable key and no certificate") for one in KEY_IDS[1:])]
        why = "there is no usable certificate"
        others = ("certificate.match", "certificate.name", "certificate.dates")
        hint = error.hint or "install a certificate"
        return [*items, fail("certificate.file", error.fact, hint), *(skip(one, why) for one in others)]
    items.append(ok("certificate.file", f"{quoted(path)} holds a certificate"))
    return [*items, _match_item(certificate, own_key), *_certificate_items(certificate, settings, rdatas)]


def check_published_key(seen: Observation, judged: Sequence[Judged], settings: Settings) -> list[Item]:
    """Return which of this device's keys the records are of.

    Args:
        seen: What DNS says about this device.
        judged: What its records are good for.
        settings: From the environment.

    Raises:
        KeyFileError: The private key is missing or unusable.
    """
    identifier = "key.published"
    own = read_own_key(settings).public.der
    others = {**_former_keys(settings), **_next_key(settings)}
    published = list(dict.fromkeys(one.key.der for one in judged if one.key is not None))
    if not published:
        why = "there is no answer about the records" if seen.chain is None else "there is no usable record"
        return [skip(identifier, why)]
    described = "; ".join(
        f"{shorten(one.rdata)} is of {'the current key' if one.key.der == own else others.get(one.key.der, _UNKNOWN)}"
        for one in judged
        if one.key is not None
    )
    if own in published[:MAX_KEYS]:
        return [ok(identifier, described)]
    if own in published:
        hint = f"remove records, because recipients look at the first {MAX_KEYS} keys only"
        return [fail(identifier, f"the record of the current key comes after others: {described}", hint)]
    return [fail(identifier, f"no record is of the current key: {described}", how_to_publish())]


def check_data_path(directory: Path) -> list[Item]:
    """Return what there is to say about the directory of the data, without writing to it.

    Args:
        directory: DATA_PATH.
    """
    try:
        space = os.statvfs(directory)
        is_directory = directory.is_dir()
    except FileNotFoundError:
        why = f"there is no {quoted(directory)} here; the receiver creates it"
        return [skip(identifier, why) for identifier in ("data.path", "data.space", "data.filesystem")]
    except OSError as error:
        hint = permission_hint(directory, "messaging_receiver")
        evidence = f"{quoted(directory)} cannot be read: {error.strerror}"
        return [fail("data.path", evidence, hint), *(skip(one, evidence) for one in ("data.space", "data.filesystem"))]
    if not is_directory:
        evidence = f"{quoted(directory)} is not a directory"
        return [
            fail("data.path", evidence, "set DATA_PATH to a directory"),
            *(skip(one, evidence) for one in ("data.space", "data.filesystem")),
        ]
    return [_writable_item(directory, space), _space_item(directory, space), _file_system_item(directory)]


def _key_item(settings: Settings, own_key: Once[PrivateKey]) -> Item:
    identifier = "key.file"
    path = key_path(settings.crypto_path, settings.identity_name)
    try:
        key = own_key.get()
        status = path.stat()
    except KeyFileError as error:
        return fail(identifier, error.fact, error.hint or f"create a key with {command('identity create')}")
    except OSError as error:
        return fail(identifier, f"{quoted(path)} cannot be read: {error.strerror}", "check its owner and mode")
    kind = f"RSA {key.native.key_size}" if isinstance(key.native, rsa.RSAPrivateKey) else "EC P-256"
    mode = stat.S_IMODE(status.st_mode)
    evidence = f"{quoted(path)} holds a key of type {kind}, mode {mode:04o}, owner {status.st_uid}"
    if mode & _OTHERS:
        return warn(identifier, f"{evidence}: other users can read or write it", _hint_for_mode(path))
    if status.st_uid not in (settings.app_uid, os.geteuid()):
        return warn(identifier, evidence, f"give it to the user of the programs: chown {settings.app_uid}")
    return ok(identifier, evidence)


def _hint_for_mode(path: Path) -> str:
    if _file_system_of(path.parent) in _WITHOUT_PERMISSIONS:
        return "move CRYPTO_PATH to a file system with permissions"
    return f"run chmod 600 {shlex.quote(str(path))}"


def _match_item(certificate: x509.Certificate, own_key: Once[PrivateKey]) -> Item:
    identifier = "certificate.match"
    try:
        key = own_key.get()
    except KeyFileError as error:
        return skip(identifier, error.fact)
    if certificate.public_key() != key.public.native:
        hint = f"install the certificate for the current key with {command('identity install')}"
        return fail(identifier, "the certificate is not for the current key", hint)
    return ok(identifier, "the certificate is for the current key")


def _certificate_items(certificate: x509.Certificate, settings: Settings, rdatas: Sequence[bytes]) -> list[Item]:
    """Return what other usages than DANE-EE need: the name and the dates (RFC 7671, section 5.1)."""
    is_needed = bool(rdatas) and all(rdata[:1] != bytes((_DANE_EE,)) for rdata in rdatas)
    make = fail if is_needed else warn
    lines = list(concerns(certificate, settings.identity_name, datetime.now(UTC)))
    names = [line for line in lines if "dNSName" in line]
    dates = [line for line in lines if "dNSName" not in line]
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    hint = f"have the CA issue a new certificate, or create one with {command('identity create')} --force"
    return [
        make("certificate.name", names[0], hint)
        if names
        else ok("certificate.name", f"it has {settings.identity_name} as a dNSName"),
        make("certificate.dates", dates[0], hint) if dates else ok("certificate.dates", f"it is valid until {until}"),
    ]


def _former_keys(settings: Settings) -> dict[bytes, str]:
    found = {}
    for path in previous_key_paths(settings.crypto_path, settings.identity_name):
        try:
            found[read_private_key(path).public.der] = f"a previous key ({path.name})"
        except KeyFileError:
            continue
    return found


def _next_key(settings: Settings) -> dict[bytes, str]:
    path = next_key_path(settings.crypto_path, settings.identity_name)
    try:
        return {read_private_key(path).public.der: f"the next key ({path.name})"}
    except KeyFileError:
        return {}


def _writable_item(directory: Path, space: os.statvfs_result) -> Item:
    if space.f_flag & os.ST_RDONLY:
        return fail("data.path", f"{quoted(directory)} is on a read-only file system", "mount it for writing")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        hint = permission_hint(directory, "messaging_receiver")
        return fail("data.path", f"{quoted(directory)} cannot be written by this user", hint)
    return ok("data.path", f"{quoted(directory)} can be written")


def _space_item(directory: Path, space: os.statvfs_result) -> Item:
    free = space.f_bavail * space.f_frsize
    evidence = f"{free / _MEBIBYTE:.1f} MiB are free for {quoted(directory)}"
    if free < _LEAST_BYTES or (space.f_files and not space.f_favail):
        hint = "free space on this disk: the receiver prints nothing that it cannot record"
        return fail("data.space", evidence if space.f_favail else f"{evidence}, and no inode", hint)
    if free < _ENOUGH_BYTES:
        return warn("data.space", evidence, f"free {_ENOUGH_BYTES // _MEBIBYTE} MiB: waiting messages need them")
    return ok("data.space", evidence)


def _file_system_item(directory: Path) -> Item:
    identifier = "data.filesystem"
    kind = _file_system_of(directory)
    if not kind:
        return skip(identifier, f"the file system of {quoted(directory)} is not known")
    evidence = f"{quoted(directory)} is on {kind}"
    if kind in _VOLATILE:
        return warn(identifier, f"{evidence}, which is empty after a restart", "set DATA_PATH to a directory on a disk")
    if kind in _REMOTE:
        return warn(identifier, f"{evidence}, whose locks and writes are not safe", "set DATA_PATH to a local disk")
    return ok(identifier, evidence)


def _file_system_of(directory: Path) -> str:
    """Return the type of a directory's file system; empty if it is not known (proc_pid_mountinfo(5))."""
    try:
        path = directory.resolve()
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, words = left.split(), right.split()
        if len(fields) < 5 or not words:
            continue
        # Blanks in a mount point are written as octal escapes.
        mounted = Path(fields[4].replace("\\040", " "))
        # The last mount at a place hides those before it.
        if path.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), words[0]
    return kind
