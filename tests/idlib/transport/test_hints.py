"""Each reason that the broker, TLS or the network gives has its own hint."""

import errno
import os
import socket
import ssl
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes

from idlib.settings import MqttVersion
from idlib.transport.broker import Broker
from idlib.transport.hints import hint_for_alert, hint_for_error, hint_for_reason, hint_for_silence

PLAIN = Broker("broker.example", 1883, MqttVersion.V5)
TLS = Broker("broker.example", 8883, MqttVersion.V5, ssl.create_default_context())
IN_GROUP = replace(PLAIN, is_for_group=True)
AT_HTTPS_PORT = replace(TLS, port=443)
LOGGED_IN = Broker("broker.example", 8883, MqttVersion.V5, TLS.tls, "alice", "secret")
WITH_CERTIFICATE = Broker("broker.example", 8883, MqttVersion.V5, TLS.tls, shows_certificate=True)
WITH_PORT_IN_HOST = Broker("::1:1883", 1883, MqttVersion.V5)
WITH_BOTH = Broker("broker.example", 8883, MqttVersion.V5, TLS.tls, "alice", "secret", shows_certificate=True)
WITHOUT_PASSWORD = Broker("broker.example", 8883, MqttVersion.V5, TLS.tls, "alice")
WITHOUT_PASSWORD_AND_WITH_CERTIFICATE = replace(WITHOUT_PASSWORD, shows_certificate=True)
WITH_AUTHORITIES = Broker("broker.example", 8883, MqttVersion.V311, TLS.tls, has_own_authorities=True)


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("broker", "error", "hint"),
    [
        (TLS, verification(20), "MQTT_CA_FILE"),
        (TLS, verification(18), "MQTT_CA_FILE"),
        (WITH_AUTHORITIES, verification(20), "not issued by a CA in MQTT_CA_FILE"),
        (TLS, verification(62), "not for broker.example; set MQTT_HOST to a name in it"),
        (TLS, verification(64), "not for broker.example; set MQTT_HOST to a name in it"),
        (TLS, verification(10), "has expired, or the clock of this device is ahead"),
        (TLS, verification(9), "not valid yet, or the clock of this device is behind"),
        (TLS, verification(26), "new certificate"),
        (TLS, tls("WRONG_VERSION_NUMBER"), "check that the port uses TLS"),
        (TLS, tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "MQTT_CERT_FILE"),
        (TLS, tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), "requires a client certificate"),
        (WITH_CERTIFICATE, tls("TLSV1_ALERT_UNKNOWN_CA"), "does not accept the certificate in MQTT_CERT_FILE"),
        (TLS, tls("TLSV1_ALERT_PROTOCOL_VERSION"), "TLS 1.2 or newer"),
        (TLS, ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "check that the port uses TLS"),
        (TLS, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "check that the port uses TLS"),
        (PLAIN, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "MQTT_TLS=on"),
        (PLAIN, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "MQTT_PORT"),
        (PLAIN, socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "MQTT_HOST: there is no such host"),
        (PLAIN, socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "DNS does not answer"),
        (PLAIN, TimeoutError(errno.ETIMEDOUT, "timed out"), "that blocks port 1883, set MQTT_URL=wss://HOST"),
        (TLS, TimeoutError(errno.ETIMEDOUT, "timed out"), "that blocks port 8883, set MQTT_URL=wss://HOST"),
        (AT_HTTPS_PORT, TimeoutError(errno.ETIMEDOUT, "timed out"), "MQTT_PORT, and any firewall in between"),
        (PLAIN, OSError(errno.ENETUNREACH, "Network is unreachable"), "network of this device"),
        (WITH_PORT_IN_HOST, TimeoutError("timed out"), "if 1883 in MQTT_HOST is the port, set it in MQTT_PORT"),
        (WITH_PORT_IN_HOST, OSError(errno.ENETUNREACH, "Network is unreachable"), "if 1883 in MQTT_HOST is the port"),
        (WITH_PORT_IN_HOST, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "MQTT_PORT"),
        (PLAIN, OSError(errno.EMFILE, "Too many open files"), "check MQTT_HOST and MQTT_PORT"),
    ],
)
def test_an_error_below_mqtt_has_its_hint(broker: Broker, error: Exception, hint: str) -> None:
    assert hint in hint_for_error(broker, error)


@pytest.mark.parametrize(
    ("broker", "error", "hint"),
    [
        (TLS, tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "the broker requires a client certificate; set MQTT_CERT_FILE"),
        (WITH_CERTIFICATE, tls("TLSV1_ALERT_UNKNOWN_CA"), "does not accept the certificate in MQTT_CERT_FILE"),
        (TLS, tls("TLSV1_ALERT_INTERNAL_ERROR"), ""),
        (TLS, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ""),
        (TLS, None, ""),
    ],
)
def test_an_alert_after_the_handshake_has_its_hint(broker: Broker, error: Exception | None, hint: str) -> None:
    found = hint_for_alert(broker, error)
    assert found.startswith(hint) or hint in found
    assert bool(found) == bool(hint)


def test_a_real_server_without_tls_is_recognized() -> None:
    left, right = socket.socketpair()
    with left, right:
        right.sendall(b"\x20\x02\x00\x00" * 4)
        assert TLS.tls is not None
        with pytest.raises(ssl.SSLError) as caught:
            TLS.tls.wrap_socket(left, server_hostname="broker.example")
    assert "check that the port uses TLS: set MQTT_PORT (8883" in hint_for_error(TLS, caught.value)


@pytest.mark.parametrize(
    ("broker", "code", "hint"),
    [
        (PLAIN, 135, "set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (PLAIN, 134, "set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (LOGGED_IN, 134, "check MQTT_USERNAME and the first line of MQTT_PASSWORD_FILE"),
        (LOGGED_IN, 135, "check MQTT_USERNAME and the first line of MQTT_PASSWORD_FILE, and this device's permissions"),
        (WITHOUT_PASSWORD, 134, "set MQTT_PASSWORD_FILE"),
        (WITHOUT_PASSWORD, 135, "set MQTT_PASSWORD_FILE"),
        (WITH_CERTIFICATE, 134, "set MQTT_USERNAME and MQTT_PASSWORD_FILE"),
        (WITH_CERTIFICATE, 135, "check the certificate in MQTT_CERT_FILE, and this device's permissions"),
        (
            WITH_BOTH,
            135,
            "check MQTT_USERNAME, the first line of MQTT_PASSWORD_FILE and the certificate in MQTT_CERT_FILE, and",
        ),
        (
            WITHOUT_PASSWORD_AND_WITH_CERTIFICATE,
            135,
            "set MQTT_PASSWORD_FILE, or check MQTT_USERNAME and the certificate in MQTT_CERT_FILE, and this device's",
        ),
        (PLAIN, 132, "set MQTT_VERSION=3.1.1"),
        (WITH_AUTHORITIES, 132, "set MQTT_VERSION=5"),
        (PLAIN, 137, "the broker is overloaded"),
        (PLAIN, 142, "is a copy of DATA_PATH in use elsewhere, or does the broker use the user name as the client id?"),
        (PLAIN, 155, "QoS 1"),
        (PLAIN, 0, "no action needed"),
        (PLAIN, 90, ""),
        (PLAIN, 200, "MQTT does not define this reason"),
    ],
)
def test_a_reason_of_the_broker_has_its_hint(broker: Broker, code: int, hint: str) -> None:
    assert hint in hint_for_reason(broker, PacketTypes.CONNACK, code)


def test_the_hint_does_not_mention_a_certificate_that_is_not_in_use() -> None:
    assert "certificate" not in hint_for_reason(LOGGED_IN, PacketTypes.CONNACK, 135)
    assert hint_for_reason(WITHOUT_PASSWORD, PacketTypes.CONNACK, 135) == "set MQTT_PASSWORD_FILE"


@pytest.mark.parametrize(
    ("broker", "hint"),
    [
        (PLAIN, "MQTT_TLS=on"),
        (TLS, "if the broker requires a client certificate"),
        (WITH_CERTIFICATE, "accepts the certificate"),
        (PLAIN, "MQTT_VERSION (3.1.1 if the broker does not speak MQTT 5)"),
        (TLS, "if the broker does not speak MQTT 5, set MQTT_VERSION=3.1.1"),
        (WITH_CERTIFICATE, "if the broker does not speak MQTT 5, set MQTT_VERSION=3.1.1"),
        (
            IN_GROUP,
            "check MQTT_HOST and MQTT_PORT, and that the broker speaks MQTT 5, which RECEIVER_GROUP=on needs; if",
        ),
        (replace(TLS, is_for_group=True), "; the broker must speak MQTT 5, which RECEIVER_GROUP=on needs"),
    ],
)
def test_silence_has_its_hint(broker: Broker, hint: str) -> None:
    assert hint in hint_for_silence(broker)


def test_a_receiver_of_a_group_is_not_told_to_use_another_version() -> None:
    assert hint_for_reason(IN_GROUP, PacketTypes.CONNACK, 132) == (
        "RECEIVER_GROUP=on needs a broker that speaks MQTT 5: use another one, or set RECEIVER_GROUP=off and"
        " MQTT_VERSION=3.1.1"
    )
    for broker in (IN_GROUP, replace(TLS, is_for_group=True)):
        assert "3.1.1" not in hint_for_silence(broker)


@given(st.sampled_from([PLAIN, TLS, LOGGED_IN]), st.integers(0, 300), st.sampled_from(list(errno.errorcode)))
def test_every_hint_is_one_line_without_the_password(broker: Broker, code: int, number: int) -> None:
    hints = [
        hint_for_reason(broker, PacketTypes.CONNACK, code),
        hint_for_error(broker, OSError(number, os.strerror(number))),
    ]
    for hint in [*hints, hint_for_silence(broker), hint_for_error(broker, ValueError())]:
        assert "\n" not in hint
        assert "secret" not in hint
