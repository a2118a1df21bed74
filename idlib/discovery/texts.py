"""The content of the TXT records at `_epoch.NAME`, whose text is not parsed here."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.cache import Limits
from idlib.errors import MalformedRecordError
from idlib.names import IdentityName

MAX_BYTES_OF_TEXTS: Final = 4 * 1024 * 1024
MAX_BYTES_OF_FAILURES: Final = 512 * 1024
LIMITS: Final = Limits(MAX_BYTES_OF_TEXTS, MAX_BYTES_OF_FAILURES, MAX_BYTES_OF_FAILURES)
# Measured with tracemalloc, and rounded up: `EpochTexts` without its texts, and what each takes besides its bytes.
_BYTES_OF_TEXTS: Final = 400
_BYTES_OF_A_TEXT: Final = 60


@dataclass(frozen=True, slots=True)
class EpochTexts:
    """The content of the TXT records at `_epoch.NAME`, authenticated; they may have other uses.

    Args:
        name: The device's name, without `_epoch`.
        texts: The bytes of each record, its character-strings joined, in the order of the bytes.
        authentication: How the records were authenticated, as text.
    """

    name: IdentityName
    texts: tuple[bytes, ...] = field(repr=False)
    authentication: str

    @classmethod
    def of(cls, name: IdentityName, authentic: AuthenticRecords) -> "EpochTexts":
        """Return the content of records; one that is malformed is left out and hides no other.

        Args:
            name: The device's name.
            authentic: Its records, from `Authentication.look_up_epochs`.
        """
        texts = tuple(sorted(_readable(authentic.rdatas)))
        return cls(name, texts, sys.intern(authentic.authentication))

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return _BYTES_OF_TEXTS + len(self.name.text) + sum(_BYTES_OF_A_TEXT + len(text) for text in self.texts)


def joined(rdata: bytes) -> bytes:
    """Return the character-strings of a TXT record, joined (RFC 1035, section 3.3.14).

    Args:
        rdata: The resource record's data.

    Raises:
        MalformedRecordError: The data is not a sequence of one or more character-strings.
    """
    if not rdata:
        raise MalformedRecordError("a TXT record has no character-string")
    parts = []
    position = 0
    while position < len(rdata):
        start = position + 1
        position = start + rdata[position]
        parts.append(rdata[start:position])
    if position > len(rdata):
        raise MalformedRecordError("a character-string of a TXT record is longer than the record")
    return b"".join(parts)


def _readable(rdatas: Iterable[bytes]) -> Iterable[bytes]:
    for rdata in rdatas:
        try:
            yield joined(rdata)
        except MalformedRecordError:
            continue
