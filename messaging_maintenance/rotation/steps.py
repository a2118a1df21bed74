"""The steps of a rotation: each can be interrupted at any moment, and is completed by the next call."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, keys
from idlib.algorithms import PrivateKey
from idlib.bootstrap import Bootstrap
from idlib.errors import IdlibError, KeyFileError, NotServedError, TooEarlyError, UnusableRecordError, quoted
from idlib.key_places import destroy_previous_key, promote_next_key, retire_next_key, write_next_key
from idlib.pem import read_certificates
from idlib.program.command_line import beside
from idlib.publishing.change import Change, TlsaSet
from idlib.publishing.publication import Publication, Publishing
from idlib.records import TlsaRecord, key_of, render
from idlib.settings import Settings
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.schedule import RELOAD_SECONDS, Instant, Waits
from messaging_maintenance.rotation.state import RotationState, Stage, StateFile, Way

# What a single record's TTL is lowered to before the record is replaced.
LOWERED_TTL: Final = 60
# At these stages the new key may be, or is, the current one.
_SWITCHES: Final = frozenset({Stage.SWITCHING, Stage.REPLACING, Stage.SWITCHED})
# A reader tries a signature with 3 keys (docs/protocol.md, "Keys in DNS").
_MAX_OTHER_KEYS: Final = 1
# A clock that differs by less was not set.
_CLOCK_DRIFT_SECONDS: Final = 60
_NOT_STARTED: Final = "no rotation is under way"


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a rotation waits for.

    Args:
        command: The word on the command line that takes the step.
        what: What the step does, in words that follow "to".
        safe_at: From when it is safe, in seconds since the epoch; None if it is safe now or waits for something else.
    """

    command: str
    what: str
    safe_at: float | None = None


class RotationError(IdlibError):
    """A step does not fit the stage of the rotation."""


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
        self._settings = settings
        self._publishing = publishing
        self._identity = Bootstrap.from_settings(settings)
        self._place = settings.crypto_path, settings.identity_name
        self._file = state_file(settings)
        self._waits = Waits(settings.rotate_test_speed)
        self._now = now
        self._report = report

    def state(self) -> RotationState | None:
        """Return how far the rotation has come; None if none is under way.

        Raises:
            KeyFileError: It cannot be read.
        """
        return self._file.read()

    def next_step(self) -> NextStep | None:
        """Return what the rotation waits for; None if none is under way.

        Raises:
            ClockError: The clock of the system is not set.
            KeyFileError: The state cannot be read.
        """
        state = self.state()
        return None if state is None else self._next_step(replace(state, since=self._now().recount(state.since)))

    def lowered_ttl(self) -> int:
        """Return the TTL that a single record has when it is replaced, in seconds.

        Raises:
            PublishingError: The records or the zone cannot be read.
        """
        return self._lowered().resulting_ttl()

    def request(self, way: Way) -> bytes:
        """Create the next key, and return the certificate signing request for it in PEM form.

        Args:
            way: How one key follows the other.

        Raises:
            RotationError: A rotation is under way that has its certificate, or takes another way.
            KeyFileError: A file cannot be read or written.
            PublishingError: The records of the device cannot be read.
        """
        self._prepare(way)
        with self._alone():
            state = self._replaceable(way)
            if state is None or state.stage is Stage.WITHDRAWN or state.way is not way:
                key = keys.generate_private_key(self._settings.key_type)
                self._begin(self._begun(way, state), key, None, state)
            elif state.stage is not Stage.REQUESTED:
                raise self._under_way(state)
        return certificates.build_request(
            keys.read_private_key(keys.next_key_path(*self._place)),
            self._identity.build_x509_name(),
            self._identity.build_subject_alt_name(),
        ).public_bytes(Encoding.PEM)

    def install(self, pem: bytes) -> RotationState | None:
        """Install the certificate that a CA has issued for the next key, and publish its record.

        Args:
            pem: One or more certificates in PEM form.

        Raises:
            RotationError: No certificate was requested.
            KeyFileError: No certificate is for the next key, or a file cannot be written.
            PublishingError: The record was not published; call `start` to try again.
        """
        with self._alone():
            state = self.state()
            if state is None or state.stage is not Stage.REQUESTED:
                raise RotationError(
                    _NOT_STARTED if state is None else "no certificate was requested",
                    f"run {_command('start --csr')} first",
                )
            certificate = self._certificate_in(pem)
            record = _record_of(certificate, self._settings.tlsa_selector)
            with keys.locked(self._settings.crypto_path):
                self._write_next_certificate(certificate)
                state = state.at(Stage.PREPARED, self._now(), new=record.to_rdata())
                self._file.write(state)
            for concern in certificates.concerns(certificate, self._settings.identity_name, datetime.now(UTC)):
                self._report(concern)
            return self._proceed(state)

    def start(self, way: Way) -> RotationState | None:
        """Create the next key and its self-signed certificate, and publish the record; or go on after an interruption.

        Args:
            way: How one key follows the other.

        Raises:
            RotationError: Another rotation is under way.
            KeyFileError: A file cannot be read or written.
            PublishingError: The records cannot be read or changed; the next call tries again.
        """
        self._prepare(way)
        with self._alone():
            state = self._replaceable(way)
            if state is None or state.stage is Stage.WITHDRAWN or state.way is not way:
                key = keys.generate_private_key(self._settings.key_type)
                certificate = certificates.build_self_signed_certificate(
                    key,
                    self._identity.build_x509_name(),
                    self._identity.build_subject_alt_name(),
                    datetime.now(UTC),
                )
                state = self._begin(self._begun(way, state), key, certificate, state)
            elif state.stage not in {Stage.PREPARED, Stage.REPLACING}:
                raise self._under_way(state)
            return self._proceed(state)

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
        with self._alone():
            state = self.state()
            if state is None or state.stage is Stage.REQUESTED:
                return None
            state = self._recount(state)
            step = self._next_step(state)
            if step.safe_at is not None:
                return None
            self._proceed(state)
            return step

    def abort(self) -> RotationState | None:
        """Give up the next key; return None if it was not published, so that nothing is left to do.

        Otherwise its private key opens messages for some more days.

        Raises:
            RotationError: The new key signs already, or no rotation is under way.
            KeyFileError: A file cannot be read or written.
            PublishingError: The new record was not removed; the next call tries again.
        """
        with self._alone():
            return self._abort()

    def _abort(self) -> RotationState | None:
        state = self.state()
        if state is None:
            raise RotationError(_NOT_STARTED, "there is nothing to abort")
        if state.stage not in {Stage.REQUESTED, Stage.PREPARED, Stage.PUBLISHED, Stage.LOWERED} or (
            state.way is Way.COMPROMISED and state.stage is not Stage.REQUESTED
        ):
            raise RotationError(
                f"the rotation cannot be aborted at the stage {state.stage}",
                f"the next step is: {self._command_of(state)}; then start another one",
            )
        if state.stage is not Stage.REQUESTED:
            publication = self._publishing.publish(_present(state.old_record), _keys(state.new_key))
            state = replace(state, ttl=max(state.ttl, publication.change.before.ttl))
        # A record that was being published may have been seen, even if it is not there now.
        was_published = state.way is Way.OVERLAP and state.stage in {Stage.PREPARED, Stage.PUBLISHED}
        with keys.locked(self._settings.crypto_path):
            if was_published:
                retire_next_key(*self._place, self._settings.app_uid)
                leaving = (*state.leaving, *_keys(state.new_key))
                state = state.at(Stage.WITHDRAWN, self._now(), leaving=leaving)
                self._file.write(state)
                return state
            keys.remove(keys.next_key_path(*self._place), keys.next_certificate_path(*self._place))
            self._file.write(None)
        return None

    def _step(self, command: str) -> RotationState | None:
        with self._alone():
            return self._take(command)

    def _take(self, command: str) -> RotationState | None:
        state = self.state()
        if state is None:
            raise RotationError(_NOT_STARTED, f"run {_command('start')} first")
        state = self._recount(state)
        step = self._next_step(state)
        if step.command != command:
            raise RotationError(
                f"the next step of the rotation is {step.command}, not {command}", f"run {self._command_of(state)}"
            )
        if step.safe_at is not None:
            raise TooEarlyError(
                f"it is too early to {step.what}: messages could be lost", _again(command, step.safe_at)
            )
        return self._proceed(state)

    def _next_step(self, state: RotationState) -> NextStep:
        match state.stage:
            case Stage.REQUESTED:
                return NextStep("certificate", "install the certificate of the next key")
            case Stage.PREPARED:
                return NextStep("start", "publish the record of the next key")
            case Stage.PUBLISHED:
                wait = self._waits.until_switch(state.ttl)
                return NextStep("switch", "sign with the new key", self._safe_at(state, wait))
            case Stage.LOWERED:
                wait = self._waits.until_known(state.ttl)
                return NextStep("switch", "replace the record and the key", self._safe_at(state, wait))
            case Stage.SWITCHING:
                return NextStep("switch", "sign with the new key")
            case Stage.REPLACING:
                command = "start" if state.way is Way.COMPROMISED else "switch"
                return NextStep(command, "replace the record and the key")
            case Stage.SWITCHED:
                wait = self._waits.until_withdrawal()
                return NextStep("finish", "remove the old record", self._safe_at(state, wait))
            case Stage.WITHDRAWN:
                wait = self._waits.until_destruction(state.ttl)
                return NextStep("finish", "destroy the private key that is out of use", self._safe_at(state, wait))

    def _recount(self, state: RotationState) -> RotationState:
        """Let the waiting time count from the same moment by the clock as it is set now."""
        since = self._now().recount(state.since)
        if since.is_set == state.since.is_set and abs(since.wall - state.since.wall) <= _CLOCK_DRIFT_SECONDS:
            return state
        return self._save(replace(state, since=since))

    def _safe_at(self, state: RotationState, wait: float) -> float | None:
        """Return when a waiting time that began with the state ends, in seconds since the epoch; None if it is over."""
        now = self._now()
        left = wait - now.seconds_since(state.since)
        return now.wall + left if left > 0 else None

    def _proceed(self, state: RotationState) -> RotationState | None:
        """Take the next step, which is known to be safe, and what follows from it at once."""
        match state.stage:
            case Stage.PREPARED:
                return self._publish_next(state)
            case Stage.PUBLISHED:
                self._require_new_key(state)
                self._require_both_records(state)
                return self._proceed(self._save(replace(state, stage=Stage.SWITCHING)))
            case Stage.SWITCHING:
                return self._promote(state, Stage.SWITCHED)
            case Stage.LOWERED:
                self._require_new_key(state)
                return self._proceed(self._save(replace(state, stage=Stage.REPLACING)))
            case Stage.REPLACING:
                return self._replace(state)
            case Stage.SWITCHED:
                self._require_new_key(state)
                ttl = max(state.ttl, self._retire(state).change.before.ttl)
                leaving = (*state.leaving, *_keys(state.old_key))
                return self._save(state.at(Stage.WITHDRAWN, self._now(), leaving=leaving, ttl=ttl))
            case Stage.WITHDRAWN:
                self._end(state)
                return None
        raise self._under_way(state)

    def _publish_next(self, state: RotationState) -> RotationState | None:
        self._require_new_key(state)
        if state.way is Way.COMPROMISED:
            return self._proceed(self._save(replace(state, stage=Stage.REPLACING)))
        if state.way is Way.SINGLE:
            publication = self._lowered().publish(_present(state.old_record))
            return self._save(state.at(Stage.LOWERED, self._now(), ttl=max(state.ttl, publication.change.before.ttl)))
        self._wait_for_receiver(state)
        change = self._publishing.publish(_present(state.old_record, state.new_record)).change
        return self._save(state.at(Stage.PUBLISHED, self._now(), ttl=_longest(state.ttl, change)))

    def _lowered(self) -> Publishing:
        return self._publishing.with_ttl(min(LOWERED_TTL, self._settings.tlsa_ttl))

    def _require_both_records(self, state: RotationState) -> None:
        """Put both records in place again; if the new one was missing, the waiting time begins anew.

        Raises:
            TooEarlyError: It was missing, so recipients may not know it.
        """
        change = self._publishing.publish(_present(state.old_record, state.new_record)).change
        if state.new not in change.add:
            return
        state = self._save(state.at(Stage.PUBLISHED, self._now(), ttl=_longest(state.ttl, change)))
        raise TooEarlyError(
            "the record of the next key had vanished from DNS; it was published again",
            _again("switch", self._now().wall + self._waits.until_switch(state.ttl)),
        )

    def _replace(self, state: RotationState) -> RotationState | None:
        self._require_new_key(state)
        self._wait_for_receiver(state)
        try:
            publication = self._retire(state)
        except NotServedError:
            # Others see the new record already, and would refuse what the old key signs.
            with keys.locked(self._settings.crypto_path):
                promote_next_key(*self._place, self._settings.app_uid)
            raise
        ttl = max(state.ttl, publication.change.before.ttl)
        leaving = (*state.leaving, *_keys(state.old_key))
        return self._promote(replace(state, ttl=ttl, leaving=leaving), Stage.WITHDRAWN)

    def _promote(self, state: RotationState, stage: Stage) -> RotationState | None:
        self._require_new_key(state)
        with keys.locked(self._settings.crypto_path):
            promote_next_key(*self._place, self._settings.app_uid)
            if stage is Stage.WITHDRAWN and not state.leaving:
                # The old key was lost, so there is none to destroy.
                self._file.write(None)
                return None
            state = state.at(stage, self._now())
            self._file.write(state)
        return state

    def _end(self, state: RotationState) -> None:
        with keys.locked(self._settings.crypto_path):
            for key in state.leaving:
                destroy_previous_key(*self._place, key)
            self._file.write(None)

    def _require_new_key(self, state: RotationState) -> None:
        """Check that the new key is in its place, before a record of it is published or the old one removed.

        Raises:
            KeyFileError: It is missing, or another key is there, as after a backup was restored.
        """
        next_path, current_path = keys.next_key_path(*self._place), keys.key_path(*self._place)
        # After the switch, and during one that was interrupted, it is the current key.
        is_current = state.stage in _SWITCHES and not next_path.exists()
        path = current_path if is_current else next_path
        if keys.read_private_key(path).public.der != state.new_key:
            raise KeyFileError(f"{quoted(path)} is not the new key of the rotation", keys.how_to_get_the_next_key())

    def _retire(self, state: RotationState) -> Publication:
        """Make the new record the only one of the device's keys; of a compromised device, the only one at all."""
        retired = [] if state.old_key is None else [state.old_key]
        return self._publishing.publish(
            _present(state.new_record), retired, remove_foreign=state.way is Way.COMPROMISED
        )

    def _wait_for_receiver(self, state: RotationState) -> None:
        left = RELOAD_SECONDS - self._now().seconds_since(state.since)
        if left > 0:
            self._report(f"Waiting {min(left, RELOAD_SECONDS):.0f} s until the receiver has read the next key.")
            time.sleep(min(left, RELOAD_SECONDS))

    def _replaceable(self, way: Way) -> RotationState | None:
        """Return the state of the rotation that is under way, if one that goes this way continues or replaces it.

        Raises:
            RotationError: It does neither.
        """
        state = self.state()
        # What was stolen with the current key is the next one, too.
        if state is None or state.way is way or way is Way.COMPROMISED:
            if state is not None and state.stage is Stage.WITHDRAWN and way is not Way.COMPROMISED:
                raise self._under_way(state)
            return state
        raise self._under_way(state)

    def _begun(self, way: Way, replaced: RotationState | None) -> RotationState:
        """Return the state of a rotation that begins; nothing has changed yet.

        Args:
            way: How one key follows the other.
            replaced: The state of the rotation that this one takes the place of.
        """
        old = self._old_record(way)
        before = self._publishing.read()
        if way is Way.OVERLAP:
            _require_few_keys(before, key_of(old.to_rdata()) if old else None)
        return RotationState(
            Stage.REQUESTED,
            way,
            self._now(),
            before.ttl if before.rdatas else self._publishing.negative_ttl,
            None if old is None else old.to_rdata(),
            None,
            self._leaving(replaced) if way is Way.COMPROMISED else (),
        )

    def _leaving(self, replaced: RotationState | None) -> tuple[bytes, ...]:
        """Return the keys that a stolen or lost key leaves behind, also if its certificate is lost."""
        found = () if replaced is None else (*replaced.leaving, *_keys(replaced.old_key, replaced.new_key))
        with suppress(KeyFileError):
            found = (*found, keys.read_private_key(keys.next_key_path(*self._place)).public.der)
        with suppress(KeyFileError):
            found = (*found, keys.read_private_key(keys.key_path(*self._place)).public.der)
        return tuple(dict.fromkeys(found))

    def _begin(
        self,
        begun: RotationState,
        key: PrivateKey,
        certificate: x509.Certificate | None,
        replaced: RotationState | None,
    ) -> RotationState:
        """Write the next key, its certificate if there is one, and the state."""
        record = None if certificate is None else _record_of(certificate, self._settings.tlsa_selector)
        with keys.locked(self._settings.crypto_path):
            if replaced is not None:
                # Its record may be published. Without a state, a call was interrupted before that.
                retire_next_key(*self._place, self._settings.app_uid)
            write_next_key(*self._place, keys.encode_private_key(key), self._settings.app_uid)
            if certificate is not None and record is not None:
                self._write_next_certificate(certificate)
                begun = begun.at(Stage.PREPARED, self._now(), new=record.to_rdata())
            self._file.write(begun)
        return begun

    def _certificate_in(self, pem: bytes) -> x509.Certificate:
        """Return the certificate of the next key; a file may hold those of CAs as well, whatever their keys."""
        path = keys.next_key_path(*self._place)
        key = keys.read_private_key(path)
        found = read_certificates(pem)
        if not found.readable:
            raise keys.no_certificate("the input has", pem)
        for certificate in found.readable:
            if certificates.is_for(key, certificate):
                return certificate
        raise KeyFileError(
            "; ".join([f"the certificate is not for the key {quoted(path)}", *found.broken]),
            f"give the CA the request that {_command('start --csr')} prints",
        )

    def _old_record(self, way: Way) -> TlsaRecord | None:
        """Return the record of the present key; None if the key was lost, and so cannot follow."""
        if way is not Way.COMPROMISED:
            return self._identity.tlsa_record(self._settings.tlsa_selector)
        try:
            return _record_of(self._identity.get_local_cert_obj(), self._settings.tlsa_selector)
        except (KeyFileError, UnusableRecordError):
            return None

    def _write_next_certificate(self, certificate: x509.Certificate) -> None:
        keys.replace(
            keys.next_certificate_path(*self._place),
            certificate.public_bytes(Encoding.PEM),
            self._settings.app_uid,
        )

    def _prepare(self, way: Way) -> None:
        """Create the directory of the key files if the key may be lost with it, as with a memory card."""
        if way is Way.COMPROMISED:
            keys.make_directory(self._settings.crypto_path, self._settings.app_uid)

    def _alone(self) -> AbstractContextManager[None]:
        return alone(self._settings)

    def _save(self, state: RotationState) -> RotationState:
        with keys.locked(self._settings.crypto_path):
            self._file.write(state)
        return state

    def _under_way(self, state: RotationState) -> RotationError:
        return RotationError("a rotation is under way", f"the next step is: {self._command_of(state)}")

    def _command_of(self, state: RotationState) -> str:
        """Return the command that takes the next step."""
        step = self._next_step(state).command
        option = f" --{state.way}" if step == "start" and state.way is not Way.OVERLAP else ""
        return _command(f"{step}{option}")


def _present(*records: TlsaRecord | None) -> list[TlsaRecord]:
    return [record for record in records if record is not None]


def state_file(settings: Settings) -> StateFile:
    """Return the file of the device's rotation.

    Args:
        settings: From the environment.
    """
    return StateFile(keys.rotation_path(settings.crypto_path, settings.identity_name), settings.app_uid)


def records_to_publish(identity: Bootstrap, settings: Settings) -> list[TlsaRecord]:
    """Return the records that the device has in DNS at the present stage of its rotation.

    Args:
        identity: The device.
        settings: From the environment.

    Raises:
        KeyFileError: The key, the certificate or the state is missing or unusable.
    """
    state = state_file(settings).read()
    if state is not None and (
        state.stage is Stage.REPLACING or (state.stage is Stage.PREPARED and state.way is Way.COMPROMISED)
    ):
        # Never the stolen key's record again.
        return _present(state.new_record)
    if state is not None and state.stage is Stage.SWITCHING:
        # The key and its certificate may not match now.
        return _present(state.old_record, state.new_record)
    current = identity.tlsa_record(settings.tlsa_selector)
    if state is None or state.stage not in {Stage.PUBLISHED, Stage.SWITCHED}:
        return [current]
    own = key_of(current.to_rdata())
    return [
        current,
        *(record for record in _present(state.old_record, state.new_record) if key_of(record.to_rdata()) != own),
    ]


def publish_records(
    publishing: Publishing, identity: Bootstrap, settings: Settings, *, remove_foreign: bool = False
) -> Publication:
    """Publish the records that the device has at the present stage of its rotation; no step is taken meanwhile.

    Args:
        publishing: Changes the device's records.
        identity: The device.
        settings: From the environment.
        remove_foreign: Remove the records of all other keys.

    Raises:
        KeyFileError: The key, the certificate or the state is missing or unusable, or a step is being taken.
        PublishingError: The records were not published.
    """
    # Also without a rotation: one that replaces a stolen key may start meanwhile.
    with alone(settings):
        state = state_file(settings).read()
        if state is not None and state.stage is Stage.LOWERED:
            publishing = publishing.with_ttl(min(LOWERED_TTL, settings.tlsa_ttl))
        publication = publishing.publish(records_to_publish(identity, settings), remove_foreign=remove_foreign)
        if state is not None and state.stage is Stage.PUBLISHED and state.new in publication.change.add:
            # Recipients may not have known it meanwhile.
            again = state.at(Stage.PUBLISHED, Instant.now(), ttl=_longest(state.ttl, publication.change))
            with keys.locked(settings.crypto_path):
                state_file(settings).write(again)
        return publication


def _keys(*found: bytes | None) -> tuple[bytes, ...]:
    return tuple(key for key in found if key is not None)


def _longest(ttl: int, change: Change) -> int:
    """Return for how long a cache may keep any of the sets that a change is about."""
    return max(ttl, change.before.ttl, change.after.ttl)


def _again(command: str, safe_at: float) -> str:
    return f"run {_command(command)} again after {shown_time(safe_at)}"


def shown_time(seconds: float) -> str:
    """Return a time in UTC, rounded up to a minute, because a step is refused until then.

    Args:
        seconds: Since the epoch.
    """
    return f"{datetime.fromtimestamp(seconds, UTC) + timedelta(seconds=59.999):%Y-%m-%d %H:%M} UTC"


def _command(step: str) -> str:
    return f"{beside('rotate_id.py', 'identity rotate')} {step}"


def _require_few_keys(published: TlsaSet, own: bytes | None) -> None:
    """Check that recipients try both keys of the device: they try those of 3 different keys at most.

    Raises:
        RotationError: There are too many records of other keys.
    """
    others = {key for rdata in published.rdatas if (key := key_of(rdata)) is not None} - {own}
    if len(others) > _MAX_OTHER_KEYS:
        raise RotationError(
            f"the name has records of {len(others)} other keys, so recipients would not try both keys of the device",
            f"remove them with {beside('publish_tlsa.py', 'identity publish')} --remove-foreign",
        )


def _record_of(certificate: x509.Certificate, selector: int) -> TlsaRecord:
    try:
        return render(certificate, selector)
    except UnusableRecordError as error:
        raise KeyFileError(
            f"no device would accept the record of this certificate: {error.fact}", error.hint
        ) from error
