"""Epoch keys with several receivers of one name: real receivers, a broker, a name server and a database."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from idlib import base64url
from idlib.epochs import KEY_ID_OCTETS, IdentifiedEpochKey
from idlib.epochs.halves import Halves
from idlib.epochs.record import SignedEpochRecord
from idlib.names import IdentityName
from testbed.daemons.postgresql import Postgresql
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import EPOCH_KEYS, RECEIVER, SUBSCRIBED, Device, Program
from tests.integration.test_epoch_receiving import health, key_from_dns, message, publish, publish_marked, spooled

DAY: Final = 24 * 3600


class Group:
    """Receivers of one name, with a directory of their own each, beside the one for epoch keys."""

    def __init__(self, lab: Lab, device: Device, started: ExitStack) -> None:
        self.lab = lab
        self.device = device
        self.receivers: list[Program] = []
        self._started = started
        self._directory = device.crypto_path.parent

    @property
    def epochs(self) -> Path:
        return Path(self.device.settings["EPOCH_PATH"])

    def member(self, **settings: str) -> Device:
        data = self._directory / f"data-{len(self.receivers)}"
        data.mkdir(exist_ok=True)
        return self.device.with_settings(DATA_PATH=str(data), **settings)

    def start(self, **settings: str) -> Program:
        """Start another receiver, and wait until it subscribes."""
        receiver = self.begin(self.member(**settings))
        receiver.wait_for_log(SUBSCRIBED)
        return receiver

    def begin(self, member: Device) -> Program:
        receiver = self._started.enter_context(member.start(RECEIVER))
        self.receivers.append(receiver)
        return receiver

    def printed(self) -> list[tuple[str, str]]:
        """Return the texts that were printed, each with the kind of key that it was encrypted to."""
        lines = [json.loads(line) for receiver in self.receivers for line in receiver.stdout]
        return sorted((line["message"], line["sealed"]) for line in lines)

    def log(self) -> list[str]:
        return [line for receiver in self.receivers for line in receiver.stderr]

    def new_half(self) -> IdentifiedEpochKey:
        """Create a private half, as another program does, and return the key that others can encrypt to."""
        now = int(time.time())
        halves = Halves(self.epochs, IdentityName(self.device.name))
        kept = halves.create(now - 3600, now + 9 * DAY, 0.0, bytes(32))
        return IdentifiedEpochKey(kept.half.key_id, kept.key.public)


@pytest.fixture
def group(lab: Lab, postgresql: Postgresql) -> Iterator[Group]:
    device = lab.device_with_key("group-with-epochs")
    publish_marked(lab, device)
    directory = device.crypto_path.parent
    device = device.with_settings(
        STORE=postgresql.new_database(),
        RECEIVER_GROUP="on",
        EPOCH_KEYS="on",
        EPOCH_PATH=str(directory / "epochs"),
        EPOCH_SPOOL=str(directory / "spool"),
        OUTPUT_FORMAT="json",
    )
    with ExitStack() as started:
        yield Group(lab, device, started)


def test_every_receiver_opens_messages_to_the_key_that_one_of_them_has_created(
    lab: Lab, alice: Device, group: Group, anybody: BrokerClient
) -> None:
    group.start()
    publish(lab, group.device, spooled(group.device))
    key = key_from_dns(group.device)
    group.start(RECEIVER_WORKERS="1")
    texts = [f"message {number:02}" for number in range(20)]
    for text in texts:
        anybody.publish(group.device, message(text, alice, group.device, key))
    wait_until(lambda: len(group.printed()) >= len(texts), "all messages")
    assert group.printed() == [(text, "epoch") for text in texts]

    # No receiver has looked at the directory since this one was created.
    new = group.new_half()
    later = [f"later {number}" for number in range(4)]
    made_up = IdentifiedEpochKey(base64url.encode(secrets.token_bytes(KEY_ID_OCTETS)), new.public)
    before = [len(receiver.stdout) for receiver in group.receivers]
    for text in later:
        anybody.publish(group.device, message(text, alice, group.device, new))
    anybody.publish(group.device, message("made up", alice, group.device, made_up))
    wait_until(lambda: len(group.printed()) >= len(texts) + len(later), "messages to the new key")
    assert group.printed() == [(text, "epoch") for text in [*later, *texts]]
    # Both know the sender by now.
    assert all(len(receiver.stdout) > number for receiver, number in zip(group.receivers, before, strict=True))
    wait_until(lambda: any(f"epoch-gone the epoch key {made_up.key_id}" in line for line in group.log()), "refusal")
    assert not any(f"epoch-gone the epoch key {new.key_id}" in line for line in group.log())
    assert sum("is created" in line for line in group.log()) == 1

    for receiver in group.receivers:
        assert receiver.stop() == 0
    assert not any("Traceback" in line or "epoch keys: " in line for line in group.log())


def test_after_a_change_of_the_identity_key_one_receiver_creates_a_key_and_all_open_messages_to_it(
    lab: Lab, alice: Device, group: Group, anybody: BrokerClient
) -> None:
    group.start()
    first = spooled(group.device)
    group.start()
    other = lab.device_with_key("group-with-epochs-next")
    group.device.key_path.write_bytes(other.key_path.read_bytes())
    publish_marked(lab, group.device)
    wait_until(lambda: spooled(group.device) != first, "the next record", 60)
    record = SignedEpochRecord.from_text(spooled(group.device)).record
    key = IdentifiedEpochKey(record.key_id(IdentityName(group.device.name)), record.key)
    # The receiver that has created it is killed; the other one has confirmed it before it was published.
    creator = next(one for one in group.receivers if sum("is created" in line for line in one.stderr) > 1)
    creator.kill()
    anybody.publish(group.device, message("to the new key", alice, group.device, key))
    wait_until(lambda: ("to the new key", "epoch") in group.printed(), "the message", 40)
    assert sum("is created" in line for line in group.log()) == 2


def test_a_receiver_whose_directory_is_not_shared_receives_nothing_and_says_why(group: Group, tmp_path: Path) -> None:
    group.start()
    spooled(group.device)
    member = group.member(EPOCH_PATH=str(tmp_path / "epochs"))
    receiver = group.begin(member)
    fact = f"1 epoch key of other receivers cannot be read in '{tmp_path / 'epochs'}'"
    receiver.wait_for("log", lambda: any(fact in line for line in receiver.stderr), 60)
    assert health(member).startswith("epoch keys: 1 epoch key of other receivers cannot be read in")
    assert not any(SUBSCRIBED in line for line in receiver.stderr)


def test_a_single_receiver_with_a_database_publishes_at_once(
    alice: Device, group: Group, anybody: BrokerClient
) -> None:
    receiver = group.start(RECEIVER_GROUP="off")
    record = SignedEpochRecord.from_text(spooled(group.device)).record
    key = IdentifiedEpochKey(record.key_id(IdentityName(group.device.name)), record.key)
    anybody.publish(group.device, message("to the only one", alice, group.device, key))
    receiver.wait_for_message("to the only one")
    assert group.printed() == [("to the only one", "epoch")]
    assert receiver.stop() == 0


def test_keys_by_hand_live_by_the_time_that_the_receivers_have_counted(group: Group) -> None:

    group.start()
    spooled(group.device)
    result = group.member(EPOCH_LENGTH="7d").run(EPOCH_KEYS, "records", "--weeks", "2")
    assert result.status == 0, result
    (receiver,) = group.receivers
    name = IdentityName(group.device.name)
    halves = Halves(group.epochs, name).stock().halves
    assert len(halves) == 2
    assert min(kept.half.born for kept in halves) < 3600
    assert max(kept.half.born for kept in halves) < 8 * DAY
    assert receiver.stop() == 0
