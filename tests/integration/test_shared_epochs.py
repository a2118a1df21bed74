"""The epoch keys of several receivers: a real database, one directory, machines with boot clocks of their own."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from idlib.discovery import Discovery
from idlib.epochs.halves import Halves
from idlib.epochs.spool import read_spool
from idlib.errors import ConfigurationError
from idlib.settings import load
from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.epoch_readers import EpochReaders, read_elapsed
from idlib.storage.postgresql.leases import Leases, new_holder
from messaging_receiver.epoch_upkeep import EpochUpkeep
from messaging_receiver.group.shared_epochs import SharingReceivers
from testbed.daemons.postgresql import Postgresql
from tests.applications.messaging_receiver.epoch_receiver import Dns, as_txt
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS
from tests.idlib.clocked_device import DAY, HOUR, Device

MADE_UP: Final = "x" * 21 + "w"


class Member:
    """A receiver of a group, on a machine that has been up for some seconds."""

    def __init__(self, group: "Group", number: int, epochs: Path, up: float) -> None:
        self.group = group
        self.key = KEYS[BOB]
        self.holder = new_holder()
        self.database = PostgresDatabase(read_store_url(group.store))
        Leases(self.database, new_holder(), str).prepare()
        readers = EpochReaders(self.database, self.holder)
        readers.prepare()
        self.epochs = epochs
        self.settings = load(
            {
                "IDENTITY_NAME": str(BOB),
                "EPOCH_KEYS": "on",
                "DATA_PATH": str(group.directory / f"data-{number}"),
                "EPOCH_PATH": str(epochs),
                "EPOCH_SPOOL": str(group.directory / "spool"),
            }
        )
        started = group.device.up
        self.sharing = SharingReceivers(readers, epochs, lambda: group.device.up - started + up)
        self.upkeep = EpochUpkeep(self.settings, group.device.keeper, self.sharing)

    def take_lease(self) -> None:
        self.group.run(
            f"INSERT INTO receiver VALUES ('client of {self.holder}', '{self.holder}', now() + interval '45 s', false)"
        )

    def lose_lease(self) -> None:
        """Do what 15 s without a renewal do."""
        self.group.run(f"UPDATE receiver SET expires_at = now() WHERE holder = '{self.holder}'")

    def keep(self) -> None:
        self.upkeep.keep(self.key)

    def may_subscribe(self) -> bool:
        return self.upkeep.are_read

    @property
    def ids(self) -> set[str]:
        return set(self.upkeep.ids)

    def look(self, dns: Dns) -> str | None:
        self.upkeep.look(Discovery(dns, clock=lambda: self.group.device.up))
        return self.upkeep.problem


class Group:
    """The receivers of one name."""

    def __init__(self, directory: Path, device: Device, postgresql: Postgresql) -> None:
        self.directory = directory
        self.device = device
        self.postgresql = postgresql
        self.store = postgresql.new_database()
        self.members: list[Member] = []

    @property
    def epochs(self) -> Path:
        return self.directory / "epochs"

    def run(self, statement: str) -> None:
        self.postgresql.run(statement, self.store)

    def add(self, epochs: Path | None = None, up: float = 1000.0) -> Member:
        """Start a receiver, which takes its lease."""
        member = Member(self, len(self.members), epochs or self.epochs, up)
        self.members.append(member)
        member.take_lease()
        return member

    def kill(self, member: Member) -> None:
        member.lose_lease()
        self.members.remove(member)
        member.database.close()

    def keep(self, passes: int = 1) -> None:
        for _ in range(passes):
            for member in self.members:
                member.keep()

    def run_for(self, seconds: float, step: float = HOUR) -> None:
        while seconds > 0:
            self.device.run_for(min(step, seconds))
            self.keep()
            seconds -= step

    def spooled_id(self) -> str | None:
        records = read_spool(self.directory / "spool", BOB) or ()
        assert len(records) <= 1
        return next((one.record.key_id(BOB) for one in records), None)

    def files(self) -> set[str]:
        return {path.name for path in self.epochs.iterdir() if path.suffix != ".destroyed"}


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    device = Device(tmp_path / "data", monkeypatch, is_synchronized=True)
    with device.running():
        yield device


@pytest.fixture
def group(tmp_path: Path, device: Device, postgresql: Postgresql) -> Iterator[Group]:
    group = Group(tmp_path, device, postgresql)
    yield group
    for member in group.members:
        member.database.close()


def test_a_receiver_that_is_alone_publishes_at_once(group: Group) -> None:
    alone = group.add()
    alone.keep()
    assert {group.spooled_id()} == alone.ids == group.files()
    assert alone.may_subscribe()


def test_a_record_is_left_in_the_spool_once_every_receiver_reads_the_half(group: Group) -> None:
    first, second, third = group.add(), group.add(), group.add()
    first.keep()
    second.keep()
    first.keep()
    assert group.spooled_id() is None
    third.keep()
    assert group.spooled_id() is None
    first.keep()
    assert {group.spooled_id()} == first.ids == second.ids == third.ids == group.files()

    group.run_for(DAY + HOUR)
    assert len(group.files()) == 2
    assert group.spooled_id() in second.ids
    assert not any(member.upkeep.problem for member in group.members)


def test_a_late_receiver_reads_all_keys_before_it_may_subscribe(group: Group) -> None:
    first = group.add()
    group.run_for(2 * DAY + HOUR)
    late = group.add()
    assert not late.may_subscribe()
    late.upkeep.destroy_overdue()
    assert late.may_subscribe()
    assert late.ids == first.ids
    assert len(late.ids) == 3


def test_a_receiver_without_a_lease_may_not_subscribe_because_no_one_waits_for_it(group: Group) -> None:
    group.add().keep()
    late = group.add()
    late.lose_lease()
    late.keep()
    assert not late.may_subscribe()


def test_a_receiver_that_is_killed_before_it_has_confirmed_is_waited_for_until_its_lease_expires(group: Group) -> None:
    first, second = group.add(), group.add()
    first.keep()
    first.keep()
    assert group.spooled_id() is None
    group.kill(second)
    first.keep()
    assert {group.spooled_id()} == first.ids


@pytest.mark.parametrize("passes", [1, 3])
def test_if_the_receiver_that_creates_keys_is_killed_another_one_goes_on_with_the_same_key(
    group: Group, passes: int
) -> None:
    first, second = group.add(), group.add()
    group.keep(passes)
    (created,) = group.files()
    second.keep()
    group.kill(first)
    second.keep()
    assert group.spooled_id() == created
    assert group.files() == {created}
    group.run_for(DAY + HOUR)
    assert len(group.files()) == 2
    assert second.ids == group.files()


def test_a_receiver_with_another_directory_prevents_publication_and_both_name_the_directory(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    first = group.add()
    first.keep()
    published = group.spooled_id()
    elsewhere = group.directory / "elsewhere"
    other = group.add(elsewhere)
    group.run_for(DAY + HOUR)

    assert group.spooled_id() == published
    assert not other.may_subscribe()
    assert first.upkeep.problem == f"epoch keys: the new one waits for 1 receiver to read it in '{group.epochs}'"
    assert other.upkeep.problem == f"epoch keys: 2 epoch keys of other receivers cannot be read in '{elsewhere}'"
    assert caplog.text.count("the new one waits for 1 receiver") == 1

    group.kill(other)
    first.keep()
    assert group.spooled_id() in first.ids - {published}
    assert first.upkeep.problem is None


def test_a_file_that_a_receiver_cannot_read_prevents_publication_until_it_can(
    group: Group, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, second = group.add(), group.add()
    original = Halves.read

    def fail(halves: Halves, key_id: str) -> object:
        if halves is second.upkeep._halves:
            raise halves_error(halves, key_id)
        return original(halves, key_id)

    with monkeypatch.context() as failing:
        failing.setattr(Halves, "read", fail)
        group.run_for(90, 10.0)
        assert group.spooled_id() is None
        (created,) = group.files()
        assert second.upkeep.problem == f"epoch keys: 1 epoch key of other receivers cannot be read in '{group.epochs}'"
        assert f"Epoch key skipped: the epoch key '{group.epochs / created}' cannot be read" in caplog.text
    group.keep(2)
    assert group.spooled_id() == created
    assert not any(member.upkeep.problem for member in group.members)


def halves_error(halves: Halves, key_id: str) -> Exception:
    with (
        pytest.raises(Exception, match="cannot be read") as raised,
        halves._errors_reported(f"the epoch key '{halves._directory / key_id}'", "read"),
    ):
        raise PermissionError(13, "Permission denied")
    return raised.value


def test_every_receiver_destroys_what_is_overdue_and_the_list_says_so(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = group.add(), group.add()
    group.keep(2)
    key_id = group.spooled_id()
    assert key_id is not None
    group.run_for(9 * DAY - HOUR)
    assert key_id in first.ids & second.ids
    group.run_for(2 * HOUR)
    assert key_id not in first.ids | second.ids | group.files()
    assert first.ids == second.ids == group.files()
    for member in (first, second):
        assert member.upkeep.explain(key_id).startswith(f"the epoch key {key_id} was due to be destroyed at ")
        assert not member.upkeep.may_appear(key_id)
    assert "Epoch key skipped" not in caplog.text


def test_the_list_of_destroyed_keys_is_not_written_again_and_again(group: Group) -> None:
    group.add()
    group.add()
    group.run_for(9 * DAY + HOUR)
    group.run_for(20.0, 10.0)
    path = group.epochs / f"{BOB}.destroyed"
    before = path.stat().st_mtime_ns
    assert len(path.read_text().splitlines()) == 1
    group.run_for(60.0, 10.0)
    assert path.stat().st_mtime_ns == before


def test_what_a_killed_receiver_has_left_is_removed_by_the_one_that_takes_over(group: Group) -> None:
    first, second = group.add(), group.add()
    group.keep(2)
    (created,) = group.files()
    leftover = group.epochs / ("y" * 21 + "w.new")
    leftover.write_bytes((group.epochs / created).read_bytes())
    group.keep(2)
    assert leftover.exists()
    group.kill(first)
    second.keep()
    assert group.files() == {created}


def test_what_is_overdue_is_destroyed_without_the_database(group: Group) -> None:
    first, second = group.add(), group.add()
    group.keep(2)
    key_id = group.spooled_id()
    for member in (first, second):
        member.database.close()
    group.members.remove(first)
    group.run_for(9 * DAY + HOUR)
    assert key_id not in second.ids | group.files()
    assert (second.upkeep.problem or "").startswith("epoch keys: ")


def test_a_receiver_destroys_at_its_start_what_became_overdue_while_none_ran(group: Group) -> None:
    group.add().keep()
    group.kill(group.members[0])
    group.device.run_for(10 * DAY)
    late = group.add()
    late.upkeep.destroy_overdue()
    assert not late.ids
    assert not group.files()


def test_a_clock_that_is_set_back_prolongs_no_half_although_the_machines_change(group: Group) -> None:
    first = group.add(up=1_000_000.0)
    first.keep()
    key_id = group.spooled_id()
    group.device.is_synchronized = False
    for half_day in range(18):
        group.run_for(DAY / 2)
        group.device.wall -= DAY / 2
        if half_day == 8:
            # On a machine that was just started, and takes over.
            group.add(up=10.0).keep()
            group.kill(first)
    group.run_for(600.0, 600.0)
    (second,) = group.members
    assert key_id not in second.ids | group.files()
    with PostgresDatabase(read_store_url(group.store)) as database:
        assert abs(read_elapsed(database) - 9 * DAY) < HOUR


def test_a_new_identity_key_signs_one_new_epoch_key(group: Group) -> None:
    first, second = group.add(), group.add()
    group.keep(2)
    before = group.spooled_id()
    for member in (second, first):
        # They notice the new file one after the other.
        member.key = KEYS[ALICE]
        group.keep()
    group.keep(2)
    after = group.spooled_id()
    assert after != before
    assert group.files() == {before, after} == first.ids == second.ids
    records = read_spool(group.directory / "spool", BOB)
    assert records is not None
    assert records[0].is_signed_by([KEYS[ALICE].public], BOB)


def test_receivers_of_one_group_are_not_taken_for_two_devices_with_one_identity(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dns = Dns()
    group.add()
    group.add()
    for day in range(4):
        for _ in range(12):
            group.run_for(2 * HOUR, 2 * HOUR)
            group.run_for(10.0)
            records = read_spool(group.directory / "spool", BOB)
            assert records is not None
            dns.answer = tuple(as_txt(record.to_text()) for record in records)
            assert [member.look(dns) for member in group.members] == [None] * len(group.members)
        # Another one creates the keys from now on, and one joins.
        group.kill(group.members[day % 2])
        group.add()
    assert "private half is not here" not in caplog.text
    assert "another device" not in caplog.text


def test_only_a_key_that_may_be_the_groups_is_waited_for(group: Group) -> None:
    first, second = group.add(), group.add()
    group.keep(2)
    assert not second.upkeep.may_appear(MADE_UP)

    group.device.run_for(DAY + HOUR)
    first.keep()
    (new,) = first.ids - second.ids
    # Its file is there already.
    assert second.upkeep.may_appear(new)
    # The others may not have waited for a receiver that was late with its lease.
    assert second.upkeep.may_appear(MADE_UP)
    second.keep()
    assert not second.upkeep.may_appear(MADE_UP)


def test_no_private_half_is_in_the_database(group: Group) -> None:
    first, _ = group.add(), group.add()
    group.keep(2)
    (seed,) = (key.seed for key in first.upkeep.keys.values())
    with PostgresDatabase(read_store_url(group.store)) as database, database.transaction() as statements:
        rows = statements.execute("SELECT * FROM epoch_reader").fetchall()
        rows += statements.execute("SELECT * FROM epoch_keeper").fetchall()
    assert rows
    assert not any(seed.hex() in repr(value) or repr(seed) in repr(value) for row in rows for value in row)


def test_a_group_needs_a_directory_for_its_epoch_keys(group: Group) -> None:
    settings = load(
        {
            "IDENTITY_NAME": str(BOB),
            "EPOCH_KEYS": "on",
            "DATA_PATH": str(group.directory / "data"),
            "STORE": group.store,
            "RECEIVER_GROUP": "on",
        }
    )
    with pytest.raises(ConfigurationError, match="RECEIVER_GROUP=on with epoch keys needs EPOCH_PATH"):
        EpochUpkeep(settings, group.device.keeper)
