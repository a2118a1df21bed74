"""A message that a receiver may not print yet, because another one has claimed a copy of it."""

import hashlib
import json

from chaos.proxy import Proxy
from testbed.daemons.postgresql import Postgresql
from testbed.lab import Lab
from testbed.programs import RECEIVER, SUBSCRIBED, Device


def test_a_held_message_survives_a_lost_connection_and_then_the_death_of_both_receivers(
    lab: Lab, alice: Device, postgresql: Postgresql
) -> None:
    store = postgresql.new_database()
    device = lab.published_device("holding").with_settings(STORE=store, RECEIVER_GROUP="on")
    with (
        Proxy(lab.mosquitto.port, 0.0, 0.0) as proxy,
        device.with_settings(MQTT_PORT=str(proxy.port)).receiver() as one,
    ):
        # From now on it knows the sender's key, so that it does not store the next message.
        assert alice.send(device, "first").status == 0
        one.wait_for_message("first")
        proxy.hold()
        sent = alice.send(device, "held", "--json")
        _claim_for_another(postgresql, store, alice, json.loads(sent.stdout)["id"])
        proxy.release()
        assert alice.send(device, "second").status == 0
        one.wait_for_message("second")
        proxy.cut()
        one.wait_for_refusal("replay")
        assert alice.send(device, "third").status == 0
        one.wait_for_message("third")
        assert len(one.stdout) == 3
        one.kill()
    postgresql.run("DELETE FROM receiver WHERE holder = 'another'; UPDATE receiver SET expires_at = now()", store)
    with device.receiver() as last:
        last.wait_for_message("held")


def test_a_receiver_that_starts_while_the_database_is_away_leaves_the_claims_to_receivers_that_run(
    lab: Lab, alice: Device, own_postgresql: Postgresql
) -> None:
    """Their leases have expired meanwhile, and they need a moment to renew them."""
    store = own_postgresql.new_database()
    device = lab.published_device("late").with_settings(STORE=store, RECEIVER_GROUP="on")
    with device.receiver() as receiver:
        receiver.stop()
    _claim_for_another(own_postgresql, store, alice, "printed, and not recorded yet")
    own_postgresql.run("UPDATE receiver SET expires_at = now()", store)
    own_postgresql.stop()
    with device.start(RECEIVER) as late:
        late.wait_for_log("Messages wait for the database")
        own_postgresql.start()
        late.wait_for_log(SUBSCRIBED)
        assert own_postgresql.run("SELECT holder FROM claim", store).strip() == "another"


def _claim_for_another(postgresql: Postgresql, store: str, sender: Device, identifier: str) -> None:
    """Claim a message as another receiver that has got a copy of it.

    A lease that ends later than in a minute counts as one from before the clock was set back.
    """
    key = hashlib.sha256(f"{sender.name}\0{identifier}".encode()).hexdigest()[:32]
    postgresql.run(
        "INSERT INTO receiver (client_id, holder, expires_at, is_alone)"
        " VALUES ('another', 'another', now() + interval '55 s', false);"
        f"INSERT INTO claim VALUES ('{sender.name}', '\\x{key}', 'another')",
        store,
    )
