"""What a broker grants at connecting, as its CONNACK says (MQTT 5, section 3.2; MQTT 3.1.1, section 3.2)."""

from dataclasses import dataclass
from typing import Any, Final, Self

from paho.mqtt.properties import Properties

from idlib.settings import MqttVersion

# What holds where CONNACK says nothing (MQTT 5, section 3.2.2.3).
_DEFAULT_RECEIVE_MAXIMUM: Final = 65535
SESSION_FOR_EVER: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Grant:
    """What the broker has granted to a session.

    Args:
        version: The version of MQTT; 3.1.1 grants nothing but the session itself.
        is_kept: Whether the broker has kept the session since the last connection.
        asked_expiry: For how many seconds it was asked to keep the session without a connection.
        expiry: For how many seconds it will; None where it does not say.
        receive_maximum: How many unacknowledged messages it takes from us at a time.
        maximum_packet_size: Octets of the largest packet that it takes; None for no limit.
    """

    version: MqttVersion
    is_kept: bool
    asked_expiry: int
    expiry: int | None = None
    receive_maximum: int | None = None
    maximum_packet_size: int | None = None

    @classmethod
    def from_connack(cls, version: MqttVersion, asked_expiry: int, flags: Any, properties: Properties | None) -> Self:
        """Return what a CONNACK grants.

        Args:
            version: The version of MQTT.
            asked_expiry: What CONNECT asked for, in seconds.
            flags: Its flags, as paho has them.
            properties: Its properties, likewise.
        """
        if version is MqttVersion.V311:
            return cls(version, bool(flags.session_present), asked_expiry)
        return cls(
            version,
            bool(flags.session_present),
            asked_expiry,
            getattr(properties, "SessionExpiryInterval", asked_expiry),
            getattr(properties, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM),
            getattr(properties, "MaximumPacketSize", None),
        )

    @property
    def is_short(self) -> bool:
        """Whether the broker keeps the session for a shorter time than it was asked to."""
        return self.expiry is not None and self.expiry < self.asked_expiry

    def __str__(self) -> str:
        session = "kept" if self.is_kept else "new"
        if self.version is MqttVersion.V311:
            return f"session {session}; MQTT 3.1.1 does not say how long the broker keeps it"
        period = "for ever" if self.expiry == SESSION_FOR_EVER else f"for {self.expiry} s"
        short = f" instead of {self.asked_expiry} s" if self.is_short else ""
        size = "any size" if self.maximum_packet_size is None else f"up to {self.maximum_packet_size} octets"
        return (
            f"session {session}, kept {period}{short} without a connection;"
            f" receive maximum {self.receive_maximum}, packets of {size}"
        )
