"""Helpers for the tests of deferred messages."""

import re
import time

from idlib.errors import TemporaryDiscoveryError
from idlib.names import IdentityName
from idlib.storage import Printed, ReplayEntry
from tests.applications.messaging_receiver.world import KEYS, World

HOUR = 3600
OUT = TemporaryDiscoveryError("no answer")


def prove(world: World, name: IdentityName) -> None:
    """Make a name proven without sending messages, as if enough of its messages had been printed for long enough."""
    now = int(time.time())
    for number, moment in enumerate((now - 2 * HOUR, now - 60, now - 59)):
        entry = ReplayEntry(str(name), number.to_bytes(16), moment)
        world.context.memory.remember([Printed(entry, "example", KEYS[name].public.der)], moment)
    assert world.context.is_trusted(name)


def balance(world: World) -> tuple[int, int]:
    """Return how many messages were received, and how many were printed, refused or are waiting."""
    numbers = {key: int(number) for key, number in re.findall(r"\b(received|printed|refused)=(\d+)", world.counters)}
    return numbers["received"], numbers["printed"] + numbers["refused"] + world.authentication.number_waiting
