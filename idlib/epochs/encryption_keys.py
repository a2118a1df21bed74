"""The key that a message to a recipient is encrypted to (docs/protocol.md, "Epoch keys in DNS"); asks DNS."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from idlib.algorithms import PublicKey
from idlib.discovery import Discovery, EpochTexts, Found
from idlib.epochs.record import EpochRecords, read_epoch_records
from idlib.epochs.selection import ChosenEpoch, NoLiveEpoch, choose
from idlib.errors import DiscoveryError, EpochKeyUnavailableError, NoEpochRecordError, NotSecureError
from idlib.marks import Mark
from idlib.names import IdentityName

MAX_NAMES_READ: Final = 64


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """The key of a device without epoch keys.

    Args:
        public_key: The key of its first usable TLSA record.
    """

    public_key: PublicKey


class EncryptionKeys:
    """Finds the keys that messages are encrypted to; any number of threads may share it.

    The epoch records of the 64 names that were used last are kept in parsed form, with their signatures verified.

    Args:
        discovery: Asks DNS.
    """

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._read = functools.lru_cache(MAX_NAMES_READ)(_read)

    def find(self, recipient: IdentityName, now: int, life_seconds: int) -> IdentityKey | ChosenEpoch:
        """Return the key that a message is encrypted to: never the identity key of a marked name.

        If only a signature fails, TLSA and TXT records are looked up once more, at most once a minute: after a change
        of the identity key, either may be outdated. A sender that has seen the name marked before must decide itself
        whether to accept an identity key.

        Args:
            recipient: The recipient's name.
            now: The time, in seconds since the epoch.
            life_seconds: How long the message may take; more than 7 days counts as 7 days.

        Raises:
            EpochKeyUnavailableError: The name is marked, and has no epoch key that may be used now.
            DiscoveryError: As `Discovery.find` does; `BogusError` and `TemporaryDiscoveryError` also if it is the epoch
                records that cannot be looked up.
        """
        dns = self._discovery
        outcome = self._choose(dns.find, dns.find_epochs, recipient, now, life_seconds)
        if isinstance(outcome, NoLiveEpoch) and outcome.may_be_outdated:
            outcome = self._choose(dns.find_again, dns.find_epochs_again, recipient, now, life_seconds)
        if isinstance(outcome, NoLiveEpoch):
            raise EpochKeyUnavailableError(
                f"{recipient} is marked as having epoch keys, but {outcome.reason}",
                "the name's owner must publish a new epoch record, unless the clock of this device is wrong",
            )
        return outcome

    def _choose(
        self,
        find: Callable[[IdentityName], Found],
        find_epochs: Callable[[IdentityName], EpochTexts],
        recipient: IdentityName,
        now: int,
        life_seconds: int,
    ) -> IdentityKey | ChosenEpoch | NoLiveEpoch:
        found = find(recipient)
        match found.mark:
            case Mark.UNMARKED:
                return IdentityKey(found.records[0].public_key)
            case Mark.UNSUPPORTED:
                raise EpochKeyUnavailableError(
                    f"{recipient} has epoch keys in a form that is not supported, or its certificate is damaged",
                    "update this software; if that does not help, the name's owner must replace the certificate",
                )
        try:
            texts = find_epochs(recipient).texts
        except (NoEpochRecordError, NotSecureError) as error:
            raise _unavailable(error) from error
        keys = tuple(dict.fromkeys(key.der for key in found.published))
        return choose(self._read(recipient, texts, keys), now, life_seconds)


def _unavailable(error: DiscoveryError) -> EpochKeyUnavailableError:
    # A verdict about the TXT records is none about the recipient: the message waits until they are there.
    return EpochKeyUnavailableError(error.fact, error.hint, error.zone)


def _read(name: IdentityName, texts: tuple[bytes, ...], keys: tuple[bytes, ...]) -> EpochRecords:
    return read_epoch_records(name, texts, tuple(map(PublicKey.from_der, keys)))
