"""What a user can do if the local broker fails: each hint names the settings of that broker."""

import itertools
import socket
import ssl

import pytest

from idlib.local_broker.hints import hint_for_end, hint_for_error, hint_for_reason
from idlib.settings import MqttVersion
from idlib.transport import Broker
from idlib.transport.dialing import TlsTimeoutError

PLAIN = Broker("home", 1883, MqttVersion.V5)
TLS = Broker("home", 8883, MqttVersion.V5, ssl.create_default_context())
LOGIN = Broker("home", 1883, MqttVersion.V5, None, "alice", "secret", has_own_authorities=True)


@pytest.mark.parametrize(
    ("broker", "error", "hint"),
    [
        (PLAIN, ssl.SSLCertVerificationError(1, "expired"), "set LOCAL_MQTT_CA_FILE to the file of its CA"),
        (LOGIN, ssl.SSLCertVerificationError(1, "expired"), "check that its CA is in LOCAL_MQTT_CA_FILE"),
        (PLAIN, ssl.SSLError(1, "wrong version number"), "check that its port uses TLS"),
        (PLAIN, socket.gaierror(1, "unknown"), "check the host in LOCAL_MQTT_URL"),
        (PLAIN, ConnectionRefusedError(), "check that it is running, and the port in LOCAL_MQTT_URL"),
        (TLS, ConnectionResetError(), "check that its port uses TLS; without TLS"),
        (TLS, TlsTimeoutError(), "check that its port uses TLS; without TLS"),
        (PLAIN, ConnectionResetError(), "check the port in LOCAL_MQTT_URL; if it expects TLS"),
        (PLAIN, TimeoutError(), "check LOCAL_MQTT_URL and the network"),
        (PLAIN, None, "check LOCAL_MQTT_URL and the network"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_a_hint(broker: Broker, error: Exception | None, hint: str) -> None:
    assert hint_for_error(broker, error).startswith(hint)


@pytest.mark.parametrize(
    ("broker", "code", "hint"),
    [
        (PLAIN, 134, "write a user name into LOCAL_MQTT_URL, and set LOCAL_MQTT_PASSWORD_FILE"),
        (LOGIN, 134, "check the user name in LOCAL_MQTT_URL and the first line of LOCAL_MQTT_PASSWORD_FILE"),
        (PLAIN, 135, "write a user name into LOCAL_MQTT_URL, and set LOCAL_MQTT_PASSWORD_FILE"),
        (LOGIN, 135, "check the user name in LOCAL_MQTT_URL and the first line of LOCAL_MQTT_PASSWORD_FILE, and its"),
        (PLAIN, 149, "raise its packet size limit"),
    ],
    ids=str,
)
def test_a_reason_code_has_a_hint(broker: Broker, code: int, hint: str) -> None:
    assert hint_for_reason(broker, code).startswith(hint)
    assert hint_for_end(broker, code, is_answered=True).startswith(hint)


def test_other_codes_and_a_lost_connection_have_none() -> None:
    assert hint_for_reason(PLAIN, 128) == ""
    assert hint_for_end(PLAIN, None, is_answered=True) == ""
    assert "if it expects TLS" in hint_for_end(PLAIN, None, is_answered=False)


def test_no_hint_names_a_setting_of_the_other_broker() -> None:
    for broker, code in itertools.product((PLAIN, LOGIN), range(256)):
        assert "MQTT_" not in hint_for_reason(broker, code).replace("LOCAL_MQTT_", "")
