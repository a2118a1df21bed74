"""The private halves of a device's epoch keys on the disk: one file each, in EPOCH_PATH.

A half is created in this order: a temporary file is written and flushed, renamed to the key's id, and the directory is
flushed. It is destroyed in this order: its id is noted in the list of destroyed keys, its file is overwritten and
flushed, removed, and the directory is flushed. If a process is killed in between, `Halves.finish` completes the rest.

On flash memory, and on file systems that copy on write, overwriting a file may leave the earlier contents on the
medium. docs/limits.md says so.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import struct
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from idlib import base64url
from idlib.algorithms import PublicKey
from idlib.epochs.destroyed import DestroyedKeys
from idlib.epochs.hints import directory_hint
from idlib.epochs.keys import KEY_ID_OCTETS, SEED_OCTETS, EpochPrivateKey
from idlib.epochs.record import EpochRecord
from idlib.epochs.schedule import Half
from idlib.errors import IdlibError, MalformedRecordError, StoreError, quoted
from idlib.files import DIRECTORY_MODE, FILE_MODE, make_durable, open_regular, read_regular
from idlib.names import IdentityName

_MAGIC: Final = b"epoch\0\0\1"
# Start, until, the running time of the system at the creation, the identity key, the seed; the device's name follows.
_FORMAT: Final = struct.Struct(">8sIId32s32s")
_MAX_BYTES: Final = _FORMAT.size + 253
_NEW: Final = ".new"


class DamagedHalfError(IdlibError):
    """The file of a half has other content than was written, so that no message can be opened with it."""


def identity_fingerprint(key: PublicKey) -> bytes:
    """Return the SHA-256 digest of an identity key, by which a half remembers who signed its record.

    Args:
        key: The public key.
    """
    return hashlib.sha256(key.der).digest()


@dataclass(frozen=True, slots=True)
class KeptHalf:
    """A private half that exists on the disk.

    Args:
        half: What is known about it.
        key: The half.
    """

    half: Half
    key: EpochPrivateKey = field(repr=False)

    @property
    def record(self) -> EpochRecord:
        """The record of its key."""
        return EpochRecord(self.half.start, self.half.until, self.key.public)


@dataclass(frozen=True, slots=True)
class Stock:
    """What is in the directory.

    Args:
        halves: The halves of the device, without those that are listed as destroyed.
        unreadable: Why files that may be halves of the device cannot be read, one line each.
        others: The names of the files of other devices.
    """

    halves: tuple[KeptHalf, ...]
    unreadable: tuple[str, ...]
    others: frozenset[str]


class Halves:
    """The private halves of a device. Any number of processes may create and read them.

    One process may `destroy` them, `finish`, and `remove_leftovers`; any number of processes, also on other machines,
    may `erase` them and `finish_erasing`.

    Args:
        directory: EPOCH_PATH.
        name: The device. Halves of other devices in the same directory are left alone.
    """

    def __init__(self, directory: Path, name: IdentityName) -> None:
        self._directory = directory
        self._name = name
        self.destroyed = DestroyedKeys(directory, name)

    def create(self, start: int, until: int, born: float, signer: bytes) -> KeptHalf:
        """Return a new half, which is durable on the disk.

        Args:
            start: When the key starts, in seconds since the epoch.
            until: When the half is to be destroyed, in seconds since the epoch.
            born: For how many seconds the system has run; for a key that is created ahead of its time, how many it will
                have been by then.
            signer: The fingerprint of the identity key that signs the record.

        Raises:
            StoreError: The half cannot be written; nothing of it is left if the disk allows to remove it.
        """
        key = EpochPrivateKey(secrets.token_bytes(SEED_OCTETS))
        key_id = EpochRecord(start, until, key.public).key_id(self._name)
        path = self._directory / key_id
        contents = _FORMAT.pack(_MAGIC, start, until, born, signer, key.seed) + self._name.text.encode()
        # Without the id, which is another one at each attempt: a lasting failure is logged once.
        with self._errors_reported(f"a new epoch key in {quoted(self._directory)}", "written"):
            self._make_directory()
            new = path.with_name(path.name + _NEW)
            with self._locked(fcntl.LOCK_SH):
                self._write(new, path, contents)
        return KeptHalf(Half(key_id, start, until, born, signer), key)

    def read(self, key_id: str) -> KeptHalf | None:
        """Return a half; None if there is no such file, or it is that of another device.

        Args:
            key_id: The key's id.

        Raises:
            StoreError: The file cannot be read.
            DamagedHalfError: The file has other content than was written.
        """
        path = self._directory / key_id
        try:
            with self._errors_reported(_shown(path), "read"):
                contents = read_regular(path, _MAX_BYTES)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        if len(contents) < _FORMAT.size or not contents.startswith(_MAGIC):
            raise _damaged(path)
        _, start, until, born, signer, seed = _FORMAT.unpack_from(contents)
        if contents[_FORMAT.size :] != self._name.text.encode():
            return None
        key = EpochPrivateKey(seed)
        kept = KeptHalf(Half(key_id, start, until, born, signer), key)
        try:
            is_itself = kept.record.key_id(self._name) == key_id
        except MalformedRecordError as error:
            raise _damaged(path) from error
        if not is_itself or not 0.0 <= born < float("inf"):
            raise _damaged(path)
        return kept

    def stock(self, known: Set[str] = frozenset()) -> Stock:
        """Return what is in the directory.

        Args:
            known: The names of files that are not to be read again.

        Raises:
            StoreError: The directory cannot be read.
        """
        halves, unreadable, others = [], [], []
        destroyed = self.destroyed.ids()
        for path in self._files():
            if path.name in destroyed or path.name in known:
                continue
            try:
                kept = self.read(path.name)
            except (StoreError, DamagedHalfError) as error:
                if not self._is_being_destroyed(path):
                    unreadable.append(str(error))
                continue
            if kept is not None:
                halves.append(kept)
            else:
                others.append(path.name)
        return Stock(tuple(halves), tuple(unreadable), frozenset(others))

    def destroy(self, half: Half) -> None:
        """Destroy a half, durably.

        Args:
            half: The half.

        Raises:
            StoreError: It cannot be destroyed or noted; call `finish` to try again.
        """
        try:
            self.destroyed.add(half.key_id, half.until)
        finally:
            # Also if the disk is full, because this needs no space.
            self.erase(half)

    def erase(self, half: Half) -> None:
        """Destroy a half, durably, without noting it; another process may do the same at the same time.

        Args:
            half: The half.

        Raises:
            StoreError: It cannot be destroyed; call `finish_erasing` to try again.
        """
        path = self._directory / half.key_id
        with self._errors_reported(_shown(path), "destroyed"):
            _erase(path)

    def finish(self) -> None:
        """Complete what a process that was killed has begun: destroy halves on the list, and remove temporary files.

        Raises:
            StoreError: A file cannot be removed, or the directory cannot be read.
        """
        self.remove_leftovers()
        self.finish_erasing()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of processes that were killed.

        Raises:
            StoreError: A file cannot be removed, or the directory cannot be read.
        """
        with (
            self._errors_reported(f"the directory of epoch keys {quoted(self._directory)}", "read"),
            # Another process is creating a half, so the temporary file may not be a leftover; or there is no directory.
            contextlib.suppress(BlockingIOError, FileNotFoundError),
            self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB),
        ):
            for path in self._files(_NEW):
                with self._errors_reported(_shown(path), "destroyed"):
                    if self._is_ours(path):
                        _erase(path)

    def finish_erasing(self) -> None:
        """Destroy the halves on the list, and those that were overwritten and not removed.

        Raises:
            StoreError: A file cannot be removed, or the directory cannot be read.
        """
        destroyed = self.destroyed.ids()
        for path in self._files():
            # Another process may have removed it meanwhile.
            with self._errors_reported(_shown(path), "destroyed"), contextlib.suppress(FileNotFoundError):
                if path.name in destroyed or _is_blank(path):
                    _erase(path)

    def _is_ours(self, path: Path) -> bool:
        """Return whether an unfinished file may be this device's: it names no other device in full."""
        contents = read_regular(path, _MAX_BYTES)
        return self._name.text.encode().startswith(contents[_FORMAT.size :])

    @staticmethod
    def _is_being_destroyed(path: Path) -> bool:
        """Return whether another process has overwritten a file, and is about to remove it."""
        try:
            return _is_blank(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def has_file(self, key_id: str) -> bool:
        """Return whether there is a file for a key, which need not be readable.

        Args:
            key_id: The key's id.
        """
        return (self._directory / key_id).exists()

    def _files(self, ending: str = "") -> tuple[Path, ...]:
        """Return the files whose name is an id of a key with an ending."""
        with self._errors_reported(f"the directory of epoch keys {quoted(self._directory)}", "read"):
            try:
                names = os.listdir(self._directory)
            except FileNotFoundError:
                return ()
        found = [name for name in sorted(names) if name.endswith(ending) and _is_id(name.removesuffix(ending))]
        return tuple(self._directory / name for name in found)

    def _write(self, new: Path, path: Path, contents: bytes) -> None:
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            make_durable(self._directory)
        except OSError:
            for leftover in (new, path):
                with contextlib.suppress(OSError):
                    _erase(leftover)
            raise

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Hold a lock of the directory: a shared one while a half is created, an exclusive one to remove leftovers."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    def _make_directory(self) -> None:
        if not self._directory.is_dir():
            self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            make_durable(self._directory.parent)

    @contextlib.contextmanager
    def _errors_reported(self, what: str, participle: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{what} cannot be {participle}: {error.strerror}",
                directory_hint("EPOCH_PATH", self._directory, error),
            ) from error


def _shown(path: Path) -> str:
    return f"the epoch key {quoted(path)}"


def _erase(path: Path) -> None:
    """Overwrite a file, remove it, and make that durable; a file that does not exist is skipped."""
    try:
        descriptor = open_regular(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with open(descriptor, "wb", buffering=0) as file:
        file.write(bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    # Another process may have removed it.
    path.unlink(missing_ok=True)
    make_durable(path.parent)


def _is_blank(path: Path) -> bool:
    """Return whether a file was overwritten, and not removed."""
    contents = read_regular(path, _MAX_BYTES)
    return not contents.strip(b"\0")


def _is_id(text: str) -> bool:
    try:
        return len(base64url.decode(text)) == KEY_ID_OCTETS
    except ValueError:
        return False


def _damaged(path: Path) -> DamagedHalfError:
    return DamagedHalfError(
        f"the epoch key {quoted(path)} is damaged, and messages that are encrypted to it cannot be opened",
        "check the disk; remove the file",
    )
