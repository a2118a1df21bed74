"""Which program created a session at the broker: this one, or another to which the broker gives the same session."""

import logging
import threading
from enum import Enum, auto

from idlib.errors import TransportError
from idlib.transport.broker import Broker
from idlib.transport.connection import new_client_id_at
from idlib.transport.inquiry import Inquiry

_LOG = logging.getLogger(__name__)


class Owner(Enum):
    """Which program created the session that the broker has given us."""

    US = auto()
    ANOTHER = auto()
    UNKNOWN = auto()


class OwnerCheck:
    """Finds out whether a broker identifies clients by their ids, and so who created the session under our own.

    Args:
        broker: The broker that is asked.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        # Whether the broker is known to identify clients by their ids: that is asked once.
        self._is_by_id = False

    def find(self, timeout: float, leaving: threading.Event | None = None) -> Owner:
        """Return who created the session that the broker has under our client id.

        While there is one, the broker has none under another client id if it identifies clients by their ids. At such a
        broker no one else can have created ours, because no one else knows our id.

        Args:
            timeout: Seconds that the answer may take.
            leaving: Ends the wait when it is set.
        """
        if self._is_by_id:
            return Owner.US
        try:
            with Inquiry(self._broker, new_client_id_at(self._broker), timeout) as inquiry:
                is_present = inquiry.ask(leaving)
                if is_present is False:
                    inquiry.end()
        except TransportError as error:
            _LOG.debug("it is not known who created the session at %s: %s", self._broker, error)
            is_present = None
        if is_present is None:
            return Owner.UNKNOWN
        self._is_by_id = not is_present
        return Owner.ANOTHER if is_present else Owner.US
