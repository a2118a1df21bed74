"""Creates a new file from the readable rows of a damaged one, and moves the damaged one aside."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from idlib.errors import MalformedNameError
from idlib.files import make_durable
from idlib.names import IdentityName
from idlib.storage.pages import Record, Value, records

# The suffixes of the files that SQLite creates beside a database.
LOG: Final = "-wal"
# The side files are moved with the database; a journal exists only while another program writes to it.
JOURNAL: Final = "-journal"
SIDE_FILES: Final = (LOG, "-shm")
_NEW_FILE: Final = ".salvaged"
_MARK: Final = ".damaged-"
MAX_DAMAGED_FILES: Final = 4
_MAX_SAME_SECOND: Final = 1000

Key = TypeVar("Key", int, bytes, tuple[int, int, bytes])

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "number": (int,),
    "integer": (int,),
    "integer or null": (int, type(None)),
    "real": (int, float),
    "text": (str,),
    "text or blob": (str, bytes),
    "blob": (bytes,),
    "blob or null": (bytes, type(None)),
}


@dataclass(frozen=True, slots=True)
class Table:
    """What the rows of a table look like, so that they can be recognized among the records of a file.

    Args:
        name: The name of the table.
        columns: For each column a key of `_KINDS`; `number` is the column that is an alias of the rowid.
        is_plausible: Returns whether this program can have written a row, which is complete and has the right kinds of
            values; may raise ValueError instead of returning False.
    """

    name: str
    columns: Sequence[str]
    is_plausible: Callable[[tuple[Value, ...]], bool] = lambda _: True

    def row(self, record: Record) -> tuple[Value, ...] | None:
        """Return the row in a record, or None if the record belongs to another table or is damaged.

        Args:
            record: A record from the file.
        """
        values = record.values
        if len(values) != len(self.columns) or (record.number is None) == ("number" in self.columns):
            return None
        if record.number is not None:
            place = self.columns.index("number")
            values = (*values[:place], record.number, *values[place + 1 :])
        return values if self.accepts(values) else None

    def accepts(self, row: Sequence[Value]) -> bool:
        """Return whether this program can have written a row.

        Args:
            row: Every column.
        """
        for column, value in zip(self.columns, row, strict=True):
            if not isinstance(value, _KINDS[column]):
                return False
        try:
            return self.is_plausible(tuple(row))
        except ValueError:
            return False

    def check(self, row: Sequence[Value]) -> None:
        """Raise an error if this program cannot have written a row.

        Args:
            row: Every column.

        Raises:
            ValueError: This program cannot have written it.
        """
        if not self.accepts(row):
            raise ValueError(f"a row of the table {self.name} has unexpected contents")


def check_ascending(keys: Iterable[Key], after: Key) -> None:
    """Raise an error unless keys ascend, as they do in the result of an ordered query.

    On a damaged file SQLite can return rows again, and a loop that continues from the last key would never end.

    Args:
        keys: The keys of the rows, in the order in which the query returned them.
        after: The key from which the query continued.

    Raises:
        ValueError: A key is not greater than the one before it.
    """
    last = after
    for key in keys:
        if key <= last:
            raise ValueError("rows are out of order")
        last = key


def is_name(value: Value) -> bool:
    """Return whether a column has the name of a device in the form in which this program writes it.

    Args:
        value: The value of the column.
    """
    try:
        return isinstance(value, str) and str(IdentityName(value)) == value
    except MalformedNameError:
        return False


def beside(path: Path, end: str) -> Path:
    """Return the path with a suffix added to the file name.

    Args:
        path: The path.
        end: The suffix.
    """
    return path.with_name(f"{path.name}{end}")


def resolved(path: Path) -> Path:
    """Return the target of a symbolic link: SQLite creates its side files beside the target.

    Args:
        path: A file or a link to one; a path that is not itself a link is returned unchanged.
    """
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def new_file(path: Path) -> Path:
    """Return the path at which the replacement for a damaged file is created.

    Args:
        path: The damaged file.
    """
    return beside(path, _NEW_FILE)


def finish_replacement(path: Path) -> None:
    """Finish a replacement that a crash interrupted, or remove the unfinished new file.

    Args:
        path: The file that was to be replaced.

    Raises:
        OSError: A file cannot be renamed or removed.
    """
    new = new_file(path)
    if not new.exists():
        return
    if path.exists():
        new.unlink()
        return
    # The new file was complete before the damaged one was moved.
    _move_aside(path, _begun_aside(path) or aside(path))
    new.rename(path)


def copy_rows(
    database: int,
    log: bytes,
    new: Path,
    schema: str,
    version: int,
    page_bytes: int,
    tables: Sequence[Table],
    finish: Callable[[sqlite3.Connection], None],
) -> int:
    """Copy the readable rows to a new file, durably, and return how many rows were copied.

    Args:
        database: The descriptor of the damaged file.
        log: Its whole WAL.
        new: The path of the new file, which exists and is empty.
        schema: SQL that creates the tables.
        version: The version of the schema.
        page_bytes: The size of a page of the new file.
        tables: The tables to copy.
        finish: Called before the new file is committed.

    Raises:
        OSError: A file cannot be read or written.
        sqlite3.Error: The new file cannot be written.
    """
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
        # No journal and no syncs: the new file is used only once it is complete.
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.executescript(f"BEGIN; {schema}")
        inserts = {
            table.name: f"INSERT OR IGNORE INTO {table.name} VALUES ({', '.join('?' * len(table.columns))})"  # noqa: S608
            for table in tables
        }
        number = 0
        for table, row in _rows(database, log, tables):
            number += connection.execute(inserts[table.name], row).rowcount
        finish(connection)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    make_durable(new)
    return number


def replace(path: Path) -> Path:
    """Move a damaged file aside, put the new one in its place, and return the new path of the damaged one.

    Args:
        path: The damaged file.

    Raises:
        OSError: A file cannot be renamed.
    """
    for old in _damaged_files(path)[: -(MAX_DAMAGED_FILES - 1)]:
        for end in ("", *SIDE_FILES):
            beside(old, end).unlink(missing_ok=True)
    target = aside(path)
    _move_aside(path, target)
    new_file(path).rename(path)
    make_durable(path.parent)
    return target


def aside(path: Path) -> Path:
    """Return an unused path to which a damaged file can be moved.

    Args:
        path: The damaged file.
    """
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    for number in range(1, _MAX_SAME_SECOND):
        target = beside(path, f"{_MARK}{moment}{f'.{number}' if number > 1 else ''}")
        if not any(beside(target, end).exists() for end in ("", *SIDE_FILES)):
            return target
    raise FileExistsError(f"{path.name}{_MARK}{moment}")


def _begun_aside(path: Path) -> Path | None:
    """Return where a damaged file is if a crash came before all its side files were moved."""
    moved = _damaged_files(path)
    if not moved or not moved[-1].exists():
        return None
    would_overwrite = any(beside(path, end).exists() and beside(moved[-1], end).exists() for end in SIDE_FILES)
    return None if would_overwrite else moved[-1]


def _damaged_files(path: Path) -> list[Path]:
    """Return the files that were moved aside before, the oldest first; of some, only side files are left."""
    moved_at: dict[Path, int] = {}
    for found in path.parent.glob(f"{path.name}{_MARK}*"):
        file = _without_side_end(found)
        # The ctime is the only time of a file that renaming changes.
        moved_at[file] = max(moved_at.get(file, 0), found.stat().st_ctime_ns)
    return sorted(moved_at, key=moved_at.__getitem__)


def _without_side_end(path: Path) -> Path:
    for end in SIDE_FILES:
        if path.name.endswith(end):
            return path.with_name(path.name.removesuffix(end))
    return path


def _move_aside(path: Path, target: Path) -> None:
    for end in ("", *SIDE_FILES):
        with contextlib.suppress(FileNotFoundError):
            beside(path, end).rename(beside(target, end))


def _rows(database: int, log: bytes, tables: Sequence[Table]) -> Iterator[tuple[Table, tuple[Value, ...]]]:
    for record in records(database, log):
        for table in tables:
            row = table.row(record)
            if row is not None:
                yield table, row
                break
