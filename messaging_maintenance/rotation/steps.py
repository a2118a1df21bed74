"""The steps of a rotation: each can be interrupted at any moment, and is completed by the next call."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from idlib import keys
from idlib.errors import TooEarlyError
from idlib.key_places import retire_next_key
from idlib.publishing.publication import Publishing
from idlib.settings import Settings
from messaging_maintenance.rotation.device import RotatingDevice, RotationError, present_keys, under_way
from messaging_maintenance.rotation.next_key import NextKey
from messaging_maintenance.rotation.next_step import (
    NextStep,
    command_of,
    next_step_of,
    recounted_step_of,
    rotate_command,
    run_again,
)
from messaging_maintenance.rotation.records import existing
from messaging_maintenance.rotation.schedule import Instant
from messaging_maintenance.rotation.stages import Stages
from messaging_maintenance.rotation.state import RotationState, Stage, Way

# A clock that differs by less was not set.
_CLOCK_DRIFT_SECONDS: Final = 60
_NOT_STARTED: Final = "no rotation is under way"


class Rotation:
    """The rotation of one device's key.

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
        now: Callable[[], Instant] = Instant.now,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._device = RotatingDevice(settings, publishing, now, report)
        self._next_key = NextKey(self._device)
        self._stages = Stages(self._device)

    def state(self) -> RotationState | None:
        """Return how far the rotation has come; None if none is under way.

        Raises:
            KeyFileError: It cannot be read.
        """
        return self._device.file.read()

    def next_step(self) -> NextStep | None:
        """Return what the rotation waits for; None if none is under way.

        Raises:
            ClockError: The clock of the system is not set.
            KeyFileError: The state cannot be read.
        """
        state = self._device.file.read()
        return None if state is None else recounted_step_of(state, self._device.waits, self._device.now())

    def lowered_ttl(self) -> int:
        """Return the TTL that a single record has when it is replaced, in seconds.

        Raises:
            PublishingError: The records or the zone cannot be read.
        """
        return self._device.lowered().resulting_ttl()

    def request(self, way: Way) -> bytes:
        """Create the next key, and return the certificate signing request for it in PEM form.

        Args:
            way: How one key follows the other.

        Raises:
            RotationError: A rotation is under way that has its certificate, or takes another way.
            KeyFileError: A file cannot be read or written.
            PublishingError: The records of the device cannot be read.
        """
        self._next_key.prepare(way)
        with self._device.alone():
            state = self._next_key.replaceable(way)
            if state is None or _begins(way, state):
                self._next_key.create_without_certificate(way, state)
            elif state.stage is not Stage.REQUESTED:
                raise under_way(state)
        return self._next_key.signing_request()

    def install(self, pem: bytes) -> RotationState | None:
        """Install the certificate that a CA has issued for the next key, and publish its record.

        Args:
            pem: One or more certificates in PEM form.

        Raises:
            RotationError: No certificate was requested.
            KeyFileError: No certificate is for the next key, or a file cannot be written.
            PublishingError: The record was not published; call `start` to try again.
        """
        with self._device.alone():
            state = self._device.file.read()
            if state is None or state.stage is not Stage.REQUESTED:
                raise RotationError(
                    _NOT_STARTED if state is None else "no certificate was requested",
                    f"run {rotate_command('start --csr')} first",
                )
            return self._stages.proceed(self._next_key.install(pem, state))

    def start(self, way: Way) -> RotationState | None:
        """Create the next key and its self-signed certificate, and publish the record; or go on after an interruption.

        Args:
            way: How one key follows the other.

        Raises:
            RotationError: Another rotation is under way.
            KeyFileError: A file cannot be read or written.
            PublishingError: The records cannot be read or changed; the next call tries again.
        """
        self._next_key.prepare(way)
        with self._device.alone():
            state = self._next_key.replaceable(way)
            if state is None or _begins(way, state):
                state = self._next_key.create(way, state)
            elif state.stage not in {Stage.PREPARED, Stage.REPLACING}:
                raise under_way(state)
            return self._stages.proceed(state)

    def switch(self) -> RotationState | None:
        """Let the new key sign.

        Raises:
            TooEarlyError: Recipients may not know the new key yet.
            RotationError: The rotation is at another stage.
            KeyFileError: A file cannot be read or written.
            PublishingError: A name server does not have the records; the next call tries again.
        """
        return self._step("switch")

    def finish(self) -> RotationState | None:
        """Remove the old record or, once that was long ago, the old private key; return None after the last step.

        Raises:
            TooEarlyError: Messages that need the old record or the old key may still be on their way.
            RotationError: The rotation is at another stage.
            KeyFileError: A file cannot be read or written.
            PublishingError: The record was not removed; the next call tries again.
        """
        return self._step("finish")

    def advance(self) -> NextStep | None:
        """Take the next step if it is safe, and return it; None if there is nothing to do now.

        Raises:
            IdlibError: As the steps raise; the next call tries again.
        """
        with self._device.alone():
            state = self._device.file.read()
            if state is None or state.stage is Stage.REQUESTED:
                return None
            state = self._recount(state)
            step = next_step_of(state, self._device.waits, self._device.now())
            if step.safe_at is not None:
                return None
            self._stages.proceed(state)
            return step

    def abort(self) -> RotationState | None:
        """Give up the next key; return None if it was not published, so that nothing is left to do.

        Otherwise its private key opens messages for some more days.

        Raises:
            RotationError: The new key signs already, or no rotation is under way.
            KeyFileError: A file cannot be read or written.
            PublishingError: The new record was not removed; the next call tries again.
        """
        with self._device.alone():
            return self._abort()

    def _abort(self) -> RotationState | None:
        state = self._device.file.read()
        if state is None:
            raise RotationError(_NOT_STARTED, "there is nothing to abort")
        if state.stage not in {Stage.REQUESTED, Stage.PREPARED, Stage.PUBLISHED, Stage.LOWERED} or (
            state.way is Way.COMPROMISED and state.stage is not Stage.REQUESTED
        ):
            raise RotationError(
                f"the rotation cannot be aborted at the stage {state.stage}",
                f"the next step is: {command_of(state)}; then start another one",
            )
        if state.stage is not Stage.REQUESTED:
            publication = self._device.publishing.publish(existing(state.old_record), present_keys(state.new_key))
            state = replace(state, ttl=max(state.ttl, publication.change.before.ttl))
        # A record that was being published may have been seen, even if it is not there now.
        was_published = state.way is Way.OVERLAP and state.stage in {Stage.PREPARED, Stage.PUBLISHED}
        with keys.locked(self._device.settings.crypto_path):
            if was_published:
                retire_next_key(*self._device.place, self._device.settings.app_uid)
                leaving = (*state.leaving, *present_keys(state.new_key))
                state = state.at(Stage.WITHDRAWN, self._device.now(), leaving=leaving)
                self._device.file.write(state)
                return state
            keys.remove(keys.next_key_path(*self._device.place), keys.next_certificate_path(*self._device.place))
            # Of rotations that were aborted before.
            state = state.at(Stage.WITHDRAWN, self._device.now(), new=state.old) if state.leaving else None
            self._device.file.write(state)
            return state

    def _step(self, command: str) -> RotationState | None:
        with self._device.alone():
            return self._take(command)

    def _take(self, command: str) -> RotationState | None:
        state = self._device.file.read()
        if state is None:
            raise RotationError(_NOT_STARTED, f"run {rotate_command('start')} first")
        state = self._recount(state)
        step = next_step_of(state, self._device.waits, self._device.now())
        if step.command != command:
            raise RotationError(
                f"the next step of the rotation is {step.command}, not {command}", f"run {command_of(state)}"
            )
        if step.safe_at is not None:
            raise TooEarlyError(
                f"it is too early to {step.what}: messages could be lost", run_again(command, step.safe_at)
            )
        return self._stages.proceed(state)

    def _recount(self, state: RotationState) -> RotationState:
        """Let the waiting time count from the same moment by the clock as it is set now."""
        since = self._device.now().recount(state.since)
        if since.is_set == state.since.is_set and abs(since.wall - state.since.wall) <= _CLOCK_DRIFT_SECONDS:
            return state
        return self._device.save(replace(state, since=since))


def _begins(way: Way, state: RotationState) -> bool:
    """Return whether a rotation that goes this way takes the place of the one that is under way."""
    return state.stage is Stage.WITHDRAWN or state.way is not way
