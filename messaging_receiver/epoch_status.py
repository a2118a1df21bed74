"""Which epoch keys this device has, which of them are in DNS, and which one senders use now."""

import time
from dataclasses import dataclass
from typing import Final

from idlib.algorithms import PublicKey
from idlib.discovery import Discovery
from idlib.epochs.halves import Halves
from idlib.epochs.record import EpochRecords, read_epoch_records
from idlib.epochs.selection import MAX_MESSAGE_LIFE_SECONDS, ChosenEpoch, choose
from idlib.errors import DiscoveryError
from idlib.marks import Mark
from idlib.output import rfc3339
from idlib.settings import Settings
from messaging_receiver.own_epochs import epoch_directory

_NO_RECORDS: Final = EpochRecords((), ())


@dataclass(frozen=True, slots=True)
class EpochLine:
    """One epoch key.

    Args:
        key_id: Its id.
        start: When senders may use it from, in seconds since the epoch.
        until: When the private half is destroyed, in seconds since the epoch.
        has_half: Whether the private half is here.
        is_published: Whether DNS has its record.
        is_used: Whether senders use it now for messages that may take 7 days.
    """

    key_id: str
    start: int
    until: int
    has_half: bool
    is_published: bool
    is_used: bool

    def fields(self) -> dict[str, object]:
        """Return what is printed as JSON."""
        return {
            "kid": self.key_id,
            "from": rfc3339(self.start),
            "until": rfc3339(self.until),
            "private_half": self.has_half,
            "published": self.is_published,
            "used": self.is_used,
        }

    def text(self) -> str:
        """Return a line for people."""
        words = [
            "private half here" if self.has_half else "NO private half here",
            "in DNS" if self.is_published else "not in DNS",
            *(["senders use it now"] if self.is_used else []),
        ]
        return f"{self.key_id}  from {rfc3339(self.start)}  until {rfc3339(self.until)}  {', '.join(words)}"


@dataclass(frozen=True, slots=True)
class EpochStatus:
    """The epoch keys of a device.

    Args:
        mark: What the device's certificate in DNS says; None if DNS could not be asked.
        lines: Its keys, the oldest first.
        problems: What is wrong, one sentence each.
    """

    mark: Mark | None
    lines: tuple[EpochLine, ...]
    problems: tuple[str, ...]


def epoch_status(settings: Settings, discovery: Discovery) -> EpochStatus:
    """Return the epoch keys of this device.

    Args:
        settings: From the environment.
        discovery: Asks DNS.

    Raises:
        StoreError: EPOCH_PATH cannot be read.
    """
    stock = Halves(epoch_directory(settings), settings.identity_name).stock()
    mark, records, problems = _in_dns(settings, discovery)
    chosen = choose(records, int(time.time()), MAX_MESSAGE_LIFE_SECONDS)
    used = chosen.epoch.key_id if isinstance(chosen, ChosenEpoch) and mark is Mark.MARKED else None
    here = {kept.half.key_id: (kept.half.start, kept.half.until) for kept in stock.halves}
    published = {one.key_id: (one.record.start, one.record.until) for one in records.usable}
    lines = [
        EpochLine(key_id, start, until, key_id in here, key_id in published, key_id == used)
        for key_id, (start, until) in {**published, **here}.items()
    ]
    skipped = [f"DNS has an epoch record that is not used: {one.reason}" for one in records.skipped]
    return EpochStatus(
        mark,
        tuple(sorted(lines, key=lambda line: (line.start, line.key_id))),
        (*stock.unreadable, *problems, *skipped),
    )


def _in_dns(settings: Settings, discovery: Discovery) -> tuple[Mark | None, EpochRecords, tuple[str, ...]]:
    name = settings.identity_name
    try:
        found = discovery.find(name)
    except DiscoveryError as error:
        return None, _NO_RECORDS, (str(error),)
    try:
        texts = discovery.find_epochs(name).texts
    except DiscoveryError as error:
        # Without the mark, no record is needed.
        return found.mark, _NO_RECORDS, () if found.mark is Mark.UNMARKED else (str(error),)
    keys = tuple(dict.fromkeys(key.der for key in found.published))
    return found.mark, read_epoch_records(name, texts, tuple(map(PublicKey.from_der, keys))), ()
