"""Which records the device has in DNS at each stage of its rotation."""

from dataclasses import dataclass

from idlib.bootstrap import Bootstrap
from idlib.records import TlsaRecord, key_of
from idlib.settings import Settings
from messaging_maintenance.rotation.schedule import LOWERED_TTL
from messaging_maintenance.rotation.state import RotationState, Stage, Way, state_file


@dataclass(frozen=True, slots=True)
class WantedRecords:
    """What a person enters into DNS.

    Args:
        records: All records of the device's keys.
        ttl: Their TTL in seconds.
    """

    records: tuple[TlsaRecord, ...]
    ttl: int


def records_to_publish(identity: Bootstrap, settings: Settings) -> list[TlsaRecord]:
    """Return the records that the device has in DNS at the present stage of its rotation.

    Args:
        identity: The device.
        settings: From the environment.

    Raises:
        KeyFileError: The key, the certificate or the state is missing or unusable.
    """
    return _records_at(state_file(settings).read(), identity, settings)


def records_to_enter(identity: Bootstrap, settings: Settings) -> WantedRecords:
    """Return the records for a person who enters them: also that of a next key which is to be published now.

    Args:
        identity: The device.
        settings: From the environment.

    Raises:
        KeyFileError: The key, the certificate or the state is missing or unusable.
    """
    state = state_file(settings).read()
    records = _records_at(state, identity, settings)
    ttl = settings.tlsa_ttl
    if state is not None and state.stage is Stage.PREPARED and state.way is Way.OVERLAP:
        records += existing(state.new_record)
    if state is not None and state.stage in {Stage.PREPARED, Stage.LOWERED} and state.way is Way.SINGLE:
        ttl = min(LOWERED_TTL, ttl)
    return WantedRecords(tuple(records), ttl)


def existing(*records: TlsaRecord | None) -> list[TlsaRecord]:
    """Return those records that exist.

    Args:
        records: None for each that does not.
    """
    return [record for record in records if record is not None]


def _records_at(state: RotationState | None, identity: Bootstrap, settings: Settings) -> list[TlsaRecord]:
    if state is not None and (
        state.stage is Stage.REPLACING or (state.stage is Stage.PREPARED and state.way is Way.COMPROMISED)
    ):
        # Never the stolen key's record again.
        return existing(state.new_record)
    if state is not None and state.stage is Stage.SWITCHING:
        # The key and its certificate may not match now.
        return existing(state.old_record, state.new_record)
    current = identity.tlsa_record(settings.tlsa_selector)
    if state is None or state.stage not in {Stage.PUBLISHED, Stage.SWITCHED}:
        return [current]
    own = key_of(current.to_rdata())
    return [
        current,
        *(record for record in existing(state.old_record, state.new_record) if key_of(record.to_rdata()) != own),
    ]
