"""What a name's TLSA records say, in a form that takes little memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from idlib.algorithms import PublicKey
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
        der: The key as a SubjectPublicKeyInfo, as `PublicKey.der` has it.
    """

    parameters: str
    der: bytes = field(repr=False)

    @classmethod
    def of(cls, record: UsableRecord) -> Self:
        """Return the key of a record that was judged."""
        return cls(record.parameters, record.public_key.der)


@dataclass(frozen=True, slots=True)
class Found:
    """What a name's TLSA records say.

    Args:
        name: The name that was asked for.
        published: The keys of 1 to 8 usable records, the one that a sender encrypts to first.
        skipped: Why other records are unusable, a line for each of the first few.
        authentication: In words, how the records were authenticated.
        signer: The zone that has signed the name's records; None if the answer does not say.
        parse: Makes a key of the bytes; `Discovery` gives one that remembers keys.
    """

    name: IdentityName
    published: tuple[PublishedKey, ...]
    skipped: tuple[str, ...]
    authentication: str
    signer: str | None = None
    parse: Callable[[bytes], PublicKey] = field(default=PublicKey.from_der, repr=False, compare=False)

    @property
    def records(self) -> tuple[UsableRecord, ...]:
        """The usable records, the one that a sender encrypts to first."""
        return tuple(UsableRecord(key.parameters, self.parse(key.der)) for key in self.published)

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The keys that a signature may be made by: the first 3 that differ."""
        return tuple(self.parse(der) for der in self.accepted)

    @property
    def accepted(self) -> tuple[bytes, ...]:
        """The same keys, each as a SubjectPublicKeyInfo; costs no parsing."""
        return tuple(dict.fromkeys(key.der for key in self.published))[:MAX_KEYS]

    @property
    def zone(self) -> str:
        """The zone that the name lies in, in lower case; its registrable domain if the answer does not say."""
        return self.signer or registrable_domain(self.name)


class ParsedKeys:
    """Keys prepared for use, by their bytes; the 256 used last, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: OrderedDict[bytes, PublicKey] = OrderedDict()

    def parse(self, der: bytes) -> PublicKey:
        """Return the key in a SubjectPublicKeyInfo.

        Args:
            der: As `PublicKey.der` has made it.
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
        """Keep a key that is prepared already.

        Args:
            der: Its SubjectPublicKeyInfo.
            key: The key.
        """
        with self._lock:
            self._keys[der] = key
            self._keys.move_to_end(der)
            if len(self._keys) > MAX_PARSED_KEYS:
                self._keys.popitem(last=False)
