"""Reads the rows of an SQLite file page by page, so that a damaged page loses only the rows on it.

SQLite itself reaches a row through the pages above it, and fails at the first damaged one. This module reads every page
independently, in the newest version that the file or its write-ahead log (WAL) has.
The format: https://www.sqlite.org/fileformat2.html
"""

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"SQLite format 3\0"
# What our files have, the smallest first, in case no header can be read.
_USUAL_PAGE_BYTES: Final = (512, 4096)
_PAGES_TRIED: Final = 256
_POSSIBLE_PAGE_BYTES: Final = frozenset(1 << power for power in range(9, 17))
_FILE_HEADER_BYTES: Final = 100
_USER_VERSION: Final = slice(60, 64)
_TABLE_LEAF: Final = 0x0D
_INDEX_LEAF: Final = 0x0A
_INDEX_INTERIOR: Final = 0x02
_WAL_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
# Represents the header among the frames; no page, not even a zeroed one, has this number.
_DAMAGED_HEADER: Final = -1
# The lowest bit gives the byte order of the checksums.
_WAL_MAGIC: Final = 0x377F0682
_WORD: Final = 0xFFFFFFFF
# A power cut can damage the transactions that were not on the disk yet: one that is being synced, and one before it,
# of `ReplayMemory.tidy`, which is synced only after its commit.
_UNSAFE_COMMITS: Final = 2
_MAX_COLUMNS: Final = 64
_LENGTHS_OF_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_REAL: Final = 7
_FIRST_LENGTH_TYPE: Final = 12

Value = int | float | str | bytes | None


class _Unreadable(Exception):  # never leaves this module
    """A cell or one of its overflow pages is damaged."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table, or one entry of an index.

    Args:
        number: The row's number (rowid); None for an entry of an index or a row of a table WITHOUT ROWID.
        values: The columns; a column that is an alias of the rowid is None.
    """

    number: int | None
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """One page in the WAL.

    Args:
        page: Its number in the file.
        begin: The offset of its content in the WAL.
        is_commit: Whether it is the last frame of a transaction.
        is_intact: Whether its checksum is correct.
    """

    page: int
    begin: int
    is_commit: bool
    is_intact: bool


def is_log_damaged(log: bytes) -> bool:
    """Return whether a WAL has a transaction that was on the disk but that SQLite would not find.

    SQLite stops at the first damaged frame. The end of a log after a power cut does not count as damage: those
    transactions were never reported as written.

    Args:
        log: The whole WAL.
    """
    return any(not frame.is_intact for frame in _written(_frames(log)))


def user_version(database: int, log: bytes) -> int:
    """Return the schema version stored in the file; 0 if its first page cannot be read.

    Args:
        database: The descriptor of the file.
        log: Its whole WAL; empty if there is none.
    """
    page = _Reader(database, log).page(1)
    return int.from_bytes(page[_USER_VERSION]) if page.startswith(_MAGIC) else 0


def records(database: int, log: bytes) -> Iterator[Record]:
    """Yield every readable record; an older version of a row may follow the newest one.

    Args:
        database: The descriptor of the file.
        log: Its whole WAL; empty if there is none.
    """
    reader = _Reader(database, log)
    free = reader.free_pages()
    for number in range(1, reader.number_of_pages + 1):
        if number not in free:
            yield from reader.records_of(number)
    # If the list of free pages is damaged, it may include pages that are in use.
    for number in sorted(free):
        yield from reader.records_of(number)


class _Reader:
    def __init__(self, database: int, log: bytes) -> None:
        self._database = database
        self._log = log
        header = os.pread(database, _FILE_HEADER_BYTES, 0)
        self._size = _page_size(header, log) or _likely_page_size(database)
        pages = -(-os.fstat(database).st_size // self._size)
        # Each frame adds at most one page to the file. Ignore higher page numbers: they come from damaged frames.
        most = pages + len(log) // self._size
        self._frames = {page: frame for page, frame in _newest_frames(log).items() if page <= most}
        self.number_of_pages = max([pages, *self._frames])

    def page(self, number: int) -> bytes:
        """Return the newest version of a page; if it is truncated, the rest is zeros."""
        frame = self._frames.get(number)
        if frame is not None:
            return self._log[frame.begin : frame.begin + self._size]
        return os.pread(self._database, self._size, (number - 1) * self._size).ljust(self._size, b"\0")

    def free_pages(self) -> set[int]:
        """Return the pages on the list of free pages, which may still have deleted rows."""
        free: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36]) if self.number_of_pages else 0
        while 1 < trunk <= self.number_of_pages and trunk not in free:
            free.add(trunk)
            page = self.page(trunk)
            count = min(int.from_bytes(page[4:8]), self._size // 4 - 2)
            leaves = struct.unpack_from(f">{count}I", page, 8)
            free.update(leaf for leaf in leaves if 1 < leaf <= self.number_of_pages)
            trunk = int.from_bytes(page[:4])
        return free

    def records_of(self, number: int) -> Iterator[Record]:
        """Yield the readable records of a page; none if the page is of a kind that has no records."""
        page = self.page(number)
        begin = _FILE_HEADER_BYTES if number == 1 else 0
        kind = page[begin]
        if kind not in {_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR}:
            return
        count = int.from_bytes(page[begin + 3 : begin + 5])
        pointers = begin + (12 if kind == _INDEX_INTERIOR else 8)
        for place in range(pointers, min(pointers + 2 * count, self._size - 1), 2):
            try:
                yield self._record(page, int.from_bytes(page[place : place + 2]), kind)
            except _Unreadable:
                continue

    def _record(self, page: bytes, place: int, kind: int) -> Record:
        if kind == _INDEX_INTERIOR:
            place += 4
        length, place = _varint(page, place)
        number = None
        if kind == _TABLE_LEAF:
            number, place = _varint(page, place)
            number -= (number >> 63) << 64
        payload = self._payload(page, place, length, kind)
        return Record(number, _values(payload))

    def _payload(self, page: bytes, place: int, length: int, kind: int) -> bytes:
        # SQLite can reserve bytes at the end of each page; our files have none.
        usable = self._size
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if length <= most:
            return _slice(page, place, length)
        if length > self.number_of_pages * usable:
            raise _Unreadable
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        if local > most:
            local = least
        parts = [_slice(page, place, local)]
        following = int.from_bytes(_slice(page, place + local, 4))
        left = length - local
        while left > 0:
            if not 1 < following <= self.number_of_pages:
                raise _Unreadable
            overflow = self.page(following)
            if not any(overflow):
                # This write was lost; the zeros would be mistaken for text.
                raise _Unreadable
            parts.append(overflow[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            following = int.from_bytes(overflow[:4])
        if following:
            raise _Unreadable
        return b"".join(parts)


def _page_size(header: bytes, log: bytes) -> int | None:
    claimed = [int.from_bytes(log[8:12])]
    if header.startswith(_MAGIC):
        size = int.from_bytes(header[16:18])
        claimed.insert(0, 65536 if size == 1 else size)
    return next((size for size in claimed if size in _POSSIBLE_PAGE_BYTES), None)


def _likely_page_size(database: int) -> int:
    """Return the smallest usual size with which most pages begin as SQLite's do, or else the largest."""
    for size in _USUAL_PAGE_BYTES:
        pages = [os.pread(database, size, number * size) for number in range(1, _PAGES_TRIED)]
        used = [page for page in pages if any(page)]
        if 2 * sum(_has_records(page) for page in used) > len(used):
            return size
    return _USUAL_PAGE_BYTES[-1]


def _likely_page_size_of_log(log: bytes) -> int:
    """Return the usual size with which the most frames have the salts of the one before, which all frames share."""

    def likelihood(size: int) -> tuple[int, bool, int]:
        step = size + _FRAME_HEADER_BYTES
        begins = range(_WAL_HEADER_BYTES, min(len(log) - step + 1, _PAGES_TRIED * step), step)
        salts = [log[begin + 8 : begin + 16] for begin in begins]
        alike = sum(one == other and any(one) for one, other in itertools.pairwise(salts))
        return alike, len(salts) > 0, size

    return max(_USUAL_PAGE_BYTES, key=likelihood)


def _has_records(page: bytes) -> bool:
    if page[0] not in {_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR}:
        return False
    count, content = struct.unpack_from(">HH", page.ljust(_FRAME_HEADER_BYTES, b"\0"), 3)
    return bool(2 * count < content <= len(page))


def _frames(log: bytes) -> list[_Frame]:
    """Return the frames written since the WAL was last reset; older frames have other salts."""
    if len(log) < _WAL_HEADER_BYTES + _FRAME_HEADER_BYTES:
        return []
    header = log[:_WAL_HEADER_BYTES]
    magic = int.from_bytes(header[:4])
    order = ">" if magic == _WAL_MAGIC | 1 else "<"
    size = int.from_bytes(header[8:12])
    is_header_intact = (
        magic & ~1 == _WAL_MAGIC
        and size in _POSSIBLE_PAGE_BYTES
        and _checksum(header[:24], (0, 0), order) == struct.unpack(">II", header[24:])
    )
    if not is_header_intact:
        size = _likely_page_size_of_log(log)
    first = log[_WAL_HEADER_BYTES : _WAL_HEADER_BYTES + _FRAME_HEADER_BYTES]
    salts = header[16:24] if is_header_intact else first[8:16]
    before = struct.unpack(">II", header[24:]) if is_header_intact else None
    frames = []
    for begin in range(_WAL_HEADER_BYTES, len(log) - size - _FRAME_HEADER_BYTES + 1, size + _FRAME_HEADER_BYTES):
        page, pages_after_commit = struct.unpack_from(">II", log, begin)
        own = struct.unpack_from(">II", log, begin + 16)
        content = log[begin + _FRAME_HEADER_BYTES : begin + _FRAME_HEADER_BYTES + size]
        is_intact = (
            log[begin + 8 : begin + 16] == salts
            and page > 0
            # If the header is damaged, the checksum of the first frame cannot be verified.
            and (before is None or _checksum(content, _checksum(log[begin : begin + 8], before, order), order) == own)
        )
        frames.append(_Frame(page, begin + _FRAME_HEADER_BYTES, pages_after_commit > 0, is_intact))
        before = own
    if not is_header_intact and frames:
        frames.insert(0, _Frame(_DAMAGED_HEADER, 0, is_commit=False, is_intact=False))
    return frames


def _written(frames: list[_Frame]) -> list[_Frame]:
    """Return the frames up to the last commit that was on the disk.

    After the first damaged frame, a run of intact frames counts, with everything before it, if it has more commits than
    a power cut can leave unsynced. A shorter run may be left over from a power cut, and was never reported as written.
    """
    # Frames are written only after the header is on the disk, so a damaged header was damaged later.
    is_certain = True
    end = commits = 0
    for number, frame in enumerate(frames):
        if not frame.is_intact:
            is_certain = frame.page == _DAMAGED_HEADER
            commits = 0
        elif frame.is_commit:
            commits += 1
            if is_certain or commits > _UNSAFE_COMMITS:
                end = number + 1
    return frames[:end]


def _newest_frames(log: bytes) -> dict[int, _Frame]:
    newest: dict[int, _Frame] = {}
    pending: dict[int, _Frame] = {}
    for frame in _written(_frames(log)):
        if not frame.is_intact:
            continue
        pending[frame.page] = frame
        if frame.is_commit:
            newest.update(pending)
            pending.clear()
    return newest


def _checksum(data: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = before
    for one, other in struct.iter_unpack(f"{order}II", data):
        first = (first + one + second) & _WORD
        second = (second + other + first) & _WORD
    return first, second


def _values(payload: bytes) -> tuple[Value, ...]:
    header_size, place = _varint(payload, 0)
    if not place <= header_size <= len(payload):
        raise _Unreadable
    kinds = []
    while place < header_size:
        kind, place = _varint(payload, place)
        kinds.append(kind)
        if len(kinds) > _MAX_COLUMNS:
            raise _Unreadable
    if place != header_size:
        raise _Unreadable
    values = []
    for kind in kinds:
        value, place = _value(payload, place, kind)
        values.append(value)
    if place != len(payload):
        raise _Unreadable
    return tuple(values)


def _value(payload: bytes, place: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, place
    if kind in _LENGTHS_OF_INTEGERS:
        length = _LENGTHS_OF_INTEGERS[kind]
        return int.from_bytes(_slice(payload, place, length), signed=True), place + length
    if kind == _REAL:
        return float(struct.unpack(">d", _slice(payload, place, 8))[0]), place + 8
    if kind in {8, 9}:
        return kind - 8, place
    if kind < _FIRST_LENGTH_TYPE:
        raise _Unreadable
    length = (kind - _FIRST_LENGTH_TYPE) // 2
    data = _slice(payload, place, length)
    if kind % 2 == 0:
        return data, place + length
    try:
        return data.decode(), place + length
    except UnicodeDecodeError:
        raise _Unreadable from None


def _varint(data: bytes, place: int) -> tuple[int, int]:
    if place < len(data) and data[place] < 0x80:
        return data[place], place + 1
    value = 0
    for count in range(9):
        if place >= len(data):
            raise _Unreadable
        byte = data[place]
        place += 1
        if count == 8:
            return (value << 8) | byte, place
        value = (value << 7) | (byte & 0x7F)
        if not byte & 0x80:
            break
    return value, place


def _slice(data: bytes, begin: int, length: int) -> bytes:
    part = data[begin : begin + length]
    if len(part) != length:
        raise _Unreadable
    return part
