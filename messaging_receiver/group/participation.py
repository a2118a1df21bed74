"""What a receiver of a group does beside receiving: it drains abandoned sessions, and leaves its group at the end."""

import threading
from collections.abc import Callable, Sequence

from idlib.transport import Broker, Delivery, ReceivedPacket, Subscription
from idlib.transport.session_drain import SessionDrain
from messaging_receiver.context import Context
from messaging_receiver.ending import Ending
from messaging_receiver.group.departure import Departure
from messaging_receiver.group.draining import DRAINED_AT_ONCE, AbandonedSessions
from messaging_receiver.group.membership import Membership


class Participation:
    """The threads of a receiver that is one of a group.

    Args:
        context: What the stages share.
        membership: The lease of this receiver.
        broker: Where the sessions are.
        topic_filter: What every receiver of the group subscribes to.
        subscription: This receiver's own session.
        deliver: Called with each message of a session that is drained; may block.
        ending: Ends the receiver, and from now on lets it leave first.
    """

    def __init__(
        self,
        context: Context,
        membership: Membership,
        broker: Broker,
        topic_filter: str,
        subscription: Subscription,
        deliver: Callable[[Delivery], None],
        ending: Ending,
    ) -> None:
        settings, leaving = context.settings, threading.Event()

        def open_drain(client_id: str) -> SessionDrain:
            expiry, size = settings.mqtt_session_expiry, settings.max_message_size
            # It may be the session of a receiver that was not one of a group yet.
            filters = (topic_filter, broker.topics.of(settings.identity_name))
            return SessionDrain(broker, client_id, filters, expiry, size, deliver)

        self._subscription = subscription
        self._sessions = AbandonedSessions(
            context, membership.leases, open_drain, lambda: subscription.is_active, leaving
        )
        self._departure = Departure(
            membership.leases, lambda: membership.client_id, subscription.leave, leaving, context.stopping
        )
        ending.let_leave(leaving)

    def threads(self) -> dict[str, Callable[[], None]]:
        """Return what to run, by the names of the threads."""
        drains = {f"Drain-{number}": self._sessions.run for number in range(1, DRAINED_AT_ONCE + 1)}
        return {**drains, "Departure": self._departure.run}

    def settle(self, packets: Sequence[ReceivedPacket]) -> None:
        """Acknowledge messages in their turn, each in the session that it came from.

        Args:
            packets: The packets of messages that are printed, refused or stored for good.
        """
        self._subscription.settle(packets)
        self._sessions.settle(packets)
