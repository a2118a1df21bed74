"""One run with a group: the daemons, the faults, and what is checked at the end."""

import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from chaos.group import leftovers
from chaos.group.evidence import GroupReport
from chaos.group.publisher import SENDERS, Publisher, Sealer
from chaos.group.receivers import Receivers
from chaos.group.system import DATABASE, GROUP_FAULTS, HALTED, RECEIVERS, RESOLVER, GroupSystem
from chaos.proxy import Proxy
from chaos.striking import Strikes
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.daemons.postgresql import Postgresql
from testbed.lab import Lab, open_lab
from testbed.programs import Device

_TTL_SECONDS: Final = 3600
_DELIVERY_SECONDS: Final = 60.0
# An abandoned lease ends within 15 s; its session is drained then.
_LEASE_SECONDS: Final = 60.0
_LEAVING_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
# Published while no receiver runs: the session of the last one keeps them.
_FOR_LATER: Final = 50


class GroupChaos:
    """A system with a group of receivers, into which faults are injected.

    Args:
        system: The system.
        database: The value of STORE.
        strikes: Injects the faults.
    """

    def __init__(self, system: GroupSystem, database: str, strikes: Strikes[GroupSystem]) -> None:
        self._system = system
        self._database = database
        self._strikes = strikes

    @property
    def events(self) -> Counter[str]:
        """What happened, and how often."""
        return self._strikes.events + self._system.receivers.events

    @property
    def refusals(self) -> Counter[str]:
        """How many messages the receivers that have ended have refused, by reason."""
        return self._system.receivers.refusals

    @property
    def copies(self) -> int:
        """How many messages were published again with the same bytes."""
        return self._system.publisher.copies

    @property
    def rejected(self) -> int:
        """How often the broker had no subscriber for a message, which was then published again."""
        return self._system.publisher.rejected

    @property
    def is_publishing(self) -> bool:
        """Whether there are messages left to publish."""
        return self._system.publisher.is_running

    def strike(self) -> None:
        """Inject one fault or several, and correct them."""
        self._system.publisher.check()
        self._system.receivers.fill(RECEIVERS)
        self._strikes.strike()

    def settle(self) -> GroupReport:
        """Publish nothing more, wait for the messages in transit, let all receivers leave, and return the report."""
        receivers, publisher = self._system.receivers, self._system.publisher
        publisher.finish()
        receivers.wait_for_leaving(_LEAVING_SECONDS)
        receivers.fill(RECEIVERS)
        _wait(lambda: publisher.acknowledged <= receivers.printed(), _DELIVERY_SECONDS)
        _wait(lambda: len(self._leased()) <= RECEIVERS, _LEASE_SECONDS)
        for staying in (1, 0):
            receivers.ask_to_leave(staying)
            receivers.wait_for_leaving(_LEAVING_SECONDS)
        publisher.publish(_FOR_LATER)
        receivers.fill(1)
        _wait(lambda: publisher.acknowledged <= receivers.printed(), _DELIVERY_SECONDS)
        receivers.ask_to_leave(0)
        receivers.wait_for_leaving(_LEAVING_SECONDS)
        return self._report()

    def _report(self) -> GroupReport:
        system = self._system
        mosquitto = system.lab.mosquitto
        left = leftovers.in_database(system.postgresql, self._database)
        left += leftovers.at_broker(mosquitto.port, mosquitto.log, self._leased(), system.broker_kills)
        return GroupReport(
            system.publisher.acknowledged,
            system.publisher.published,
            system.receivers.runs,
            sum(self._strikes.events[name] for name in {fault.name for fault in GROUP_FAULTS[DATABASE]}),
            self._strikes.events[HALTED.name],
            left,
            tuple(system.receivers.unasked_ends),
        )

    def _leased(self) -> tuple[str, ...]:
        return leftovers.leased_client_ids(self._system.postgresql, self._database)


@contextlib.contextmanager
def open_group(seed: int, limit: int | None) -> Iterator[GroupChaos]:
    """Yield a system whose receivers are subscribed, and whose publisher runs; everything is removed afterwards.

    Args:
        seed: Decides what happens.
        limit: How many messages to publish; None for as many as there is time for.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-group-")))
        lab = stack.enter_context(open_lab(directory))
        postgresql = stack.enter_context(Postgresql())
        database = postgresql.new_database()
        proxy = stack.enter_context(Proxy(lab.mosquitto.port, 0, 0))
        recipient, sealer = _recipient(lab, directory)
        place = directory / "receivers"
        place.mkdir()
        device = recipient.with_settings(
            MQTT_PORT=str(proxy.port), STORE=database, RECEIVER_GROUP="on", RECEIVER_WORKERS="1"
        )
        receivers = Receivers(device, place)
        stack.callback(receivers.close)
        receivers.fill(RECEIVERS)
        receivers.wait_until_subscribed()
        publisher = Publisher(
            lab.mosquitto.port,
            recipient.topic,
            sealer,
            receivers.number_printed,
            random.Random(f"{seed} copies"),
            limit,
        )
        stack.callback(publisher.close)
        publisher.start()
        system = GroupSystem(lab, postgresql, proxy, receivers, publisher, random.Random(f"{seed} whom"))
        strikes = Strikes(system, random.Random(f"{seed} what"), GROUP_FAULTS, rare=RESOLVER)
        yield GroupChaos(system, database, strikes)


def _recipient(lab: Lab, directory: Path) -> tuple[Device, Sealer]:
    """Return a recipient that prints the messages of many senders with a record in common, and what seals these."""
    sender, recipient = (
        lab.published_device(label, ttl=_TTL_SECONDS, settings={"KEY_TYPE": "p256"})
        for label in ("sender", "recipient")
    )
    zone = f"group-{sender.name}"
    lab.knot.add_tlsa(f"*.{zone}", sender.tlsa_record(), _TTL_SECONDS)
    names = tuple(IdentityName(f"sensor-{number}.{zone}") for number in range(SENDERS))
    allowed = directory / "allowed"
    allowed.write_text("".join(f"{name}\n" for name in names))
    sealer = Sealer(
        names,
        read_private_key(sender.key_path),
        IdentityName(recipient.name),
        read_private_key(recipient.key_path).public,
    )
    return recipient.with_settings(ALLOWED_SENDERS=f"@{allowed}"), sealer


def _wait(condition: Callable[[], bool], timeout: float) -> None:
    """Wait until a condition is true, or for so many seconds; the report shows which."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
