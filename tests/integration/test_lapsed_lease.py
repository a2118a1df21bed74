"""A receiver of a group whose lease had expired although it runs, and another one that has taken over its messages."""

from pathlib import Path

from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import free_port
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab, wait_until
from testbed.metrics import wait_for_samples
from testbed.programs import Device

_DEFERRED = ("deferred_messages", ())


def test_deferred_messages_count_only_for_the_receiver_that_has_taken_them_over(
    lab: Lab, alice: Device, postgresql: Postgresql, own_unbound: Unbound, tmp_path: Path
) -> None:
    store, ports = postgresql.new_database(), (free_port(), free_port())
    published = lab.published_device("lapsing").with_settings(
        STORE=store, RECEIVER_GROUP="on", DNS_RESOLVER=own_unbound.address
    )
    one, another = (
        published.with_settings(METRICS_ADDRESS=str(port), DATA_PATH=str(tmp_path / str(port))) for port in ports
    )

    def handler() -> str:
        return postgresql.run("SELECT DISTINCT holder FROM waiting", store).strip()

    with one.receiver() as first:
        first_holder = postgresql.run("SELECT holder FROM receiver", store).strip()
        with another.receiver() as second:
            own_unbound.stop()
            assert alice.send(one, "--lines", stdin="\n".join(map(str, range(20)))).status == 0
            wait_until(
                lambda: postgresql.run("SELECT count(holder) FROM waiting", store).strip() == "20",
                "messages in the database",
            )
            late_holder = handler()
            late = first if late_holder == first_holder else second
            late_port, port = ports if late is first else reversed(ports)

            def is_taken_over() -> bool:
                postgresql.run(f"UPDATE receiver SET expires_at = now() WHERE holder = '{late_holder}'", store)
                return handler() not in {"", late_holder}

            wait_until(is_taken_over, "another receiver that handles the messages")
            late.wait_for_log("The lease of this receiver had expired")
            wait_for_samples(port, "20 deferred messages", lambda found: found[_DEFERRED] == 20)
            wait_for_samples(late_port, "no deferred message", lambda found: found[_DEFERRED] == 0)
            own_unbound.start()
            both = first, second
            wait_until(lambda: sum(len(each.stdout) for each in both) == 20, "all messages")
            assert late.stdout == []
