"""The private halves of our own epoch keys, which receipts are opened with; this program only reads them.

The receiver of this device creates and destroys them, so each is read when a receipt needs it.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from idlib.discovery import Discovery
from idlib.errors import DiscoveryError, IdlibError, KeyFileError, StoreError, quoted
from idlib.marks import Mark
from idlib.settings import Settings

if TYPE_CHECKING:
    # Imported when it is needed, because most devices have no epoch keys.
    from idlib.epochs import EpochPrivateKey
    from idlib.epochs.halves import Halves


class OwnHalves(Mapping[str, "EpochPrivateKey"]):
    """The halves that exist now, by the ids of their keys.

    Args:
        settings: It uses EPOCH_PATH, DATA_PATH and our own name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __getitem__(self, key_id: str) -> "EpochPrivateKey":
        try:
            kept = _halves_of(self._settings).read(key_id)
        except IdlibError as error:
            # It cannot be read, or is damaged.
            raise KeyError(key_id) from error
        if kept is None or kept.half.until <= time.time():
            raise KeyError(key_id)
        return kept.key

    def __iter__(self) -> Iterator[str]:
        now = time.time()
        return (kept.half.key_id for kept in _halves_of(self._settings).stock().halves if kept.half.until > now)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def check_own_halves(settings: Settings, discovery: Discovery) -> None:
    """Check that a receipt to this device can be opened.

    Args:
        settings: It uses EPOCH_PATH, DATA_PATH and our own name.
        discovery: Finds our own record, which says whether recipients encrypt receipts to epoch keys.

    Raises:
        KeyFileError: They do, and no private half of an epoch key can be read.
    """
    try:
        found = discovery.find(settings.identity_name)
    except DiscoveryError:
        # The user is warned of it anyway.
        return
    if found.mark is Mark.UNMARKED:
        return
    try:
        stock = _halves_of(settings).stock()
    except StoreError as error:
        raise _unreadable(error.fact) from error
    if not any(kept.half.until > time.time() for kept in stock.halves):
        raise _unreadable(next(iter(stock.unreadable), f"{quoted(settings.epoch_directory)} has no living epoch key"))


def _halves_of(settings: Settings) -> "Halves":
    from idlib.epochs.halves import Halves

    return Halves(settings.epoch_directory, settings.identity_name)


def _unreadable(why: str) -> KeyFileError:
    return KeyFileError(
        f"this device could not open the receipt, which is encrypted to its epoch key: {why}",
        "set EPOCH_PATH to the directory of the receiver's epoch keys, and run this program as the receiver's user;"
        " or send without --receipt",
    )
