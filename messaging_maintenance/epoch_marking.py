"""Turns the use of epoch keys on and off: each step can be interrupted at any moment, and the next call completes it.

The order protects senders. When the mark appears, every name server has the epoch records, and no resolver remembers
that they were missing. When it has gone, the records stay until no cache has the marked certificate any longer. The
certificate has the same key with and without the mark, and one record replaces the other: software that does not know
the mark could not use two records of one key.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from idlib.bootstrap import Bootstrap
from idlib.commands import command
from idlib.discovery.cache import MAX_SECONDS
from idlib.epochs.record import EpochRecord, SignedEpochRecord, read_epoch_records
from idlib.epochs.selection import MAX_MESSAGE_LIFE_SECONDS, ChosenEpoch, choose
from idlib.epochs.spool import no_spool, read_spool, spool_path
from idlib.errors import IdlibError, MalformedRecordError, TooEarlyError
from idlib.keys import key_path, read_private_key
from idlib.names import IdentityName
from idlib.publishing.change import PublishedSet
from idlib.publishing.epoch_publication import EpochPublishing, epoch_texts
from idlib.publishing.name_servers import read_from_all
from idlib.publishing.publication import Publication, Publishing
from idlib.publishing.zone import Zone
from idlib.records import WHOLE_CERTIFICATE, is_marked
from idlib.settings import Settings
from messaging_maintenance.epoch_progress import EpochProgress, ProgressFile, Step
from messaging_maintenance.epoch_publishing import publish_spool
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.next_step import command_of, shown_time
from messaging_maintenance.rotation.republish import longest_ttl, publish_records
from messaging_maintenance.rotation.schedule import Instant, Waits
from messaging_maintenance.rotation.state import Stage, state_file

# What takes longer is left to a later call.
_LONGEST_WAIT_SECONDS: Final = 60.0


class EpochMarkingError(IdlibError):
    """The mark cannot be changed now."""


@dataclass(frozen=True, slots=True)
class EpochPlace:
    """Where the epoch records are.

    Args:
        publishing: Changes them.
        zone: The zone that they are in.
    """

    publishing: EpochPublishing
    zone: Zone


class EpochMarking:
    """The mark in the certificate of one device.

    Args:
        settings: From the environment.
        publishing: Changes the device's TLSA records.
        epochs: Where its epoch records are.
        report: Called with a sentence for the user.
        now: Returns the present.
    """

    def __init__(
        self,
        settings: Settings,
        publishing: Publishing,
        epochs: EpochPlace,
        report: Callable[[str], None],
        now: Callable[[], Instant] = Instant.now,
    ) -> None:
        self._settings = settings
        self._publishing = publishing
        self._epochs = epochs
        self._report = report
        self._now = now
        self._identity = Bootstrap.from_settings(settings)
        self._file = ProgressFile(settings)
        self._waits = Waits(settings.rotate_test_speed)

    def turn_on(self) -> Publication:
        """Publish the epoch records, and mark the certificate once every sender can find them.

        Raises:
            EpochMarkingError: The key is being changed, the certificate cannot have the mark, or the receiver has left
                no record that senders could use.
            TooEarlyError: A resolver may remember that the records were missing.
            KeyFileError: A file cannot be read or written.
            PublishingError: A record was not published; the next call tries again.
        """
        self._require_no_rotation()
        self._require_own_certificate()
        are_new = self._publish_epochs()
        if not self._identity.is_marked():
            progress = self._file.read()
            if are_new or progress is None or progress.step is not Step.PUBLISHED:
                progress = self._save(Step.PUBLISHED, self._epochs.zone.negative_ttl)
            self._wait(progress)
            with alone(self._settings):
                self._require_no_rotation()
                self._identity.mark_certificate()
        publication = publish_records(self._publishing, self._identity, self._settings)
        self._file.write(None)
        return publication

    def turn_off(self) -> Publication | None:
        """Remove the mark; once no cache has the marked certificate any longer, remove the epoch records.

        Returns:
            What the last step has changed: of the certificate's record, or of the epoch records; None if the device
            does not use epoch keys.

        Raises:
            EpochMarkingError: The key is being changed.
            TooEarlyError: A cache may have the marked certificate.
            KeyFileError: A file cannot be read or written.
            PublishingError: A record was not published; the next call tries again.
        """
        self._require_no_rotation()
        progress, has_records = self._file.read(), bool(epoch_texts(self._epochs.publishing.read().rdatas))
        in_use = self._identity.is_marked() or has_records or progress is not None
        # Only DNS may have the mark, if an earlier call was interrupted and someone removed the epoch records.
        if not in_use and not any(map(is_marked, self._publishing.read().rdatas)):
            return None
        with alone(self._settings):
            self._require_no_rotation()
            if self._identity.is_marked():
                self._identity.unmark_certificate()
        publication = publish_records(self._publishing, self._identity, self._settings)
        change = publication.change
        if progress is None or progress.step is not Step.UNMARKED or change.add:
            self._save(Step.UNMARKED, longest_ttl(0, change))
            return publication
        if (left := self._left(progress)) > 0:
            raise TooEarlyError(
                "the epoch records must stay, because caches may have the marked certificate",
                _again("off", self._now().wall + left),
            )
        withdrawal = self._epochs.publishing.withdraw()
        # The receiver may be another user, whose file only it can remove.
        with suppress(OSError):
            spool_path(self._settings.epoch_spool, self._settings.identity_name).unlink(missing_ok=True)
        self._file.write(None)
        return withdrawal

    def withdrawable_at(self) -> float | None:
        """Return from when the epoch records can be removed, in seconds since the epoch; None if they need not be.

        Raises:
            KeyFileError: The progress cannot be read.
        """
        progress = self._file.read()
        if progress is None or progress.step is not Step.UNMARKED:
            return None
        return self._now().wall + max(0.0, self._left(progress))

    def _save(self, step: Step, ttl: int) -> EpochProgress:
        progress = EpochProgress(step, self._now(), ttl)
        self._file.write(progress)
        return progress

    def _left(self, progress: EpochProgress) -> float:
        """Return for how many seconds the next step has to wait."""
        wait = self._waits.until_known(progress.ttl)
        if progress.step is Step.UNMARKED:
            # A sender keeps what it has found for so long.
            wait += MAX_SECONDS / self._settings.rotate_test_speed
        return wait - self._now().seconds_since(progress.since)

    def _wait(self, progress: EpochProgress) -> None:
        left = self._left(progress)
        if left > _LONGEST_WAIT_SECONDS:
            raise TooEarlyError(
                "the epoch records are in DNS, but a resolver may remember that they were missing, so the certificate"
                " is not marked yet",
                _again("on", self._now().wall + left),
            )
        if left > 0:
            self._report(f"Waiting {left:.0f} s until no resolver remembers that the epoch records were missing.")
            time.sleep(left)

    def _publish_epochs(self) -> bool:
        """Put epoch records in place that senders can use; return whether there were none before."""
        if self._settings.dns_publish is None and self._is_usable_everywhere():
            # The user has published them, perhaps for weeks ahead; the receiver's spool has only one.
            return False
        self._require_spool()
        publication = publish_spool(self._settings)
        if publication is None:
            raise no_spool(self._settings.epoch_spool, self._settings.identity_name)
        return not epoch_texts(publication.change.before.rdatas)

    def _require_spool(self) -> None:
        records = read_spool(self._settings.epoch_spool, self._settings.identity_name)
        if records is None:
            raise no_spool(self._settings.epoch_spool, self._settings.identity_name)
        if not self._is_usable([record.to_text() for record in records]):
            raise EpochMarkingError(
                "the receiver has left no epoch record that senders could use now",
                "check that it runs with EPOCH_KEYS=on, that it has the key in CRYPTO_PATH, and what its log says",
            )

    def _is_usable_everywhere(self) -> bool:
        """Return whether every name server that can be asked has an epoch record that senders can use."""
        served = read_from_all(self._epochs.zone, self._epochs.publishing.place)
        found: list[PublishedSet | None] = [answer.records for answer in served if answer.has_route]
        return bool(found) and all(one is not None and self._is_usable(epoch_texts(one.rdatas)) for one in found)

    def _is_usable(self, texts: Sequence[bytes]) -> bool:
        name = self._settings.identity_name
        own = read_private_key(key_path(self._settings.crypto_path, name)).public
        chosen = choose(read_epoch_records(name, texts, [own]), int(time.time()), MAX_MESSAGE_LIFE_SECONDS)
        return isinstance(chosen, ChosenEpoch)

    def _require_no_rotation(self) -> None:
        state = state_file(self._settings).read()
        # At the last stage, only the record of the present key is in DNS.
        if state is not None and state.stage is not Stage.WITHDRAWN:
            raise EpochMarkingError(
                "the key is being changed, so the certificate cannot be replaced",
                f"finish that first; the next step is: {command_of(state)}",
            )

    def _require_own_certificate(self) -> None:
        """Check that the certificate can be replaced with one that has the mark."""
        self._identity.tlsa_record(WHOLE_CERTIFICATE)
        if self._settings.tlsa_selector != WHOLE_CERTIFICATE:
            raise EpochMarkingError(
                "TLSA_SELECTOR=1 publishes only the public key, and the mark of epoch keys is in the certificate",
                "set TLSA_SELECTOR=0",
            )
        certificate = self._identity.get_local_cert_obj()
        if certificate.issuer != certificate.subject and not self._identity.is_marked():
            raise EpochMarkingError(
                "the certificate is from a CA, so it cannot be replaced with one that has the mark of epoch keys",
                f"change to a self-signed one with {command('identity rotate')} start, or have the CA issue one with"
                " the extension that docs/protocol.md describes",
            )


def records_in(texts: Sequence[bytes], name: IdentityName) -> list[tuple[str, EpochRecord]]:
    """Return the well-formed epoch records among texts with the ids of their keys, whoever signed them.

    Args:
        texts: The texts of TXT records.
        name: The device.
    """
    found = []
    for text in texts:
        with suppress(MalformedRecordError):
            record = SignedEpochRecord.from_text(text).record
            found.append((record.key_id(name), record))
    return sorted(found, key=lambda one: one[1].start)


def _again(action: str, at: float) -> str:
    return f"run {command(f'identity epoch {action}')} again after {shown_time(at)}"
