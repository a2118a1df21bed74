"""The clock of the real database jumps while receivers and senders run: nothing is lost, destroyed or repeated."""

import time
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import RECEIVER, ROOT, SENDER, Device, Program
from tests.integration.test_shared_outbox import fill, waiting

HOUR: Final = 3600
DAY: Final = 24 * HOUR
YEAR: Final = 365 * DAY
IMPATIENT: Final = ROOT / "tests/integration/impatient_sender.py"
JUMPED: Final = "The database's clock has jumped, and the time continues as before"
AGAIN: Final = "The database's clock is trusted again"
_SHIFTED: Final = """
CREATE SCHEMA wrong;
CREATE TABLE wrong.shift AS SELECT interval '0 s' AS by;
{functions}
ALTER DATABASE {database} SET search_path = wrong, public, pg_catalog;
"""
_FUNCTION: Final = """
CREATE FUNCTION wrong.{name}() RETURNS timestamptz LANGUAGE sql
    AS 'SELECT pg_catalog.{name}() + (SELECT by FROM wrong.shift)';
"""


class Clock:
    """The clock of a new database, which a test can set."""

    def __init__(self, postgresql: Postgresql) -> None:
        self._postgresql = postgresql
        self.store = postgresql.new_database()
        names = ("clock_timestamp", "statement_timestamp", "transaction_timestamp", "now")
        functions = "".join(_FUNCTION.format(name=name) for name in names)
        self.run(_SHIFTED.format(functions=functions, database=self.store.rpartition("/")[2]))

    def run(self, statement: str) -> str:
        return self._postgresql.run(statement, self.store)

    def jump(self, seconds: int) -> None:
        self.run(f"UPDATE wrong.shift SET by = interval '{seconds} s'")


@pytest.fixture
def clock(postgresql: Postgresql) -> Clock:
    return Clock(postgresql)


def lines(program: Program, text: str) -> list[str]:
    return [line for line in program.stderr if text in line]


def texts(receivers: list[Program]) -> list[str]:
    return sorted(line.split("says: ")[1][:-1] for receiver in receivers for line in receiver.stdout)


def repeats(receivers: list[Program]) -> int:
    return sum(len(lines(receiver, "refused reason=replay")) for receiver in receivers)


@pytest.mark.parametrize("jump", [-DAY, YEAR])
def test_a_jump_loses_no_message_and_no_epoch_key_and_is_one_line_at_each_receiver(
    jump: int, clock: Clock, lab: Lab, alice: Device, anybody: BrokerClient, own_unbound: Unbound, tmp_path: Path
) -> None:
    label = f"{'later' if jump > 0 else 'earlier'}-by-{abs(jump) // HOUR}-hours"
    group = lab.published_device(f"group-{label}").with_settings(
        STORE=clock.store,
        RECEIVER_GROUP="on",
        DNS_RESOLVER=own_unbound.address,
        EPOCH_KEYS="on",
        EPOCH_PATH=str(tmp_path / "epochs"),
        EPOCH_SPOOL=str(tmp_path / "spool"),
    )
    # Not looked up before the resolver is away.
    una = lab.published_device(f"sender-{label}")
    first_message = encrypted(signed("before", alice, group), group)

    def member(number: int) -> Device:
        return group.with_settings(DATA_PATH=str(tmp_path / f"machine-{number}"))

    with member(1).receiver() as first, member(2).receiver() as second:
        both = [first, second]
        anybody.publish(group, first_message)
        wait_until(lambda: texts(both) == ["before"], "the message before")
        own_unbound.stop()
        assert una.send(group, "deferred").status == 0
        wait_until(lambda: clock.run("SELECT count(*) FROM waiting").strip() == "1", "a deferred message")
        keys = sorted(path.name for path in (tmp_path / "epochs").iterdir())
        assert keys
        clock.jump(jump)
        for receiver in both:
            receiver.wait_for_log(JUMPED)
        with member(3).start(RECEIVER) as third:
            third.wait_for_log(JUMPED)
            everyone = [*both, third]
            # Every receiver looks for overdue keys, and forgets old entries, every 10 s.
            time.sleep(11)
            assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == keys
            own_unbound.start()
            wait_until(lambda: "deferred" in texts(everyone), "the deferred message", 60)
            assert alice.send(group, "after").status == 0
            wait_until(lambda: "after" in texts(everyone), "the message after the jump", 60)
            anybody.publish(group, first_message)
            wait_until(lambda: repeats(everyone) == 1, "a refused copy")
            clock.jump(0)
            for receiver in everyone:
                receiver.wait_for_log(AGAIN)
            anybody.publish(group, first_message)
            wait_until(lambda: repeats(everyone) == 2, "a refused copy")
            assert alice.send(group, "in the end").status == 0
            wait_until(lambda: "in the end" in texts(everyone), "the last message")
            assert texts(everyone) == ["after", "before", "deferred", "in the end"]
            for receiver in everyone:
                assert len(lines(receiver, JUMPED)) == len(lines(receiver, AGAIN)) == 1
                assert not lines(receiver, "Traceback")
                assert receiver.stop() == 0
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == keys


def test_a_clock_that_is_set_to_before_this_software_changes_nothing(clock: Clock, lab: Lab, alice: Device) -> None:
    device = lab.published_device("before-this-software").with_settings(STORE=clock.store)
    with device.receiver() as receiver:
        clock.jump(-YEAR)
        receiver.wait_for_log("The time continues from before")
        assert alice.send(device, "meanwhile").status == 0
        receiver.wait_for_message("meanwhile")
        clock.jump(0)
        receiver.wait_for_log(AGAIN)
        assert receiver.stop() == 0
        assert len(lines(receiver, "The time continues from before")) == len(lines(receiver, AGAIN)) == 1


@pytest.mark.parametrize("jump", [-DAY, YEAR])
def test_a_jump_loses_no_queued_message(
    jump: int, clock: Clock, sender: Device, recipient: Device, own_mosquitto: Mosquitto
) -> None:
    shared = sender.with_settings(STORE=clock.store)
    own_mosquitto.stop()
    fill(shared, (recipient,), 2)
    with shared.start(IMPATIENT) as resident:
        resident.wait_for_log("2 messages in the outbox")
        clock.jump(jump)
        resident.wait_for_log(JUMPED)
        assert shared.send(recipient, "queued after the jump", "--queue", "--timeout", "2").status == 0
        assert waiting(shared) == 3
        assert resident.stop() == 0
    clock.jump(0)
    own_mosquitto.start()
    with recipient.receiver() as receiver, shared.start(SENDER):
        receiver.wait_for_message("queued after the jump", 60)
        assert len(receiver.stdout) == 3
