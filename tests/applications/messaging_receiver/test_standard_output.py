"""What each write to a pipe contains: a kill between two writes must not split a line."""

import fcntl
import os
import select
import threading
from collections.abc import Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from messaging_receiver.standard_output import StandardOutput

# Twice as much as the largest example needs.
_PIPE_BYTES: Final = 256 * 1024
_LINES = st.lists(st.integers(0, 3 * select.PIPE_BUF).map(lambda size: size * b"x" + b"\n"), min_size=1, max_size=8)


def writes_of(content: bytes) -> Sequence[bytes]:
    """Return the content of each write to a pipe."""
    # A pipe in packet mode keeps writes separate.
    reader, writer = os.pipe2(os.O_DIRECT)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    try:
        assert StandardOutput(threading.Event(), writer).write(content)
        os.set_blocking(reader, False)
        found: list[bytes] = []
        while sum(map(len, found)) < len(content):
            found.append(os.read(reader, len(content)))
        return found
    finally:
        os.close(reader)
        os.close(writer)


@given(_LINES)
def test_a_line_that_fits_into_one_write_is_never_split(lines: list[bytes]) -> None:
    content = b"".join(lines)
    writes = writes_of(content)
    assert b"".join(writes) == content
    ends = {sum(map(len, writes[:number])) for number in range(len(writes) + 1)}
    start = 0
    for line in lines:
        if len(line) <= select.PIPE_BUF:
            assert not any(start < end < start + len(line) for end in ends)
        start += len(line)
