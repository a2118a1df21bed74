"""What CONNACK grants, in words."""

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


def test_what_a_broker_does_not_mention_is_as_asked_or_as_the_standard_has_it() -> None:
    grant = granted()
    assert str(grant) == (
        "session new, kept for 600 s without a connection; receive maximum 65535, packets of any size"
    )
    assert not grant.is_short
    assert (grant.maximum_qos, grant.keep_alive, grant.assigned_client_id) == (2, None, None)


def test_what_a_broker_grants_is_named() -> None:
    grant = granted(kept=True, SESSION_EXPIRY_INTERVAL=60, RECEIVE_MAXIMUM=10, MAXIMUM_PACKET_SIZE=1000)
    assert str(grant) == (
        "session kept, kept for 60 s instead of 600 s without a connection;"
        " receive maximum 10, packets of up to 1000 bytes"
    )
    assert grant.is_short


def test_a_name_that_the_broker_assigns_is_named_and_cannot_act_on_a_terminal() -> None:
    grant = granted(assigned="evil\x1b[2J", SERVER_KEEP_ALIVE=5)
    assert str(grant).endswith(", keep alive 5 s, client id 'evil\\x1b[2J'")


def test_a_broker_may_grant_nothing() -> None:
    grant = granted(SESSION_EXPIRY_INTERVAL=0, MAXIMUM_QOS=0)
    assert (grant.expiry, grant.maximum_qos) == (0, 0)
    assert grant.is_short


@pytest.mark.parametrize(("limit", "size", "admitted"), [(1, 1, True), (1, 2, False), (2**32 - 1, 2**28, True)])
def test_a_limit_of_any_size_is_obeyed(*, limit: int, size: int, admitted: bool) -> None:
    assert granted(MAXIMUM_PACKET_SIZE=limit).admits(size) is admitted


def test_without_a_limit_every_packet_is_admitted() -> None:
    assert granted().admits(2**28)


def test_for_ever_is_a_number_too() -> None:
    assert "kept indefinitely" in str(granted(asked=SESSION_FOR_EVER))


def test_mqtt_3_1_1_grants_nothing() -> None:
    grant = granted(MqttVersion.V311, kept=True)
    assert str(grant) == "session kept; MQTT 3.1.1 does not say how long the broker keeps it"
    assert not grant.is_short
