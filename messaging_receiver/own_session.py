"""The session at the broker that the receiver subscribes with."""

from collections.abc import Callable
from dataclasses import dataclass

from idlib.transport import Broker
from idlib.transport.session_notes import SessionMemory
from messaging_receiver.context import Context
from messaging_receiver.state import KeptSession, kept_client_id


@dataclass(frozen=True, slots=True)
class OwnSession:
    """The session at the broker that the receiver subscribes with.

    Args:
        client_id: Returns its name, which is secret; None while another receiver may use the session.
        topic_filter: What it subscribes to.
        memory: Stores that it exists.
    """

    client_id: Callable[[], str | None]
    topic_filter: str
    memory: SessionMemory


def kept_session(context: Context, broker: Broker) -> OwnSession:
    """Return the session of a receiver with its stores in DATA_PATH.

    Args:
        context: What the stages share.
        broker: Where the session is.
    """
    client_id = broker.client_id or kept_client_id(context)
    return OwnSession(
        lambda: client_id,
        broker.topics.of(context.settings.identity_name),
        KeptSession(context.memory, broker.client_id),
    )
