"""Frames: byte strings that are sent together over a socket.

A frame is the number of its fields, the sum of their lengths, the length of each, and the fields. Nothing in it is
executed or evaluated, because fields hold what strangers have written.
"""

import socket
import struct
from collections.abc import Sequence
from typing import Final, Protocol

_HEAD: Final = struct.Struct("!IQ")
_LENGTH_BYTES: Final = 4
_BUFFER_BYTES: Final = 65536


class LostPeer(Exception):
    """The process at the other end has ended or does not answer.

    Args:
        is_late: Whether it is only late.
    """

    def __init__(self, *, is_late: bool = False) -> None:
        super().__init__()
        self.is_late = is_late


class Reader(Protocol):
    """A binary file."""

    def read(self, size: int, /) -> bytes:
        """Return that many bytes, or fewer at the end."""


def pack(fields: Sequence[bytes]) -> bytes:
    """Return a frame.

    Args:
        fields: At most 2^32-1 fields, each of at most 2^32-1 bytes.
    """
    lengths = [len(field) for field in fields]
    return b"".join((_HEAD.pack(len(fields), sum(lengths)), struct.pack(f"!{len(fields)}I", *lengths), *fields))


def read(reader: Reader) -> list[bytes] | None:
    """Return the fields of the next frame; None at the end.

    Args:
        reader: Where the frame comes from.

    Raises:
        EOFError: The frame is incomplete.
        ValueError: Its lengths contradict each other.
    """
    head = reader.read(_HEAD.size)
    if not head:
        return None
    number, total = _HEAD.unpack(_whole(head, _HEAD.size))
    body = _whole(reader.read(number * _LENGTH_BYTES + total), number * _LENGTH_BYTES + total)
    lengths = struct.unpack_from(f"!{number}I", body)
    if sum(lengths) != total:
        raise ValueError("the lengths of a frame contradict each other")
    fields = []
    start = number * _LENGTH_BYTES
    for length in lengths:
        fields.append(body[start : start + length])
        start += length
    return fields


class Channel:
    """A connection between the receiver and one of its worker processes.

    Args:
        connection: A connected stream socket, closed by `close`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb", buffering=_BUFFER_BYTES)

    @property
    def is_open(self) -> bool:
        """Whether the process at the other end has not closed it; call this only while no frame is expected."""
        try:
            self._socket.settimeout(0.0)
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def send(self, fields: Sequence[bytes], seconds: float | None = None) -> None:
        """Send a frame.

        Args:
            fields: Its fields.
            seconds: How long to wait for room; None for any time.

        Raises:
            LostPeer: The other end is closed, or does not read in time.
        """
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(pack(fields))
        except OSError as error:
            raise LostPeer(is_late=isinstance(error, TimeoutError)) from error

    def receive(self, seconds: float | None = None) -> list[bytes]:
        """Return the fields of the next frame.

        Args:
            seconds: How long to wait for it; None for any time.

        Raises:
            LostPeer: The other end is closed, or sends nothing in time.
        """
        try:
            self._socket.settimeout(seconds)
            fields = read(self._reader)
        except (OSError, EOFError, ValueError) as error:
            raise LostPeer(is_late=isinstance(error, TimeoutError)) from error
        if fields is None:
            raise LostPeer
        return fields

    def close(self) -> None:
        """Close this end."""
        self._reader.close()
        self._socket.close()


def _whole(octets: bytes, size: int) -> bytes:
    if len(octets) != size:
        raise EOFError
    return octets
