"""A receiver's upkeep of its epoch keys in simulated time: real clock-keeping, disk and spool, and fake DNS answers."""

from dataclasses import dataclass, field
from pathlib import Path

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp, TlsaLookUp
from idlib.epochs.halves import Halves, KeptHalf, identity_fingerprint
from idlib.epochs.record import SignedEpochRecord
from idlib.epochs.schedule import Lifetimes, period
from idlib.epochs.spool import read_spool
from idlib.errors import DiscoveryError, NoEpochRecordError
from idlib.names import IdentityName
from idlib.settings import Settings, load
from messaging_receiver.epoch_upkeep import EpochUpkeep
from tests.applications.messaging_receiver.world import BOB, KEYS
from tests.idlib.clocked_device import DAY, Device

UPKEEP_SECONDS = 600.0


@dataclass
class Dns:
    """A fake source of DNS answers: what the maintenance service has published."""

    answer: tuple[bytes, ...] | DiscoveryError = ()
    tlsa: tuple[bytes, ...] | DiscoveryError = (b"\x03\x01\x00" + KEYS[BOB].public.der,)
    asked: list[IdentityName] = field(default_factory=list)

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        if isinstance(wanted, TlsaLookUp):
            if isinstance(self.tlsa, DiscoveryError):
                raise self.tlsa
            return AuthenticRecords(self.tlsa, 300, "made in a test")
        assert wanted.owner == f"_epoch.{wanted.name}"
        self.asked.append(wanted.name)
        if isinstance(self.answer, DiscoveryError):
            raise self.answer
        if not self.answer:
            raise NoEpochRecordError(f"{wanted.owner} has no TXT record")
        return AuthenticRecords(self.answer, 300, "made in a test")


class Receiver:
    """A device's receiver, as far as its epoch keys are concerned."""

    def __init__(self, directory: Path, device: Device) -> None:
        self.directory = directory
        self.device = device
        self.key = KEYS[BOB]
        self.seconds = 0.0
        self.dns = Dns()
        self.start()

    def settings(self, **more: str) -> Settings:
        return load(
            {
                "IDENTITY_NAME": str(BOB),
                "EPOCH_KEYS": "on",
                "DATA_PATH": str(self.directory / "data"),
                "EPOCH_SPOOL": str(self.directory / "spool"),
                **more,
            }
        )

    def start(self, **more: str) -> None:
        self.upkeep = EpochUpkeep(self.settings(**more), self.device.keeper)

    @property
    def epochs(self) -> Path:
        return self.directory / "data" / "epochs"

    def keep(self) -> None:
        self.upkeep.keep(self.key)

    def run_for(self, seconds: float) -> None:
        while seconds > 0:
            step = min(seconds, UPKEEP_SECONDS)
            self.device.run_for(step)
            self.keep()
            seconds -= step

    def spooled(self) -> SignedEpochRecord:
        records = read_spool(self.directory / "spool", BOB)
        assert records is not None
        (record,) = records
        assert record.is_signed_by([self.key.public], BOB)
        return record

    def spooled_id(self) -> str:
        return self.spooled().record.key_id(BOB)

    def files(self) -> set[str]:
        return {path.name for path in self.epochs.iterdir() if path.suffix != ".destroyed"}

    def publish(self) -> None:
        """Do what the maintenance service does."""
        self.dns.answer = (as_txt(self.spooled().to_text()),)

    def look(self) -> str | None:
        self.seconds += 100.0
        # A new one each time, because it remembers for up to an hour in its own time.
        self.upkeep.look(Discovery(self.dns, clock=lambda: self.seconds))
        return self.problem()

    def problem(self) -> str | None:
        return self.upkeep.problem


def as_txt(text: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in (text[at : at + 255] for at in range(0, len(text), 255)))


class OtherDevice:
    """A device with the same identity, and private halves of its own."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self._halves = Halves(directory, BOB)
        self._receiver = receiver

    def publish_new(self) -> str:
        """Create a key, and replace the record in DNS with its record; return its id."""
        now = int(self._receiver.device.wall)
        kept = self._halves.create(now, int(now + 9 * DAY), 0.0, bytes(32))
        text = SignedEpochRecord.create(kept.record, BOB, self._receiver.key).to_text()
        self._receiver.dns.answer = (as_txt(text),)
        return kept.half.key_id


def signed_by(key: PrivateKey, kept: KeptHalf) -> bytes:
    return as_txt(SignedEpochRecord.create(kept.record, BOB, key).to_text())


def make_ahead(receiver: Receiver, number: int, length: float = 7 * DAY) -> list[str]:
    """Do what the command that creates keys ahead of time does; return their ids in the order of their times."""
    device = receiver.device
    ids = []
    for at in range(number):
        ahead = at * length
        start, until = period(int(device.wall + ahead), Lifetimes(int(length), int(8 * DAY)))
        halves = Halves(receiver.epochs, BOB)
        born = device.keeper.elapsed() + ahead
        ids.append(halves.create(start, until, born, identity_fingerprint(receiver.key.public)).half.key_id)
    return ids
