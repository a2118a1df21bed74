"""What the receiver needs of the device's own epoch keys; a device without any loads nothing of what they need."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.envelope import NO_EPOCH_KEYS
from idlib.settings import Settings, Switch
from idlib.time_source import TimeSource

_POLL_SECONDS: Final = 0.25

if TYPE_CHECKING:
    from idlib.epochs import EpochPrivateKey
    from messaging_receiver.epoch_group import EpochGroup


class OwnEpochs(Protocol):
    """The device's epoch keys. `keep` and `destroy_overdue` are for one thread, the rest for any number."""

    @property
    def keys(self) -> "Mapping[str, EpochPrivateKey]":
        """The living keys by their ids."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the living keys."""

    @property
    def are_read(self) -> bool:
        """Whether all keys that messages may be encrypted to have been read; before that, they would be refused."""

    @property
    def until(self) -> float | None:
        """When the newest key will be destroyed, in seconds since the epoch; None if there is none."""

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""

    def explain(self, key_id: str) -> str:
        """Return what is known about a key that messages cannot be opened with, as a sentence.

        Args:
            key_id: The key's id, as a message states it.
        """

    def may_appear(self, key_id: str) -> bool:
        """Return whether a key that is not known may be one of the device's that another receiver has just created.

        Args:
            key_id: The key's id, as a message states it.
        """

    def destroy_overdue(self) -> None:
        """Destroy what is overdue; a failure is logged, and repeated at the next call."""

    def keep(self, identity_key: PrivateKey) -> None:
        """Destroy what is overdue, create a key if one is due, and leave its record in the spool.

        A failure is logged, and repeated at the next call.

        Args:
            identity_key: The device's present private key.
        """

    def look(self, discovery: Discovery) -> None:
        """Check that the record in the spool is in DNS; log if it is not.

        Args:
            discovery: Looks names up in DNS.
        """


class NoOwnEpochs:
    """The epoch keys of a device that has none."""

    keys = NO_EPOCH_KEYS
    ids: tuple[str, ...] = ()
    are_read = True
    until: float | None = None
    problem = None

    def explain(self, key_id: str) -> str:
        """Return what is known about a key that messages cannot be opened with, as a sentence.

        Args:
            key_id: The key's id, as a message states it.
        """
        return f"the epoch key {key_id} is unknown: this device has no epoch keys"

    def may_appear(self, key_id: str) -> bool:  # noqa: ARG002  # as in the protocol
        """Return False: there are no keys.

        Args:
            key_id: The key's id, as a message states it.
        """
        return False

    def destroy_overdue(self) -> None:
        """Do nothing: there are no keys."""

    def keep(self, identity_key: PrivateKey) -> None:
        """Do nothing: there are no keys.

        Args:
            identity_key: The device's present private key.
        """

    def look(self, discovery: Discovery) -> None:
        """Do nothing: there are no records.

        Args:
            discovery: Looks names up in DNS.
        """


NONE: Final = NoOwnEpochs()


def own_epochs_of(
    settings: Settings, timekeeper: TimeSource, open_group: "Callable[[], EpochGroup | None]" = lambda: None
) -> OwnEpochs:
    """Return the device's epoch keys.

    Args:
        settings: The settings from the environment. If EPOCH_KEYS is off, no key is created, but those that exist are
            used and destroyed as before.
        timekeeper: Knows how far the clock can be trusted.
        open_group: Returns the receivers of the name, or None if this is the only one; called if there are keys.

    Raises:
        ConfigurationError: The settings contradict each other.
    """
    if settings.epoch_keys is Switch.OFF and not settings.epoch_directory.exists():
        return NONE
    from messaging_receiver.epoch_upkeep import EpochUpkeep

    return EpochUpkeep(settings, timekeeper, open_group())


def wait_for_epoch_keys(epochs: OwnEpochs, stopping: threading.Event, meanwhile: Callable[[], None]) -> bool:
    """Wait until the device's epoch keys have been read; return False if the receiver is stopped.

    Args:
        epochs: The keys.
        stopping: Set to stop the receiver.
        meanwhile: Reads them; called several times a second.
    """
    while not epochs.are_read:
        meanwhile()
        if stopping.wait(_POLL_SECONDS):
            return False
    return True
