"""A receiver with its stores in a database: what it prints, and what it does while the database is away."""

from pathlib import Path

import pytest

from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import LOOPBACK, free_port
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient, encrypted, signed
from testbed.programs import RECEIVER, Device, Program
from tests.integration.test_faults import health, log_lines, wait_for_health

READY = "ok: connected, subscribed, threads moving, own record in DNS, lease valid, receivers 1"


def _printed(sender: Device, texts: list[str]) -> list[str]:
    return [f'"{sender.name} says: {text}"' for text in texts]


def _lost_lease(postgresql: Postgresql, store: str, change: str) -> None:
    postgresql.run(f"UPDATE receiver SET {change}", store)


def test_a_restarted_receiver_knows_what_was_printed_from_the_database_alone(
    lab: Lab, alice: Device, postgresql: Postgresql, anybody: BrokerClient, tmp_path: Path
) -> None:
    device = lab.published_device("pat").with_settings(STORE=postgresql.new_database())
    message = encrypted(signed("once", alice, device), device)
    with device.receiver() as receiver:
        anybody.publish(device, message)
        receiver.wait_for_message("once")
        wait_for_health(device, READY)
        receiver.wait_for_log("lease=valid receivers=1")
        assert receiver.stop() == 0
    assert alice.send(device, "while it was away").status == 0
    with device.with_settings(DATA_PATH=str(tmp_path)).receiver() as receiver:
        receiver.wait_for_message("while it was away")
        anybody.publish(device, message)
        receiver.wait_for_refusal("replay")
        assert receiver.stdout == _printed(alice, ["while it was away"])
        assert not list(tmp_path.glob("*.sqlite3"))
        assert not log_lines(receiver, "Traceback")


def test_messages_wait_while_the_database_is_away_and_are_printed_once(
    lab: Lab, alice: Device, own_postgresql: Postgresql
) -> None:
    device = lab.published_device("paula").with_settings(STORE=own_postgresql.new_database())
    texts = [f"message {number:02}" for number in range(40)]
    with device.receiver() as receiver:
        assert alice.send(device, "before").status == 0
        receiver.wait_for_message("before")
        with own_postgresql.away():
            assert alice.send(device, "--lines", stdin="\n".join(texts)).status == 0
            receiver.wait_for_log("Messages wait for the database")
            wait_for_health(device, "database: the database")
            assert receiver.stdout == _printed(alice, ["before"])
        receiver.wait_for_log("The database can be used again")
        receiver.wait_for_message("message 39")
        wait_for_health(device, READY)
        assert receiver.stdout == _printed(alice, ["before", *texts])
        assert len(log_lines(receiver, "Messages wait for the database")) == 1
        assert not log_lines(receiver, "Traceback")
        assert receiver.stop() == 0


def test_a_receiver_waits_at_the_start_for_the_database(lab: Lab, alice: Device, own_postgresql: Postgresql) -> None:
    device = lab.published_device("pia").with_settings(STORE=own_postgresql.new_database())
    own_postgresql.kill()
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Messages wait for the database: the database")
        wait_for_health(device, "database: the database")
        own_postgresql.start()
        receiver.wait_for_log("The database can be used again")
        receiver.wait_for_log("MQTT subscription active")
        assert alice.send(device, "after").status == 0
        receiver.wait_for_message("after")
        assert len(log_lines(receiver, "Messages wait for the database")) == 1


def test_a_receiver_that_waits_for_the_database_can_be_stopped(lab: Lab) -> None:
    device = lab.published_device("paul").with_settings(STORE=f"postgresql://receiver@{LOOPBACK}:{free_port()}/absent")
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Messages wait for the database")
        assert receiver.stop(5) == 0
        assert receiver.stderr[-1].endswith(" INFO Stopped before it has connected to the broker")


@pytest.mark.parametrize(
    ("user", "database", "fact"),
    [
        ("nobody", "postgres", 'role "nobody" does not exist'),
        ("receiver", "absent", 'database "absent" does not exist'),
    ],
)
def test_a_wrong_user_or_database_is_one_line(
    user: str, database: str, fact: str, lab: Lab, postgresql: Postgresql
) -> None:
    store = f"postgresql://{user}@{postgresql.address}/{database}"
    with lab.published_device("pablo").with_settings(STORE=store).start(RECEIVER) as receiver:
        receiver.wait_for_log(fact)
        assert receiver.stop(5) == 0
        assert len(log_lines(receiver, "Messages wait for the database")) == 1
        assert not log_lines(receiver, "Traceback")


def test_a_wrong_password_is_one_line_and_the_right_one_is_used(
    lab: Lab, postgresql: Postgresql, tmp_path: Path
) -> None:
    database = postgresql.new_database().rpartition("/")[2]
    user = postgresql.new_role("PASSWORD 'right'")
    postgresql.run(f"GRANT CREATE ON SCHEMA public TO {user}", database)
    rules = postgresql.run("SHOW hba_file").strip()
    lines = f"('host all {user} all scram-sha-256'), ('host all all all trust'), ('local all all trust')"
    postgresql.run(f"COPY (VALUES {lines}) TO '{rules}'")
    postgresql.run("SELECT pg_reload_conf()")
    password = tmp_path / "password"
    password.write_text("wrong\n")
    store = f"postgresql://{user}@{postgresql.address}/{database}"
    device = lab.published_device("pascal").with_settings(STORE=store, STORE_PASSWORD_FILE=str(password))
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log(f'password authentication failed for user "{user}"')
        (line,) = log_lines(receiver, "Messages wait for the database")
        assert line.endswith("check the user in STORE, and STORE_PASSWORD_FILE")
        assert receiver.stop(5) == 0
    password.write_text("right\n")
    with device.receiver() as receiver:
        assert receiver.stop() == 0


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_with_another_encoding_than_utf_8_works(
    encoding: str, lab: Lab, alice: Device, postgresql: Postgresql
) -> None:
    name = encoding.lower()
    postgresql.run(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    device = lab.published_device("perdita").with_settings(STORE=postgresql.url(name))
    for text in ("grüße 🙂", "again"):
        with device.receiver() as receiver:
            assert alice.send(device, text).status == 0
            receiver.wait_for_message(text)
            assert receiver.stop() == 0


def test_without_a_group_a_second_receiver_is_refused(
    lab: Lab, alice: Device, postgresql: Postgresql, tmp_path: Path
) -> None:
    device = lab.published_device("petra").with_settings(STORE=postgresql.new_database())
    with device.receiver() as first:
        second = device.with_settings(DATA_PATH=str(tmp_path)).run(RECEIVER)
        assert second.status == 1
        assert "another receiver uses the database" in second.stderr.splitlines()[-1]
        assert "Traceback" not in second.stderr
        assert alice.send(device, "to the first").status == 0
        first.wait_for_message("to the first")


def test_a_killed_receiver_can_be_started_again(lab: Lab, alice: Device, postgresql: Postgresql) -> None:
    store = postgresql.new_database()
    device = lab.published_device("perry").with_settings(STORE=store)
    with device.receiver() as receiver:
        receiver.kill()
    assert alice.send(device, "while it was dead").status == 0
    with device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Another receiver uses the database, or has died")
        # As after 15 s.
        _lost_lease(postgresql, store, "expires_at = now()")
        receiver.wait_for_message("while it was dead")


def test_the_clock_of_this_machine_cannot_be_trusted_by_command(lab: Lab, postgresql: Postgresql) -> None:
    device = lab.published_device("pim").with_settings(STORE=postgresql.url())
    result = device.run(RECEIVER, "--trust-clock")
    assert result.status == 1
    assert result.stderr == (
        "Error: with STORE, times come from the database's clock; set the clock of the database server\n"
    )


def test_a_database_belongs_to_one_name(lab: Lab, postgresql: Postgresql) -> None:
    store = postgresql.new_database()
    pedro, paco = (lab.published_device(name).with_settings(STORE=store) for name in ("pedro", "paco"))
    with pedro.receiver():
        pass
    result = paco.run(RECEIVER)
    assert result.status == 1
    assert f"belongs to {pedro.name}, and IDENTITY_NAME is {paco.name}" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_database_of_a_receiver_is_not_an_outbox_for_another_name_and_the_reverse(
    lab: Lab, postgresql: Postgresql
) -> None:
    store = postgresql.new_database()
    pepe, petronella = (lab.published_device(name).with_settings(STORE=store) for name in ("pepe", "petronella"))
    with pepe.receiver():
        pass
    refused = petronella.send(pepe, "--queue", "hello")
    assert refused.status == 1
    assert f"belongs to {pepe.name}, and IDENTITY_NAME is {petronella.name}" in refused.stderr
    assert pepe.send(petronella, "--queue", "hello").status == 0

    store = postgresql.new_database()
    pepe, petronella = (device.with_settings(STORE=store) for device in (pepe, petronella))
    assert petronella.send(pepe, "--queue", "hello").status == 0
    result = pepe.run(RECEIVER)
    assert result.status == 1
    assert f"belongs to {petronella.name}, and IDENTITY_NAME is {pepe.name}" in result.stderr


def test_a_receiver_whose_lease_has_expired_continues(lab: Lab, alice: Device, postgresql: Postgresql) -> None:
    store = postgresql.new_database()
    device = lab.published_device("peggy").with_settings(STORE=store)
    with device.receiver() as receiver:
        _lost_lease(postgresql, store, "expires_at = now()")
        receiver.wait_for_log("The lease of this receiver had expired, and is renewed")
        assert alice.send(device, "after that").status == 0
        receiver.wait_for_message("after that")
        assert health(device) == READY


def test_a_receiver_whose_session_was_taken_over_continues_with_another(
    lab: Lab, alice: Device, postgresql: Postgresql
) -> None:
    store = postgresql.new_database()
    device = lab.published_device("penny").with_settings(STORE=store, RECEIVER_GROUP="on")
    with device.receiver() as receiver:
        _lost_lease(postgresql, store, "holder = 'another', expires_at = now() + interval '5 s'")
        receiver.wait_for_log("another receiver has taken over its session")
        wait_until(lambda: len(log_lines(receiver, "MQTT subscription active")) == 2, "a second subscription")
        # Some go to the session that is no longer ours.
        assert alice.send(device, "--lines", stdin="\n".join(["after that"] * 4)).status == 0
        receiver.wait_for_message("after that")
        assert not log_lines(receiver, "has lost the session")


def test_receivers_of_a_group_share_the_messages(
    lab: Lab, alice: Device, postgresql: Postgresql, tmp_path: Path
) -> None:
    device = lab.published_device("polly").with_settings(STORE=postgresql.new_database(), RECEIVER_GROUP="on")
    texts = [f"message {number:02}" for number in range(40)]

    def printed(receivers: list[Program]) -> list[str]:
        return sorted(line for receiver in receivers for line in receiver.stdout)

    with device.receiver() as first, device.with_settings(DATA_PATH=str(tmp_path)).receiver() as second:
        wait_for_health(device, "receivers 2")
        third = device.run(RECEIVER)
        assert third.status == 1
        assert "is in use by another process; stop the other receiver, or give this one a DATA_PATH" in third.stderr
        assert third.stderr.count("\n") == 1
        assert alice.send(device, "--lines", stdin="\n".join(texts)).status == 0
        both = [first, second]
        wait_until(lambda: len(printed(both)) >= len(texts), "all messages")
        assert printed(both) == _printed(alice, texts)
        assert first.stdout
        assert second.stdout
