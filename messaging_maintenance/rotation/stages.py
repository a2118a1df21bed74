"""What is done at each stage of a rotation; each step can be interrupted, and is completed by the next call."""

from dataclasses import replace

from idlib import keys
from idlib.errors import NotServedError, TooEarlyError
from idlib.key_places import destroy_previous_key, promote_next_key
from idlib.publishing.publication import Publication
from messaging_maintenance.rotation.device import RotatingDevice, present_keys, under_way
from messaging_maintenance.rotation.next_step import run_again
from messaging_maintenance.rotation.records import existing
from messaging_maintenance.rotation.republish import longest_ttl
from messaging_maintenance.rotation.state import RotationState, Stage, Way


class Stages:
    """Takes a rotation from stage to stage.

    Args:
        device: The device.
    """

    def __init__(self, device: RotatingDevice) -> None:
        self._device = device

    def proceed(self, state: RotationState) -> RotationState | None:
        """Take the next step, which is known to be safe, and what follows from it at once.

        Args:
            state: How far the rotation has come.

        Returns:
            The state afterwards; None after the last step.

        Raises:
            TooEarlyError: A record had vanished, so the waiting time begins again.
            KeyFileError: A file cannot be read or written.
            PublishingError: The records were not changed; the next call tries again.
        """
        match state.stage:
            case Stage.PREPARED:
                return self._publish_next(state)
            case Stage.PUBLISHED:
                self._device.require_new_key(state)
                self._require_both_records(state)
                return self.proceed(self._device.save(replace(state, stage=Stage.SWITCHING)))
            case Stage.SWITCHING:
                return self._promote(state, Stage.SWITCHED)
            case Stage.LOWERED:
                self._device.require_new_key(state)
                return self.proceed(self._device.save(replace(state, stage=Stage.REPLACING)))
            case Stage.REPLACING:
                return self._replace(state)
            case Stage.SWITCHED:
                self._device.require_new_key(state)
                ttl = max(state.ttl, self._retire(state).change.before.ttl)
                leaving = (*state.leaving, *present_keys(state.old_key))
                return self._device.save(state.at(Stage.WITHDRAWN, self._device.now(), leaving=leaving, ttl=ttl))
            case Stage.WITHDRAWN:
                self._end(state)
                return None
        raise under_way(state)

    def _publish_next(self, state: RotationState) -> RotationState | None:
        self._device.require_new_key(state)
        if state.way is Way.COMPROMISED:
            return self.proceed(self._device.save(replace(state, stage=Stage.REPLACING)))
        if state.way is Way.SINGLE:
            publication = self._device.lowered().publish(existing(state.old_record))
            return self._device.save(
                state.at(Stage.LOWERED, self._device.now(), ttl=max(state.ttl, publication.change.before.ttl))
            )
        self._device.wait_for_receiver(state)
        change = self._device.publishing.publish(existing(state.old_record, state.new_record)).change
        return self._device.save(state.at(Stage.PUBLISHED, self._device.now(), ttl=longest_ttl(state.ttl, change)))

    def _require_both_records(self, state: RotationState) -> None:
        """Put both records in place again; if the new one was missing, the waiting time begins anew.

        Raises:
            TooEarlyError: It was missing, so recipients may not know it.
        """
        change = self._device.publishing.publish(existing(state.old_record, state.new_record)).change
        if state.new not in change.add:
            return
        state = self._device.save(state.at(Stage.PUBLISHED, self._device.now(), ttl=longest_ttl(state.ttl, change)))
        raise TooEarlyError(
            "the record of the next key had vanished from DNS; it was published again",
            run_again("switch", self._device.now().wall + self._device.waits.until_switch(state.ttl)),
        )

    def _replace(self, state: RotationState) -> RotationState | None:
        self._device.require_new_key(state)
        self._device.wait_for_receiver(state)
        try:
            publication = self._retire(state)
        except NotServedError:
            # Others see the new record already, and would refuse what the old key signs.
            with keys.locked(self._device.settings.crypto_path):
                promote_next_key(*self._device.place, self._device.settings.app_uid)
            raise
        ttl = max(state.ttl, publication.change.before.ttl)
        leaving = (*state.leaving, *present_keys(state.old_key))
        return self._promote(replace(state, ttl=ttl, leaving=leaving), Stage.WITHDRAWN)

    def _promote(self, state: RotationState, stage: Stage) -> RotationState | None:
        self._device.require_new_key(state)
        with keys.locked(self._device.settings.crypto_path):
            promote_next_key(*self._device.place, self._device.settings.app_uid)
            if stage is Stage.WITHDRAWN and not state.leaving:
                # The old key was lost, so there is none to destroy.
                self._device.file.write(None)
                return None
            state = state.at(stage, self._device.now())
            self._device.file.write(state)
        return state

    def _end(self, state: RotationState) -> None:
        with keys.locked(self._device.settings.crypto_path):
            for key in state.leaving:
                destroy_previous_key(*self._device.place, key)
            self._device.file.write(None)

    def _retire(self, state: RotationState) -> Publication:
        """Make the new record the only one of the device's keys; of a compromised device, the only one at all."""
        retired = [] if state.old_key is None else [state.old_key]
        if state.way is Way.COMPROMISED:
            return self._device.publishing.publish_only(existing(state.new_record))
        return self._device.publishing.publish(existing(state.new_record), retired)
