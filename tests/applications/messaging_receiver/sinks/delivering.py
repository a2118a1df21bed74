"""Messages and pipes for tests of sinks."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from messaging_receiver.ending import Ending
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate, Sink
from messaging_receiver.standard_output import StandardOutput
from tests.applications.messaging_receiver.world import ALICE


def message(content: str | bytes = "hello", content_type: str | None = None, *, bound: bool = True) -> ReceivedMessage:
    octets = content.encode() if isinstance(content, str) else content
    return ReceivedMessage(
        ALICE, octets, content_type, "an-id" if bound else None, 1_800_000_000 if bound else None, 1_800_000_001.0
    )


@dataclass
class Pipes:
    """A stopping event, and pipes in place of stdin and stdout."""

    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.ending = Ending(self.stopping)
        self.stdin, self.answer = os.pipe()
        self.printed, self.writer = os.pipe()
        self.stdout = StandardOutput(self.stopping, self.writer)

    def line(self) -> bytes:
        """Return the next line on stdout; one that fits into a page is read whole."""
        return os.read(self.printed, 4096)


@contextmanager
def open_pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    # The end that is written first: a thread that still reads from stdin would read what the next test opens under the
    # same number.
    for descriptor in (pipes.answer, pipes.writer):
        close(descriptor)
    for thread in threading.enumerate():
        if thread.name == "Confirmations":
            thread.join(20)
    for descriptor in (pipes.stdin, pipes.printed):
        close(descriptor)


def close(descriptor: int) -> None:
    """Close a descriptor, unless a test has done so.

    Args:
        descriptor: The descriptor.
    """
    with suppress(OSError):
        os.close(descriptor)


def problem_of(sink: Sink) -> str | None:
    """Return the problem of a sink as it is now; mypy takes an attribute to be what it was before."""
    return sink.problem


class Delivery:
    """A message that a thread delivers to a sink."""

    def __init__(self, sink: Sink, received: ReceivedMessage) -> None:
        self.fate: Fate | None = None

        def deliver() -> None:
            self.fate = sink.deliver(received)

        self._thread = threading.Thread(target=deliver, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> Fate | None:
        self._thread.join(20)
        assert self.is_over
        return self.fate
