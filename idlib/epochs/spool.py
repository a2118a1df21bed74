"""The spool of epoch records: a file in which the receiver says which records are to be published now.

The receiver writes it, because only the receiver has the private halves. The maintenance service reads it and publishes
the records, because only the maintenance service has the credential for DNS. The file's directory is one that they
share for this alone, EPOCH_SPOOL; it holds nothing that is secret, so that both may run as different users.

The file NAME.epochs has one record a line, as the text of its TXT record: what it lists is the complete set of epoch
records at `_epoch.NAME`. It is never empty. If there is no file, nothing is to be published or removed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from idlib.epochs.hints import directory_hint
from idlib.epochs.record import LONGEST_TEXT, MAX_RECORDS, SignedEpochRecord
from idlib.errors import MalformedRecordError, StoreError, permission_hint, quoted
from idlib.files import make_durable, read_regular, replace_durably
from idlib.names import IdentityName

# Everyone may read the records, as in DNS.
_FILE_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755
_MAX_BYTES: Final = MAX_RECORDS * (LONGEST_TEXT + 1)


def spool_path(directory: Path, name: IdentityName) -> Path:
    """Return the path of a device's spool.

    Args:
        directory: EPOCH_SPOOL.
        name: The device.
    """
    return directory / f"{name.text}.epochs"


def write_spool(directory: Path, name: IdentityName, records: Sequence[SignedEpochRecord]) -> None:
    """Replace the list of what is to be published, atomically and durably.

    A reader sees the list from before or from after, also if this process is killed. The caller has the private half of
    each record durably on its disk. One process may write the spool of a device.

    Args:
        directory: EPOCH_SPOOL; created if it is missing.
        name: The device.
        records: 1 to 8 records, of which no two are equal.

    Raises:
        StoreError: The spool cannot be written; it is unchanged.
        ValueError: There are no records, too many, or two equal ones.
    """
    texts = sorted({record.to_text() for record in records})
    if not 0 < len(texts) == len(records) <= MAX_RECORDS:
        raise ValueError(f"a spool of {len(records)} records")
    path = spool_path(directory, name)
    try:
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        replace_durably(path, b"".join(text + b"\n" for text in texts), _FILE_MODE)
    except OSError as error:
        raise StoreError(
            f"the epoch records cannot be written to {quoted(path)}: {error.strerror}",
            directory_hint("EPOCH_SPOOL", directory, error),
        ) from error


def remove_spool(directory: Path, name: IdentityName) -> None:
    """Remove the list, so that nothing more is published; what is in DNS stays there.

    Args:
        directory: EPOCH_SPOOL.
        name: The device.

    Raises:
        StoreError: The spool cannot be removed.
    """
    path = spool_path(directory, name)
    try:
        if path.exists():
            path.unlink()
            make_durable(directory)
    except OSError as error:
        raise StoreError(
            f"{quoted(path)} cannot be removed: {error.strerror}", permission_hint(directory, "messaging_receiver")
        ) from error


def read_spool(directory: Path, name: IdentityName) -> tuple[SignedEpochRecord, ...] | None:
    """Return the records that are to be published now, in the order of their bytes; None if there is no spool.

    Neither their signatures nor their times are checked: before the reader publishes them, it must check that the key
    in the device's certificate has signed each.

    Args:
        directory: EPOCH_SPOOL.
        name: The device.

    Raises:
        StoreError: The spool cannot be read, or has content that `write_spool` does not write.
    """
    path = spool_path(directory, name)
    try:
        contents = read_regular(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"the epoch records in {quoted(path)} cannot be read: {error.strerror}",
            "set EPOCH_SPOOL to the directory that the receiver writes to",
        ) from error
    lines = contents.split(b"\n")
    end = lines.pop()
    try:
        records = tuple(map(SignedEpochRecord.from_text, lines))
    except MalformedRecordError as error:
        raise _damaged(path, error.fact) from error
    if end or lines != sorted(set(lines)) or not 0 < len(lines) <= MAX_RECORDS:
        raise _damaged(path, f"it is not a list of 1 to {MAX_RECORDS} records")
    return records


def no_spool(directory: Path, name: IdentityName) -> StoreError:
    """Return the error that there is no list, although there should be one.

    Args:
        directory: EPOCH_SPOOL.
        name: The device.
    """
    return StoreError(
        f"the receiver has left no epoch record: there is no {quoted(spool_path(directory, name))}",
        "start the receiver with EPOCH_KEYS=on and the same EPOCH_SPOOL, and wait a minute",
    )


def _damaged(path: Path, fact: str) -> StoreError:
    return StoreError(f"{quoted(path)} is damaged: {fact}", "remove it; the receiver writes it again within a minute")
