"""Receivers of a group that defer messages in one database, with simulated DNS answers."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from idlib.names import IdentityName, NamePatterns
from idlib.settings.store_urls import read_store_url
from idlib.storage import Abandoned, WaitingEntry, WaitingLimits
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import Leases
from idlib.storage.postgresql.waiting import PostgresWaiting
from messaging_receiver.authentication_stage import EVERYONE
from messaging_receiver.deferral import LIMITS_OF_A_GROUP, MAX_WAITING_SECONDS
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, wait_until
from testbed.programs import Device
from tests.applications.messaging_receiver.waiting import OUT, prove
from tests.applications.messaging_receiver.world import (
    ALICE,
    BOB,
    DAVE,
    KEYS,
    Dns,
    World,
    open_world_with,
    record_of,
    sealed,
)
from tests.idlib.storage.waiting import message
from tests.integration.group_database import taken_leases


@dataclass
class Start:
    """Starts receivers of a group whose DNS server is out of order."""

    directory: Path
    url: str
    opened: contextlib.ExitStack

    def __call__(
        self, wanted: NamePatterns = EVERYONE, limits: WaitingLimits = LIMITS_OF_A_GROUP
    ) -> tuple[World, Leases]:
        """Start another receiver."""
        waiting, leases = self._stores(limits)
        # From the beginning: it looks at once for messages of receivers that have ended.
        dns = Dns({ALICE: OUT, DAVE: OUT})
        opened = open_world_with(self.directory / leases.holder, waiting, wanted=wanted, dns=dns)
        return self.opened.enter_context(opened), leases

    def stuck(self) -> Leases:
        """Start a receiver that has deferred 5 messages from Alice, and does nothing more but keep its lease."""
        waiting, leases = self._stores(LIMITS_OF_A_GROUP)
        waiting.change([message(number, sender=str(ALICE)) for number in waiting.new_numbers(5)], ())
        return leases

    def _stores(self, limits: WaitingLimits) -> tuple[PostgresWaiting, Leases]:
        database = self.opened.enter_context(PostgresDatabase(read_store_url(self.url)))
        leases = taken_leases(database)
        return PostgresWaiting(database, leases.holder, limits), leases


@pytest.fixture
def start(postgresql: Postgresql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("messaging_receiver.deferral.FIRST_RETRY_SECONDS", 0.2)
    monkeypatch.setattr("messaging_receiver.adoption.ADOPTION_SECONDS", 0.1)
    with contextlib.ExitStack() as opened:
        yield Start(tmp_path, postgresql.new_database(), opened)


def rows(world: World) -> list[str]:
    """Return the senders of all messages in the database, whichever receiver handles them."""
    with world.context.waiting_store._database.transaction() as statements:  # type: ignore[attr-defined]
        return [sender for (sender,) in statements.execute("SELECT sender FROM waiting")]


def mend(world: World, *names: IdentityName) -> None:
    """Let DNS answer the next look-ups of names."""
    for name in names:
        world.dns.answers[name] = record_of(KEYS[name])
    world.clock[0] += 120


def defer(world: World, *texts: str) -> None:
    """Have a receiver store messages from Alice."""
    before = len(world.settled)
    for text in texts:
        world.deliver(sealed(text))
    world.wait_for(lambda: len(world.settled) == before + len(texts))


def test_messages_that_several_receivers_have_stored_are_printed_in_order_by_one(start: Start) -> None:
    (one, _), (other, _) = start(), start()
    defer(one, "1", "2")
    defer(other, "3", "4")
    defer(one, "5")
    one.wait_for(lambda: one.authentication.number_waiting == 5)
    assert other.authentication.number_waiting == 0
    mend(other, ALICE)
    mend(one, ALICE)
    one.wait_for(lambda: len(one.printed) == 5)
    assert one.printed == [f"alice.example says: {number}" for number in range(1, 6)]
    one.wait_until_nothing_waits()
    assert other.printed == []


def test_another_receiver_prints_what_one_that_has_ended_had_stored(start: Start) -> None:
    (gone, leases), (other, _) = start(), start()
    prove(gone, ALICE)
    defer(gone, *(str(number) for number in range(40)))
    mend(other, ALICE)
    leases.abandon()
    other.wait_for(lambda: len(other.printed) == 40)
    assert other.printed == [f"alice.example says: {number}" for number in range(40)]
    other.wait_until_nothing_waits()
    assert "refused=0" in other.counters


def test_a_receiver_adopts_what_waits_before_it_prints_new_messages(start: Start) -> None:
    gone, leases = start()
    defer(gone, "1")
    leases.abandon()
    next_one, _ = start()
    # Rows that the other receiver is just looking at are adopted a moment later.
    next_one.wait_for(lambda: next_one.authentication.number_waiting == 1)
    next_one.deliver(sealed("2"))
    mend(next_one, ALICE)
    next_one.wait_for(lambda: len(next_one.printed) == 2)
    assert next_one.printed == [f"alice.example says: {number}" for number in (1, 2)]


def test_a_receiver_whose_lease_has_expired_leaves_its_messages_to_the_others(start: Start) -> None:
    (late, leases), (other, _) = start(), start()
    defer(late, "1", "2")
    leases.abandon()
    other.wait_for(lambda: other.authentication.number_waiting == 2)
    leases.take()
    mend(late, ALICE)
    late.wait_for(lambda: late.authentication.number_waiting == 0)
    assert (late.printed, late.counters.count("refused=0")) == ([], 1)
    defer(late, "3")
    late.wait_for(lambda: late.printed == ["alice.example says: 3"])
    mend(other, ALICE)
    other.wait_for(lambda: other.printed == ["alice.example says: 1", "alice.example says: 2"])


def test_a_copy_of_a_message_that_another_receiver_has_stored_is_refused(start: Start) -> None:
    (one, _), (other, _) = start(), start()
    payload = sealed("once")
    one.deliver(payload)
    one.wait_for(lambda: len(one.settled) == 1)
    other.deliver(payload)
    other.wait_for(lambda: len(other.settled) == 1)
    assert "refused=1 refused_replay=1" in other.counters
    assert one.stored() == [str(ALICE)]
    assert other.authentication.number_waiting == 0


def test_messages_for_which_no_receiver_has_room_wait_until_one_has(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone, leases), (full, _) = start(), start()
    prove(gone, DAVE)
    for number in range(3):
        gone.deliver(sealed(f"number {number}", DAVE))
    gone.wait_for(lambda: len(gone.settled) == 3)
    prove(full, ALICE)
    defer(full, "kept")
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_RESERVED_BYTES", 2048)
    adopt, attempts = full.context.waiting_store.adopt, []

    def count(choose: Callable[[Sequence[Abandoned]], Collection[str]]) -> tuple[WaitingEntry, ...]:
        attempts.append(1)
        return adopt(choose)

    leases.abandon()
    monkeypatch.setattr(full.context.waiting_store, "adopt", count)
    full.wait_for(lambda: len(attempts) == 3)
    assert full.authentication.number_waiting == 1
    mend(full, ALICE, DAVE)
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_RESERVED_BYTES", 2**20)
    full.wait_for(lambda: len(full.printed) == 4)
    of_dave = [line for line in full.printed if line.startswith("dave")]
    assert of_dave == [f"dave.test says: number {number}" for number in range(3)]
    assert "refused=0" in full.counters


def test_what_a_receiver_adopts_from_another_counts_for_its_limits(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one, _), (other, _) = start(), start()
    defer(one, "1")
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN_BYTES", 4096)
    for number in range(2, 22):
        other.deliver(sealed(str(number)))
    other.wait_for(lambda: len(other.settled) == 20)
    one.wait_for(lambda: "refused_waiting-full" in one.counters)
    one.wait_for(lambda: len(one.stored()) < 8)
    mend(one, ALICE)
    one.wait_until_nothing_waits()
    assert one.printed == [f"alice.example says: {number}" for number in range(1, len(one.printed) + 1)]


def test_messages_that_an_ended_receiver_leaves_while_the_others_are_full_are_dropped(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.adoption._DROPPING_SECONDS", 0.1)
    monkeypatch.setattr("idlib.storage.postgresql.waiting.ABANDONED_SECONDS", 0.3)
    gone, (full, _) = start.stuck(), start(limits=replace(LIMITS_OF_A_GROUP, open_messages=2))
    full.deliver(sealed("kept", DAVE))
    full.wait_for(lambda: full.authentication.number_waiting == 1)
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN", 1)
    gone.abandon()
    full.wait_for(lambda: "refused=3 refused_waiting-full=3" in full.counters)
    full.clock[0] += MAX_WAITING_SECONDS + 60
    full.wait_for(lambda: rows(full) == [])
    full.wait_for(lambda: "refused=6 refused_waited-too-long=3 refused_waiting-full=3" in full.counters)


def test_strangers_messages_for_a_receiver_that_is_stuck_are_refused_beyond_a_limit(start: Start) -> None:
    start.stuck()
    other, _ = start(limits=replace(LIMITS_OF_A_GROUP, open_messages=2))
    for number in range(5):
        other.deliver(sealed(str(number)))
    other.wait_for(lambda: len(other.settled) == 5)
    assert "refused=3 refused_waiting-full=3" in other.counters


def test_trusted_names_messages_for_a_receiver_that_is_stuck_stay_at_the_broker_if_dns_is_dead(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.authentication_stage.DEAD_DNS_SECONDS", 0.5)
    start.stuck()
    other, _ = start(limits=replace(LIMITS_OF_A_GROUP, reserved_bytes=4096))
    prove(other, ALICE)
    other.dns.answers[BOB] = OUT
    defer(other, "number 0")
    time.sleep(0.6)
    other.deliver(sealed("probe", DAVE))
    other.wait_for(lambda: BOB in other.dns.asked and len(other.settled) == 2)
    for number in range(1, 30):
        other.deliver(sealed(f"number {number}"))
    other.wait_for(lambda: other.authentication.holds_back)
    time.sleep(0.5)
    settled = len(other.settled)
    assert 2 <= settled < 10
    other.dns.answers[BOB] = record_of(KEYS[ALICE])
    mend(other, ALICE, DAVE)
    other.wait_for(lambda: len(other.settled) == 31)
    # The stuck receiver has the others.
    of_alice = [line for line in other.printed if line.startswith("alice")]
    assert of_alice == [f"alice.example says: number {number}" for number in range(settled - 1, 30)]
    assert "refused=0" in other.counters
    assert not other.authentication.holds_back


def test_adopted_messages_of_senders_that_are_not_wanted_stay_stored(start: Start) -> None:
    (gone, leases), (other, _) = start(), start(NamePatterns((str(DAVE),)))
    defer(gone, "1")
    mend(other, ALICE)
    leases.abandon()
    other.wait_for(lambda: other.authentication.number_waiting == 1)
    assert ALICE not in other.dns.asked
    assert other.stored() == [str(ALICE)]


def test_what_a_killed_receiver_had_deferred_is_printed_once_by_the_other(
    lab: Lab, alice: Device, postgresql: Postgresql, own_unbound: Unbound, tmp_path: Path
) -> None:
    one = lab.published_device("deferring").with_settings(
        STORE=postgresql.new_database(), RECEIVER_GROUP="on", DNS_RESOLVER=own_unbound.address
    )
    store, texts = one.settings["STORE"], [f"message {number:02}" for number in range(20)]
    with one.receiver() as first:
        first_id = postgresql.run("SELECT client_id FROM receiver", store).strip()
        with one.with_settings(DATA_PATH=str(tmp_path)).receiver() as second:
            own_unbound.stop()
            assert alice.send(one, "--lines", stdin="\n".join(texts)).status == 0
            wait_until(
                lambda: postgresql.run("SELECT count(holder) FROM waiting", store).strip() == "20",
                "messages in the database",
            )
            handling = "FROM receiver WHERE holder IN (SELECT holder FROM waiting_sender)"
            client_id = postgresql.run(f"SELECT client_id {handling}", store).strip()
            gone, left = (first, second) if client_id == first_id else (second, first)
            gone.kill()
            own_unbound.start()
            # As after 15 s.
            postgresql.run("UPDATE receiver SET expires_at = now() " + handling.removeprefix("FROM receiver "), store)
            left.wait_for("all messages", lambda: len(left.stdout) == 20)
            assert sorted(left.stdout) == [f'"{alice.name} says: {text}"' for text in texts]
            assert gone.stdout == []
            wait_until(lambda: postgresql.run("SELECT count(*) FROM waiting", store).strip() == "0", "an empty table")
            left.stop()
            assert "refused=0" in left.stderr[-1]
