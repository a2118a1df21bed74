"""What reaches a pipe at once, for a kill comes between two writes."""

import fcntl
import os
import select
import threading
from collections.abc import Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from messaging_receiver.standard_output import StandardOutput

# Twice what the largest example takes.
_PIPE_OCTETS: Final = 256 * 1024
_LINES = st.lists(st.integers(0, 3 * select.PIPE_BUF).map(lambda size: size * b"x" + b"\n"), min_size=1, max_size=8)


def writes_of(octets: bytes) -> Sequence[bytes]:
    """Return what each write to a pipe was."""
    # Such a pipe keeps writes apart, each on a page of its own.
    reader, writer = os.pipe2(os.O_DIRECT)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_OCTETS)
    try:
        assert StandardOutput(threading.Event(), writer).write(octets)
        os.set_blocking(reader, False)
        found: list[bytes] = []
        while sum(map(len, found)) < len(octets):
            found.append(os.read(reader, len(octets)))
        return found
    finally:
        os.close(reader)
        os.close(writer)


@given(_LINES)
def test_a_line_that_a_pipe_takes_at_once_is_never_torn(lines: list[bytes]) -> None:
    octets = b"".join(lines)
    writes = writes_of(octets)
    assert b"".join(writes) == octets
    ends = {sum(map(len, writes[:number])) for number in range(len(writes) + 1)}
    start = 0
    for line in lines:
        if len(line) <= select.PIPE_BUF:
            assert not any(start < end < start + len(line) for end in ends)
        start += len(line)
