"""What the receiver reports of its certificate, its record and its look-ups."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from idlib.errors import NoRecordError, Reason, TemporaryDiscoveryError
from idlib.metrics import HistogramValue, Reading
from idlib.metrics.readings import Value
from messaging_receiver.metrics import CertificateExpiry, Starting
from messaging_receiver.own_record import OwnRecord
from testbed.certificate_maker import NOW, Authority
from tests.applications.messaging_receiver.world import ALICE, BOB, EPOCHS, KEYS, World, record_of


def write(path: Path, since: dt.datetime) -> float:
    issued = Authority().issue(since=since)
    path.write_bytes(issued.public_bytes(Encoding.PEM))
    return issued.not_valid_after_utc.timestamp()


def test_the_expiry_follows_the_certificate(tmp_path: Path) -> None:
    path = tmp_path / "crt.pem"
    expiry = CertificateExpiry(path)
    assert expiry.read() is None
    first = write(path, NOW)
    assert expiry.read() == expiry.read() == first
    path.unlink()
    second = write(path, NOW + dt.timedelta(days=400))
    assert expiry.read() == second == first + 400 * 86400
    path.write_text("no certificate")
    assert expiry.read() is None
    path.unlink()
    path.mkdir()
    assert expiry.read() is None


def read(starting: Starting) -> dict[str, Value]:
    def named(reading: Reading) -> dict[str, Value]:
        name = reading.metric.name.removeprefix("dane_messenger_")
        return {" ".join((name, *labels)): value for labels, value in reading.values.items()}

    return {name: value for reading in starting.readings() for name, value in named(reading).items()}


@pytest.fixture
def own_record(world: World) -> OwnRecord:
    return OwnRecord(world.context.settings, world.context.discovery)


@pytest.fixture
def starting(world: World, own_record: OwnRecord) -> Starting:
    return Starting(world.context, own_record, EPOCHS)


def test_the_own_record_is_present_after_a_look_up_has_found_it(
    world: World, own_record: OwnRecord, starting: Starting
) -> None:
    assert read(starting)["own_record_present"] == 0
    world.dns.answers[BOB] = record_of(KEYS[BOB])
    own_record.look(KEYS[BOB])
    assert read(starting)["own_record_present"] == 1
    # A look-up of another key asks DNS again.
    world.dns.answers[BOB] = NoRecordError("none")
    own_record.look(KEYS[ALICE])
    assert read(starting)["own_record_present"] == 0


def test_look_ups_are_counted_by_whether_dns_has_answered(world: World, starting: Starting) -> None:
    world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
    for name in (ALICE, BOB):
        with pytest.raises((TemporaryDiscoveryError, NoRecordError)):
            world.context.discovery.find(name)
    found = read(starting)
    for outcome in ("answered", "failed"):
        counted = found[f"dns_lookup_duration_seconds {outcome}"]
        assert isinstance(counted, HistogramValue)
        assert sum(counted.counts) == 1


def test_every_reason_is_reported_from_the_start_and_no_other_label(world: World, starting: Starting) -> None:
    world.context.refusals.note(Reason.REPLAY, "a name that a stranger chose")
    found = {name: value for name, value in read(starting).items() if name.startswith("messages_refused_total")}
    assert found == {f"messages_refused_total {reason}": float(reason is Reason.REPLAY) for reason in Reason}


def test_the_living_epoch_keys_are_counted(starting: Starting) -> None:
    found = read(starting)
    assert found["epoch_keys"] == 1
    assert "epoch_key_expiry_timestamp_seconds" not in found
