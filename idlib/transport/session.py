"""What a broker grants in its CONNACK (MQTT 5, section 3.2; MQTT 3.1.1, section 3.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from idlib.settings import MqttVersion

# The defaults for properties that are not in CONNACK (MQTT 5, section 3.2.2.3).
_DEFAULT_RECEIVE_MAXIMUM: Final = 65535
_DEFAULT_MAXIMUM_QOS: Final = 2
SESSION_FOR_EVER: Final = 0xFFFFFFFF


class ConnackProperty(IntEnum):
    """The properties of CONNACK that we use (MQTT 5, section 3.2.2.3).

    We do not need Retain Available and those about wildcards and subscription identifiers, because we publish nothing
    retained and use neither.
    """

    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    RECEIVE_MAXIMUM = 0x21
    MAXIMUM_QOS = 0x24
    MAXIMUM_PACKET_SIZE = 0x27
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


@dataclass(frozen=True, slots=True)
class Grant:
    """What the broker has granted to a session.

    Args:
        version: The version of MQTT; 3.1.1 grants nothing but the session itself.
        is_kept: Whether the broker has kept the session since the last connection.
        asked_expiry: For how many seconds it was asked to keep the session without a connection.
        expiry: For how many seconds it will; None if it does not say.
        receive_maximum: How many unacknowledged messages it accepts from us at a time.
        maximum_packet_size: Bytes of the largest packet that it accepts; None for no limit.
        maximum_qos: The highest quality of service that it accepts from us.
        keep_alive: The keep alive that it demands, in seconds; None if it leaves that to us.
        assigned_client_id: The client id that it has assigned; None if it uses ours.
        has_shared_subscriptions: Whether it has shared subscriptions, as far as it says (MQTT 5, section 3.2.2.3.13).
    """

    version: MqttVersion
    is_kept: bool
    asked_expiry: int
    expiry: int | None = None
    receive_maximum: int = _DEFAULT_RECEIVE_MAXIMUM
    maximum_packet_size: int | None = None
    maximum_qos: int = _DEFAULT_MAXIMUM_QOS
    keep_alive: int | None = None
    assigned_client_id: str | None = None
    has_shared_subscriptions: bool = True

    @classmethod
    def from_connack(
        cls,
        version: MqttVersion,
        asked_expiry: int,
        properties: Mapping[ConnackProperty, int | str],
        *,
        is_kept: bool,
    ) -> Self:
        """Return what a CONNACK grants.

        Args:
            version: The version of MQTT.
            asked_expiry: What CONNECT asked for, in seconds.
            properties: Its properties; MQTT 3.1.1 has none.
            is_kept: Whether it reports Session Present.
        """
        if version is MqttVersion.V311:
            return cls(version, is_kept, asked_expiry)

        def number(name: ConnackProperty) -> int | None:
            value = properties.get(name)
            return value if isinstance(value, int) else None

        expiry, receive_maximum, maximum_qos = (
            number(ConnackProperty.SESSION_EXPIRY_INTERVAL),
            number(ConnackProperty.RECEIVE_MAXIMUM),
            number(ConnackProperty.MAXIMUM_QOS),
        )
        assigned = properties.get(ConnackProperty.ASSIGNED_CLIENT_IDENTIFIER)
        return cls(
            version,
            is_kept,
            asked_expiry,
            asked_expiry if expiry is None else expiry,
            _DEFAULT_RECEIVE_MAXIMUM if receive_maximum is None else receive_maximum,
            number(ConnackProperty.MAXIMUM_PACKET_SIZE),
            _DEFAULT_MAXIMUM_QOS if maximum_qos is None else maximum_qos,
            number(ConnackProperty.SERVER_KEEP_ALIVE),
            assigned if isinstance(assigned, str) else None,
            has_shared_subscriptions=number(ConnackProperty.SHARED_SUBSCRIPTION_AVAILABLE) != 0,
        )

    @property
    def is_short(self) -> bool:
        """Whether the broker keeps the session for a shorter time than it was asked to."""
        return self.expiry is not None and self.expiry < self.asked_expiry

    def admits(self, packet_size: int) -> bool:
        """Return whether the broker accepts a packet of a size.

        Args:
            packet_size: Its bytes.
        """
        return self.maximum_packet_size is None or packet_size <= self.maximum_packet_size

    def __str__(self) -> str:
        session = "kept" if self.is_kept else "new"
        if self.version is MqttVersion.V311:
            return f"session {session}; MQTT 3.1.1 does not say how long the broker keeps it"
        period = "indefinitely" if self.expiry == SESSION_FOR_EVER else f"for {self.expiry} s"
        short = f" instead of {self.asked_expiry} s" if self.is_short else ""
        size = "any size" if self.maximum_packet_size is None else f"up to {self.maximum_packet_size} bytes"
        client_id = "" if self.assigned_client_id is None else f", client id {self.assigned_client_id!a}"
        keep_alive = "" if self.keep_alive is None else f", keep alive {self.keep_alive} s"
        return (
            f"session {session}, kept {period}{short} without a connection;"
            f" receive maximum {self.receive_maximum}, packets of {size}{keep_alive}{client_id}"
        )


@dataclass(frozen=True, slots=True)
class LastSession:
    """An earlier session, as it is recorded across restarts.

    Args:
        broker: Where it was.
        active_at: When it was last seen to be active, in seconds since the epoch.
        expiry: For how many seconds the broker was to keep it from then on; None if it did not say.
    """

    broker: str
    active_at: int
    expiry: int | None

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Return the session that `str` wrote as a text, or None if the text is something else.

        Args:
            text: The text.
        """
        try:
            active_at, expiry, broker = text.split(" ", 2)
            return cls(broker, int(active_at), None if expiry == "-" else int(expiry))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.active_at} {'-' if self.expiry is None else self.expiry} {self.broker}"

    def should_exist(self, now: float) -> bool:
        """Return whether the broker should still have the session.

        Args:
            now: Seconds since the epoch.
        """
        return self.expiry in {None, SESSION_FOR_EVER} or now <= self.active_at + (self.expiry or 0)
