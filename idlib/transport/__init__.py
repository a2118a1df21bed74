"""The MQTT session: publish with acknowledgement, and subscribe with acknowledgement in the order of receipt.

The broker is trusted with nothing but delivery (MQTT 5, https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html).
"""

from idlib.transport.arrivals import Delivery, ReceivedPacket
from idlib.transport.broker import Broker
from idlib.transport.connection import new_client_id, new_client_id_at
from idlib.transport.publication import Publication
from idlib.transport.publisher import Publisher
from idlib.transport.subscription import Subscription

__all__ = [
    "Broker",
    "Delivery",
    "Publication",
    "Publisher",
    "ReceivedPacket",
    "Subscription",
    "new_client_id",
    "new_client_id_at",
]
