"""What the receiver reports of its certificate, its record and its look-ups."""

import datetime as dt
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from idlib.discovery import Discovery
from idlib.errors import BogusError, DiscoveryError, NoRecordError, NotSecureError, Reason, TemporaryDiscoveryError
from idlib.metrics import HistogramValue, Reading
from idlib.metrics.readings import Value
from messaging_receiver.metrics import CertificateExpiry, Receiving, Starting
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


def read(starting: Starting | Receiving) -> dict[str, Value]:
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


@pytest.mark.parametrize(
    ("answers", "present"),
    [
        ([TemporaryDiscoveryError("no answer")], None),
        ([record_of(KEYS[BOB])], 1),
        ([record_of(KEYS[ALICE])], 0),
        ([NoRecordError("none")], 0),
        ([NotSecureError("unsigned")], 0),
        ([record_of(KEYS[BOB]), NoRecordError("none")], 0),
        ([NoRecordError("none"), record_of(KEYS[BOB])], 1),
        # No verdict: what DNS answered before is not taken back.
        ([record_of(KEYS[BOB]), TemporaryDiscoveryError("no answer")], 1),
        ([record_of(KEYS[BOB]), BogusError("altered")], 1),
        ([NoRecordError("none"), TemporaryDiscoveryError("no answer")], 0),
    ],
)
def test_the_own_record_is_present_as_dns_last_answered(
    answers: list[bytes | DiscoveryError], present: float | None, world: World
) -> None:
    now = [0.0]
    own_record = OwnRecord(world.context.settings, Discovery(world.dns, clock=lambda: now[0]))
    starting = Starting(world.context, own_record, EPOCHS)
    assert "own_record_present" not in read(starting)
    for answer in answers:
        world.dns.answers[BOB] = answer
        own_record.look(KEYS[BOB])
        # Nothing is cached any more.
        now[0] += 100_000
    assert read(starting).get("own_record_present") == present


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


def test_messages_that_are_set_aside_are_counted(world: World, starting: Starting) -> None:
    assert read(starting)["messages_set_aside_total"] == 0
    world.context.counters.count_set_aside(2)
    assert read(starting)["messages_set_aside_total"] == 2


def test_the_living_epoch_keys_are_counted(starting: Starting) -> None:
    found = read(starting)
    assert found["epoch_keys"] == 1
    assert "epoch_key_expiry_timestamp_seconds" not in found


@pytest.mark.parametrize(("problem", "healthy"), [(None, 1), ("disk: no space left on device", 0)])
def test_a_receiver_with_a_problem_is_not_healthy(problem: str | None, healthy: float, starting: Starting) -> None:
    supervision = MagicMock(is_subscribed=True)
    supervision.last_problem.return_value = problem
    receiving = Receiving(starting, MagicMock(number_waiting=7), supervision, lambda: {"encrypted": 5}, None)
    found = read(receiving)
    assert (found["healthy"], found["subscribed"]) == (healthy, 1)
    assert (found["deferred_messages"], found["queue_messages encrypted"], found["worker_processes"]) == (7, 5, 0)
