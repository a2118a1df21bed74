"""What CONNACK grants, in words."""

from types import SimpleNamespace

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from idlib.session import SESSION_FOR_EVER, Grant
from idlib.settings import MqttVersion


def granted(version: MqttVersion = MqttVersion.V5, asked: int = 600, *, kept: bool = False, **values: int) -> Grant:
    properties = Properties(PacketTypes.CONNACK)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return Grant.from_connack(version, asked, SimpleNamespace(session_present=kept), properties)


def test_what_a_broker_does_not_mention_is_as_asked_or_as_the_standard_has_it() -> None:
    grant = granted()
    assert str(grant) == (
        "session new, kept for 600 s without a connection; receive maximum 65535, packets of any size"
    )
    assert not grant.is_short


def test_what_a_broker_grants_is_named() -> None:
    grant = granted(kept=True, SessionExpiryInterval=60, ReceiveMaximum=10, MaximumPacketSize=1000)
    assert str(grant) == (
        "session kept, kept for 60 s instead of 600 s without a connection;"
        " receive maximum 10, packets of up to 1000 octets"
    )
    assert grant.is_short


def test_for_ever_is_a_number_too() -> None:
    assert "kept for ever" in str(granted(asked=SESSION_FOR_EVER))


def test_mqtt_3_1_1_grants_nothing() -> None:
    grant = granted(MqttVersion.V311, kept=True)
    assert str(grant) == "session kept; MQTT 3.1.1 does not say how long the broker keeps it"
    assert not grant.is_short
