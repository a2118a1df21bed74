"""The content of a name's TLSA records, in a form that takes little memory."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from idlib.algorithms import PublicKey
from idlib.marks import Mark
from idlib.names import IdentityName
from idlib.records import UsableRecord
from idlib.zones import registrable_domain

MAX_KEYS: Final = 3
MAX_PARSED_KEYS: Final = 256


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """The key of a usable TLSA record.

    Args:
        parameters: The record's usage, selector and matching type, as in `3 0 0`.
        der: The key as a SubjectPublicKeyInfo, as in `PublicKey.der`.
        mark: What the record's certificate says about the device's epoch keys.
    """

    parameters: str
    der: bytes = field(repr=False)
    mark: Mark = Mark.UNMARKED

    @classmethod
    def of(cls, record: UsableRecord) -> Self:
        """Return the key of a record that was judged."""
        return cls(sys.intern(record.parameters), record.public_key.der, record.mark)


@dataclass(frozen=True, slots=True)
class Found:
    """The content of a name's TLSA records.

    Args:
        name: The name that was looked up.
        published: The keys of 1 to 8 usable records; the first is the one that a sender encrypts to.
        skipped: Why other records are unusable: one line for each of the first few.
        authentication: How the records were authenticated, as text.
        signer: The zone that signed the name's records; None if the answer does not show it.
        parse: Parses a key; `Discovery` passes a function that caches keys.
    """

    name: IdentityName
    published: tuple[PublishedKey, ...]
    skipped: tuple[str, ...]
    authentication: str
    signer: str | None = None
    parse: Callable[[bytes], PublicKey] = field(default=PublicKey.from_der, repr=False, compare=False)

    @property
    def records(self) -> tuple[UsableRecord, ...]:
        """The usable records; the first is the one that a sender encrypts to."""
        return tuple(UsableRecord(key.parameters, self.parse(key.der), key.mark) for key in self.published)

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The keys that are accepted for signatures: the first 3 different ones."""
        return tuple(self.parse(der) for der in self.accepted)

    @property
    def accepted(self) -> tuple[bytes, ...]:
        """The same keys as SubjectPublicKeyInfo, without parsing them."""
        return tuple(dict.fromkeys(key.der for key in self.published))[:MAX_KEYS]

    @property
    def mark(self) -> Mark:
        """Whether the name has epoch keys: it does if any usable record is marked, whatever its usage.

        A supported mark counts even if another one needs newer software: during a change of forms both are published.
        """
        marks = {key.mark for key in self.published}
        return next((mark for mark in (Mark.MARKED, Mark.UNSUPPORTED) if mark in marks), Mark.UNMARKED)

    @property
    def zone(self) -> str:
        """The zone of the name, in lower case; its registrable domain if the answer does not show it."""
        return self.signer or registrable_domain(self.name)


class ParsedKeys:
    """Caches the 256 most recently used keys in parsed form; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: OrderedDict[bytes, PublicKey] = OrderedDict()

    def parse(self, der: bytes) -> PublicKey:
        """Return the key in a SubjectPublicKeyInfo.

        Args:
            der: As in `PublicKey.der`.
        """
        with self._lock:
            key = self._keys.get(der)
            if key is not None:
                self._keys.move_to_end(der)
                return key
        key = PublicKey.from_der(der)
        self.remember(der, key)
        return key

    def remember(self, der: bytes, key: PublicKey) -> None:
        """Cache a key that is parsed already.

        Args:
            der: Its SubjectPublicKeyInfo.
            key: The key.
        """
        with self._lock:
            self._keys[der] = key
            self._keys.move_to_end(der)
            if len(self._keys) > MAX_PARSED_KEYS:
                self._keys.popitem(last=False)
