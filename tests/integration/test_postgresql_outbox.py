"""The outbox in a real database: the rules of every engine, and what only several senders need."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest

from idlib.errors import DatabaseError, StoreError
from idlib.names import IdentityName
from idlib.settings.store_urls import read_store_url
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.storage.postgresql import sender_leases
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.delivery import PostgresDelivery
from idlib.storage.postgresql.outbox import PostgresOutbox
from idlib.storage.queued import BootTime
from testbed.daemons.postgresql import Postgresql
from testbed.lab import wait_until
from tests.idlib.storage.outbox_rules import ALICE, BOB, Opening, OutboxRules, first_to, message

OWNER: Final = IdentityName("owner._device.example.com")


@pytest.fixture
def store(postgresql: Postgresql) -> str:
    return postgresql.new_database()


def delivery(store: str) -> PostgresDelivery:
    url = read_store_url(store)
    return PostgresDelivery(PostgresDatabase(url), PostgresDatabase(url), OWNER)


@pytest.fixture
def opening(store: str) -> Opening:
    return partial(delivery, store)


@pytest.fixture
def shared(store: str) -> Iterator[PostgresDelivery]:
    with delivery(store) as outbox:
        yield outbox


@pytest.fixture
def other(store: str) -> Iterator[PostgresDelivery]:
    """Yield the outbox as another sender has opened it."""
    with delivery(store) as outbox:
        yield outbox


def let_leases_end(postgresql: Postgresql, store: str) -> None:
    """Do what happens if no sender renews its lease for a long time."""
    postgresql.run("UPDATE outgoing_sender SET expires_at = now() - interval '1 s'", store)


class TestPostgresOutbox(OutboxRules):
    """The rules of every engine."""


def test_an_outbox_is_closed_although_the_server_does_not_answer(own_postgresql: Postgresql) -> None:
    outbox = delivery(own_postgresql.new_database())
    closing = threading.Thread(target=outbox.close, daemon=True)
    with own_postgresql.silent():
        closing.start()
        closing.join(20)
        assert not closing.is_alive()


def test_only_one_sender_at_a_time_has_a_recipient(shared: PostgresDelivery, other: PostgresDelivery) -> None:
    assert shared.take(BOB)
    assert shared.take(BOB)
    assert not other.take(BOB)
    assert other.take(ALICE)
    assert other.taken_by_others() == {BOB}
    assert shared.taken_by_others() == {ALICE}
    shared.check_taken(BOB)
    with pytest.raises(StoreError, match="another resident sender may send"):
        shared.check_taken(ALICE)
    shared.release(BOB)
    assert other.taken_by_others() == frozenset()
    assert other.take(BOB)
    with pytest.raises(StoreError, match="another resident sender may send"):
        shared.check_taken(BOB)


def test_a_sender_that_ends_leaves_its_recipients_to_others_at_once(store: str, other: PostgresDelivery) -> None:
    with delivery(store) as outbox:
        assert outbox.take(BOB)
    assert other.take(BOB)


def test_the_recipients_of_a_sender_whose_lease_has_ended_are_taken_over_and_it_notices(
    postgresql: Postgresql, store: str, shared: PostgresDelivery, other: PostgresDelivery
) -> None:
    assert shared.take(BOB)
    let_leases_end(postgresql, store)
    other._lease.renew()
    assert other.taken_by_others() == frozenset()
    assert other.take(BOB)
    # It cannot renew what has ended.
    shared._lease.renew()
    with pytest.raises(StoreError, match="another resident sender may send"):
        shared.check_taken(BOB)
    assert not shared.take(BOB)
    other.release(BOB)
    assert shared.take(BOB)
    shared.check_taken(BOB)


def test_a_sender_that_has_not_renewed_its_lease_in_time_does_not_publish(
    shared: PostgresDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared.take(BOB)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(sender_leases, "boot_time", lambda: now + sender_leases.LEASE_SECONDS)
    with pytest.raises(StoreError, match="another resident sender may send"):
        shared.check_taken(BOB)
    assert not shared.take(ALICE)


def test_an_internal_error_does_not_end_the_renewal_of_the_lease(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender_leases, "RENEWAL_SECONDS", 0.05)
    renew, failures = sender_leases.SenderLease.renew, iter([False, True])

    def fail_once(lease: sender_leases.SenderLease) -> None:
        if next(failures, False):
            raise ValueError("an error of ours")
        renew(lease)

    monkeypatch.setattr(sender_leases.SenderLease, "renew", fail_once)
    with delivery(store) as outbox:
        wait_until(lambda: "Internal error while the lease is renewed" in caplog.messages, "the line")
        before = outbox._lease._term
        wait_until(lambda: outbox._lease._term != before, "a renewal")
        assert outbox.take(BOB)


def test_a_sender_whose_lease_cannot_be_renewed_says_why_it_sends_nothing(
    postgresql: Postgresql, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_leases, "RENEWAL_SECONDS", 0.05)
    with delivery(store) as outbox:
        postgresql.run("ALTER TABLE outgoing_sender RENAME TO another", store)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(sender_leases, "boot_time", lambda: now + sender_leases.LEASE_SECONDS)
        wait_until(lambda: outbox._lease._failure is not None, "a renewal that fails")
        with pytest.raises(StoreError, match="outgoing_sender"):
            outbox.take(ALICE)


def test_a_sender_is_known_while_its_lease_is_valid(postgresql: Postgresql, store: str) -> None:
    with PostgresOutbox(PostgresDatabase(read_store_url(store)), OWNER) as outbox:
        assert not outbox.has_senders()
        with delivery(store):
            assert outbox.has_senders()
            let_leases_end(postgresql, store)
            assert not outbox.has_senders()
        assert not outbox.has_senders()


def test_an_expired_message_is_left_to_the_sender_that_has_its_recipient(
    shared: PostgresDelivery, other: PostgresDelivery
) -> None:
    shared.put(message("one"))
    shared.put(message("two", ALICE))
    assert shared.take(BOB)
    assert other.forget_expired(2000, 100, 100) == [("two", ALICE)]
    assert shared.forget_expired(2000, 100, 100) == [("one", BOB)]


def test_a_message_is_queued_at_the_time_of_the_database_if_the_programs_clock_is_wrong(
    shared: PostgresDelivery,
) -> None:
    shared.put(message("wrong", queued_at=1000), BootTime.now())
    near = int(time.time()) - 60
    shared.put(message("right", ALICE, queued_at=near), BootTime.now())
    assert abs(first_to(shared, BOB).queued_at - shared.clock.read().shown) < 60
    assert first_to(shared, ALICE).queued_at == near


def test_the_outbox_of_another_name_is_refused(store: str, shared: PostgresDelivery) -> None:
    shared.put(message("ours"))
    with pytest.raises(StoreError, match=r"belongs to owner\._device\.example\.com, and IDENTITY_NAME is other"):
        PostgresOutbox(PostgresDatabase(read_store_url(store)), IdentityName("other._device.example.com"))


def test_a_database_that_is_away_is_one_clear_error_and_is_used_again(own_postgresql: Postgresql) -> None:
    store = own_postgresql.new_database()
    with delivery(store) as outbox:
        outbox.put(message("before"))
        # Unlike `kill`, this waits until no process of the server answers.
        own_postgresql.stop()
        for operation in (outbox.waiting, outbox.recipients, lambda: outbox.put(message("while away"))):
            with pytest.raises(DatabaseError) as raised:
                operation()
            assert "\n" not in str(raised.value)
        with pytest.raises(DatabaseError, match="cannot be used"):
            delivery(store)
        own_postgresql.start()
        outbox.put(NewOutgoingMessage(BOB, "after", b"\0", 1000, None, content_type="x/y"))
        found = first_to(outbox, BOB)
        assert found.identifier == "before"
        outbox.remove(found.number)
        assert first_to(outbox, BOB).content == b"\0"
