"""The two look-ups of a device's records: what DNS is asked, and how the error for their absence is worded."""

from dataclasses import dataclass
from typing import Final, Protocol

import dns.name
from dns.rdatatype import RdataType

from idlib.commands import OWNER_PUBLISHES
from idlib.discovery.messages import Question
from idlib.errors import (
    MalformedNameError,
    NoEpochRecordError,
    NoRecordError,
    ProvenAbsenceError,
    UnprovenAbsenceError,
)
from idlib.names import MAX_NAME_BYTES, IdentityName

EPOCH_LABEL: Final = "_epoch"


def epoch_owner(name: IdentityName) -> IdentityName:
    """Return `_epoch.NAME`, where a device's epoch records are.

    Args:
        name: The device.

    Raises:
        MalformedNameError: The name is too long for another label before it.
    """
    most = MAX_NAME_BYTES - len(f"{EPOCH_LABEL}.")
    if len(name.text) > most:
        raise MalformedNameError(
            f"the name of a device with epoch keys cannot have {len(name.text)} characters, because their records are"
            f" at {EPOCH_LABEL}.NAME",
            f"use at most {most}",
        )
    return IdentityName(f"{EPOCH_LABEL}.{name}")


_CHECK_AND_PUBLISH: Final = f"check the spelling; {OWNER_PUBLISHES}"
_PUBLISH_EPOCHS: Final = (
    "the name's owner must publish its epoch records; until then nothing can be encrypted to the name"
)


class LookUp(Protocol):
    """A look-up of a device's records of one type."""

    @property
    def name(self) -> IdentityName:
        """The device's name."""

    @property
    def owner(self) -> str:
        """The name of the records, without the trailing dot."""

    def question(self, *, checking_disabled: bool = False) -> Question:
        """Return what DNS is asked.

        Raises:
            NoEpochRecordError: DNS cannot have such records.
        """

    def absence(
        self, target: str | None, zone: str | None, kept_seconds: int, *, name_exists: bool
    ) -> ProvenAbsenceError:
        """Return the error that the records are proven not to exist.

        Args:
            target: The name at the end of the aliases; None if there are none.
            zone: As in `ProvenAbsenceError`.
            kept_seconds: As there.
            name_exists: Whether the name at the end exists.
        """

    def unproven_absence(self, target: str, server: str) -> UnprovenAbsenceError:
        """Return the error that a server returned no such records, which does not prove that there are none.

        Args:
            target: The name at the end of the aliases, or the owner.
            server: The server's address.
        """


@dataclass(frozen=True, slots=True)
class TlsaLookUp:
    """The look-up of a device's TLSA records.

    Args:
        name: The device's name.
    """

    name: IdentityName

    @property
    def owner(self) -> str:
        """The name itself."""
        return self.name.text

    def question(self, *, checking_disabled: bool = False) -> Question:
        """Return what DNS is asked; see `LookUp`."""
        return Question.about(self.name, checking_disabled=checking_disabled)

    def absence(
        self, target: str | None, zone: str | None, kept_seconds: int, *, name_exists: bool
    ) -> ProvenAbsenceError:
        """Return the error that there are no TLSA records; see `LookUp`."""
        fact = f"{self.name}{_end(target)} {_what_is_missing('TLSA', name_exists=name_exists)}"
        return NoRecordError(fact, _CHECK_AND_PUBLISH, zone, kept_seconds)

    def unproven_absence(self, target: str, server: str) -> UnprovenAbsenceError:
        """Return the error that a server returned no TLSA records; see `LookUp`."""
        return UnprovenAbsenceError(
            f"the DNS server {server} returned no TLSA record of {target}, but with pinned keys an absence cannot be"
            " proven",
            _CHECK_AND_PUBLISH,
        )


@dataclass(frozen=True, slots=True)
class EpochLookUp:
    """The look-up of the TXT records at `_epoch.NAME`, for a name that is marked as having epoch keys.

    Args:
        name: The device's name.
    """

    name: IdentityName

    @property
    def owner(self) -> str:
        """The name of the TXT records."""
        return f"{EPOCH_LABEL}.{self.name}"

    def question(self, *, checking_disabled: bool = False) -> Question:
        """Return what DNS is asked; see `LookUp`.

        Raises:
            NoEpochRecordError: The name is too long: no name can have another label before it.
        """
        try:
            owner = dns.name.from_text(self.owner)
        except dns.name.NameTooLong:
            raise NoEpochRecordError(
                f"{self.name} is marked as having epoch keys, but is too long for {EPOCH_LABEL} before it",
                "the name's owner must use a shorter name, or remove the mark",
            ) from None
        return Question(owner, RdataType.TXT, checking_disabled, over_tcp=True)

    def absence(
        self, target: str | None, zone: str | None, kept_seconds: int, *, name_exists: bool
    ) -> ProvenAbsenceError:
        """Return the error that there are no TXT records; see `LookUp`."""
        missing = _what_is_missing("TXT", name_exists=name_exists)
        return NoEpochRecordError(
            f"{self.name} is marked as having epoch keys, and {self.owner}{_end(target)} {missing}",
            _PUBLISH_EPOCHS,
            zone,
            kept_seconds,
        )

    def unproven_absence(self, target: str, server: str) -> UnprovenAbsenceError:
        """Return the error that a server returned no TXT records; see `LookUp`."""
        return UnprovenAbsenceError(
            f"{self.name} is marked as having epoch keys, and the DNS server {server} returned no TXT record of"
            f" {target}, but with pinned keys an absence cannot be proven",
            _PUBLISH_EPOCHS,
        )


def _end(target: str | None) -> str:
    return "" if target is None else f" (an alias of {target})"


def _what_is_missing(record_type: str, *, name_exists: bool) -> str:
    return f"has no {record_type} record" if name_exists else "does not exist in DNS"
