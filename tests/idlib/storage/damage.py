"""Helpers that fill the stores, read them completely and damage their files."""

import hashlib
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from idlib.storage import Printed, Remembered, ReplayEntry, WaitingMessage
from idlib.storage.database import Database
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import WaitingMessages

PAGE: Final = 4096
REPLAY_PAGE: Final = 512
# Earlier than the time at which the tests write the files.
NOW: Final = 1_790_000_000
NAMES: Final = [f"sender-{number}.example" for number in range(40)]
# Some texts take several pages.
SIZES: Final = (20, 300, 3000, 12_000)


class AlteredError(Exception):
    """A store returned a message that differs from the stored one."""


def entry(number: int) -> ReplayEntry:
    issued_at = None if number % 5 == 0 else NOW - 1000 + number % 900
    return ReplayEntry(NAMES[number % len(NAMES)], hashlib.sha256(str(number).encode()).digest()[:16], issued_at)


def waiting_message(number: int) -> WaitingMessage:
    signed = f"<{number}>" * (SIZES[number % len(SIZES)] // 5)
    digest = hashlib.sha256(signed.encode()).digest()
    return WaitingMessage(
        number=number,
        sender=NAMES[number % 40],
        signed=signed,
        digest=digest,
        identifier=digest[:16],
        issued_at=NOW,
        received_at=NOW + 0.5,
        deferred_at=1.5,
        is_asked_again=False,
        is_reserved=True,
    )


def short_message(number: int) -> WaitingMessage:
    """Return a message of which four fit on a page."""
    return replace(waiting_message(4 * number), number=number, signed="x" * 900)


def outgoing(number: int) -> NewOutgoingMessage:
    text = f"<ü {number}>" * (SIZES[number % len(SIZES)] // 5)
    lifetime = None if number % 2 else 60
    if number % 3 == 0:
        content = b"\xff\0" + text.encode()
        return NewOutgoingMessage(
            NAMES[number % 40], f"id {number}", content, NOW, lifetime, content_type='image/x; a="b"'
        )
    return NewOutgoingMessage(NAMES[number % 40], f"id {number}", text, NOW, lifetime)


def fill_replay(directory: Path) -> None:
    with ReplayMemory(directory) as store:
        store.fact("client_id", "c" * 32)
        for begin in range(0, 2000, 100):
            printed = [Printed(entry(number), "example", b"key") for number in range(begin, begin + 100)]
            store.remember(printed, NOW)


def read_replay(directory: Path) -> set[object]:
    with ReplayMemory(directory) as store:
        return {number for number in range(2000) if store.verdict(entry(number)) is Remembered.PRINTED}


def fill_waiting(directory: Path) -> None:
    with WaitingMessages(directory) as store:
        for number in range(1, 101):
            store.change([waiting_message(number)], ())


def read_waiting(directory: Path) -> set[object]:
    with WaitingMessages(directory) as store:
        numbers = [one.number for one in store.index()]
        found = store.read(numbers)
        if not set(found) <= {waiting_message(number) for number in range(1, 101)}:
            raise AlteredError
        return {one.number for one in found}


def _facts(message: NewOutgoingMessage) -> tuple[object, ...]:
    return message.recipient, message.content, message.content_type


def fill_outbox(directory: Path) -> None:
    with Outbox(directory) as store:
        for number in range(1, 101):
            store.put(outgoing(number))


def read_outbox(directory: Path) -> set[object]:
    numbers = {outgoing(number).identifier: number for number in range(3000)}
    with Outbox(directory) as store:
        found: set[object] = set()
        for recipient in store.recipients():
            last = 0
            while (message := store.next_to(recipient, last)) is not None:
                last = message.number
                number = numbers.get(message.identifier)
                if number is None or _facts(message) != _facts(outgoing(number)):
                    raise AlteredError
                found.add(number)
        return found


@dataclass(frozen=True)
class Kind:
    """One of the stores, and how to fill it and read it completely."""

    name: str
    fill: Callable[[Path], None]
    read: Callable[[Path], set[object]]
    number: int

    def path(self, directory: Path) -> Path:
        return directory / self.name


KINDS: Final = {
    "replay": Kind("replay.sqlite3", fill_replay, read_replay, 2000),
    "waiting": Kind("waiting.sqlite3", fill_waiting, read_waiting, 100),
    "outbox": Kind("outbox.sqlite3", fill_outbox, read_outbox, 100),
}


def page_bytes(path: Path) -> int:
    """Return the size of a page of a store's file."""
    return REPLAY_PAGE if path.name.startswith("replay") else PAGE


def overwrite(path: Path, pages: list[int], content: bytes | None = None) -> None:
    size = page_bytes(path)
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(content or b"\xa5" * size)


def number_of_pages(path: Path) -> int:
    return path.stat().st_size // page_bytes(path)


def aside(path: Path) -> list[Path]:
    return sorted(one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith(("-wal", "-shm")))


def run_and_kill(directory: Path, store: str, statements: str) -> None:
    program = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from tests.idlib.storage.damage import *
        store = {store}(Path({str(directory)!r}))
        {statements}
        os.kill(os.getpid(), {signal.SIGKILL})
        """)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def within_seconds(call: Callable[[], object]) -> None:
    """Call in a thread, so that a call that never returns fails the test; raise what the call raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


LATE: Final = {
    "replay": (
        "ReplayMemory",
        "store.remember([Printed(entry(number), 'example', b'key') for number in range(50)], 1)",
    ),
    "waiting": ("WaitingMessages", "[store.change([waiting_message(number)], ()) for number in range(1, 51)]"),
    "outbox": ("Outbox", "[store.put(outgoing(number)) for number in range(1, 51)]"),
}

OPEN: Final[dict[str, Callable[[Path], Database]]] = {
    "replay": ReplayMemory,
    "waiting": WaitingMessages,
    "outbox": Outbox,
}
# A change to a store of each kind that can be made many times.
WRITE: Final = {
    "replay": ("ReplayMemory", "[store.set_fact(f'fact {n}', 'x') for n in range(40)]"),
    "waiting": ("WaitingMessages", "[store.change([short_message(n)], ()) for n in range(1, 40)]"),
    "outbox": ("Outbox", "[store.put(outgoing(n)) for n in range(1, 40)]"),
}
