"""The device whose key is changed: what every step of a rotation works with."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from idlib import keys
from idlib.bootstrap import Bootstrap
from idlib.errors import IdlibError, KeyFileError, quoted
from idlib.publishing.publication import Publishing
from idlib.settings import Settings
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.next_step import command_of
from messaging_maintenance.rotation.schedule import LOWERED_TTL, RELOAD_SECONDS, Instant, Waits
from messaging_maintenance.rotation.state import RotationState, Stage, state_file

# At these stages the new key may be, or is, the current one.
_SWITCHES: Final = frozenset({Stage.SWITCHING, Stage.REPLACING, Stage.SWITCHED})


class RotationError(IdlibError):
    """A step does not fit the stage of the rotation."""


class RotatingDevice:
    """One device, its key files, its records and its clock.

    Args:
        settings: From the environment.
        publishing: Changes the device's records.
        now: Returns the present.
        report: Called with a sentence for the user when something takes a while.
    """

    def __init__(
        self,
        settings: Settings,
        publishing: Publishing,
        now: Callable[[], Instant],
        report: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.publishing = publishing
        self.identity = Bootstrap.from_settings(settings)
        self.place = settings.crypto_path, settings.identity_name
        self.file = state_file(settings)
        self.waits = Waits(settings.rotate_test_speed)
        self.now = now
        self.report = report

    def alone(self) -> AbstractContextManager[None]:
        """Exclude other programs that take a step; see `exclusion.alone`."""
        return alone(self.settings)

    def save(self, state: RotationState) -> RotationState:
        """Write the state, and return it.

        Args:
            state: What is written.

        Raises:
            KeyFileError: It cannot be written.
        """
        with keys.locked(self.settings.crypto_path):
            self.file.write(state)
        return state

    def lowered(self) -> Publishing:
        """Return what publishes a single record with the short TTL that it has when it is replaced."""
        return self.publishing.with_ttl(min(LOWERED_TTL, self.settings.tlsa_ttl))

    def require_new_key(self, state: RotationState) -> None:
        """Check that the new key is in its place, before a record of it is published or the old one removed.

        Args:
            state: Of the rotation.

        Raises:
            KeyFileError: It is missing, or another key is there, as after a backup was restored.
        """
        next_path, current_path = keys.next_key_path(*self.place), keys.key_path(*self.place)
        # After the switch, and during one that was interrupted, it is the current key.
        is_current = state.stage in _SWITCHES and not next_path.exists()
        path = current_path if is_current else next_path
        if keys.read_private_key(path).public.der != state.new_key:
            raise KeyFileError(f"{quoted(path)} is not the new key of the rotation", keys.how_to_get_the_next_key())

    def wait_for_receiver(self, state: RotationState) -> None:
        """Wait until the receiver has read the next key, before its record is published.

        Args:
            state: Of the rotation.
        """
        left = RELOAD_SECONDS - self.now().seconds_since(state.since)
        if left > 0:
            self.report(f"Waiting {min(left, RELOAD_SECONDS):.0f} s until the receiver has read the next key.")
            time.sleep(min(left, RELOAD_SECONDS))


def under_way(state: RotationState) -> RotationError:
    """Return the error that a rotation is under way, with its next step.

    Args:
        state: Of the rotation.
    """
    return RotationError("a rotation is under way", f"the next step is: {command_of(state)}")


def present_keys(*found: bytes | None) -> tuple[bytes, ...]:
    """Return those keys that exist.

    Args:
        found: None for each that does not.
    """
    return tuple(key for key in found if key is not None)
