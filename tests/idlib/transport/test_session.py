"""The description of what the broker grants in CONNACK."""

import pytest

from idlib.settings import MqttVersion
from idlib.transport.session import SESSION_FOR_EVER, ConnackProperty, Grant


def granted(
    version: MqttVersion = MqttVersion.V5,
    asked: int = 600,
    *,
    kept: bool = False,
    assigned: str | None = None,
    **values: int,
) -> Grant:
    properties: dict[ConnackProperty, int | str] = {ConnackProperty[name]: value for name, value in values.items()}
    if assigned is not None:
        properties[ConnackProperty.ASSIGNED_CLIENT_IDENTIFIER] = assigned
    return Grant.from_connack(version, asked, properties, is_kept=kept)


def test_missing_properties_are_as_requested_or_as_in_the_standard() -> None:
    grant = granted()
    assert str(grant) == (
        "session new, kept for 600 s without a connection; receive maximum 65535, packets of any size"
    )
    assert not grant.is_short
    assert (grant.maximum_qos, grant.keep_alive, grant.assigned_client_id) == (2, None, None)


def test_the_grant_of_a_broker_is_described() -> None:
    grant = granted(kept=True, SESSION_EXPIRY_INTERVAL=60, RECEIVE_MAXIMUM=10, MAXIMUM_PACKET_SIZE=1000)
    assert str(grant) == (
        "session kept, kept for 60 s instead of 600 s without a connection;"
        " receive maximum 10, packets of up to 1000 bytes"
    )
    assert grant.is_short


def test_a_broker_has_shared_subscriptions_unless_it_says_otherwise() -> None:
    assert granted().has_shared_subscriptions
    assert granted(SHARED_SUBSCRIPTION_AVAILABLE=1).has_shared_subscriptions
    assert not granted(SHARED_SUBSCRIPTION_AVAILABLE=0).has_shared_subscriptions


def test_an_assigned_client_id_is_shown_escaped() -> None:
    grant = granted(assigned="evil\x1b[2J", SERVER_KEEP_ALIVE=5)
    assert str(grant).endswith(", keep alive 5 s, client id 'evil\\x1b[2J'")


def test_a_broker_may_grant_nothing() -> None:
    grant = granted(SESSION_EXPIRY_INTERVAL=0, MAXIMUM_QOS=0)
    assert (grant.expiry, grant.maximum_qos) == (0, 0)
    assert grant.is_short


@pytest.mark.parametrize(("limit", "size", "admitted"), [(1, 1, True), (1, 2, False), (2**32 - 1, 2**28, True)])
def test_a_limit_of_any_size_is_obeyed(*, limit: int, size: int, admitted: bool) -> None:
    assert granted(MAXIMUM_PACKET_SIZE=limit).admits(size) is admitted


def test_every_packet_is_accepted_without_a_limit() -> None:
    assert granted().admits(2**28)


def test_the_largest_expiry_means_indefinitely() -> None:
    assert "kept indefinitely" in str(granted(asked=SESSION_FOR_EVER))


def test_mqtt_3_1_1_grants_nothing() -> None:
    grant = granted(MqttVersion.V311, kept=True)
    assert str(grant) == "session kept; MQTT 3.1.1 does not say how long the broker keeps it"
    assert not grant.is_short
