"""What must survive a restart: printed messages, messages deferred for DNS, and messages queued for sending.

`rules` decides what is remembered and for how long, for every engine; an engine implements `ReplayStore`,
`WaitingStore` and `PrintingStore`. On a device the engine is SQLite: `replay`, `waiting` and `outbox` are built on
`database`, and `printing` on `replay` and `waiting`; `migration` reads the file of release 0.1.0. For several receivers
of one name it is PostgreSQL, in `postgresql`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlib.storage.stores import (
        Abandoned,
        Admission,
        Claim,
        ClockStore,
        Dropped,
        Printed,
        PrintingStore,
        Remembered,
        ReplayEntry,
        ReplayStore,
        Standing,
        Tidied,
        WaitingEntry,
        WaitingLimits,
        WaitingMessage,
        WaitingStore,
        drop_leftovers,
    )

__all__ = [
    "Abandoned",
    "Admission",
    "Claim",
    "ClockStore",
    "Dropped",
    "Printed",
    "PrintingStore",
    "Remembered",
    "ReplayEntry",
    "ReplayStore",
    "Standing",
    "Tidied",
    "WaitingEntry",
    "WaitingLimits",
    "WaitingMessage",
    "WaitingStore",
    "drop_leftovers",
]


def __getattr__(name: str) -> object:
    """Import everything when it is first used, so that a program that only needs the outbox starts fast."""
    if name in __all__:
        return getattr(import_module("idlib.storage.stores"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
