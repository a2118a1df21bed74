"""What a user can do if the broker, TLS or the network fails: a hint for each reason."""

import errno
import socket
import ssl
from typing import Final

from idlib.settings import MqttVersion, suspected_port
from idlib.transport.broker import Broker
from idlib.transport.client import TlsTimeoutError

_CHECK_PLACE: Final = "check MQTT_HOST and MQTT_PORT"
_HTTPS_PORT: Final = 443
# OpenSSL's verification errors: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_UNKNOWN_ISSUER: Final = frozenset({2, 18, 19, 20, 21})
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset({62, 64})
# OpenSSL's reasons if the peer does not use TLS.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
# Alerts that brokers send if the client's certificate is missing or rejected (RFC 8446, section 6.2).
_CLIENT_CERTIFICATE_ALERTS: Final = (
    "CERTIFICATE_REQUIRED",
    "HANDSHAKE_FAILURE",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
_VERSION_ALERTS: Final = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "INSUFFICIENT_SECURITY", "NO_PROTOCOLS_AVAILABLE")
# Reason codes of MQTT 5, section 2.4; the library translates those of 3.1.1 into them.
_UNSUPPORTED_VERSION: Final = 132
_BAD_LOGIN: Final = 134
_NOT_AUTHORIZED: Final = 135
_HINTS_OF_REASONS: Final = {
    128: "check the broker's log",
    129: "check the broker's log",
    130: "check the broker's log",
    131: "check the broker's log",
    133: "configure the broker to accept unknown client ids",
    136: "try again later",
    137: "try again later",
    138: "ask the operator of the broker",
    139: "no action needed: the program reconnects when the broker is back",
    140: "configure the broker to accept a user name and password, or a client certificate",
    141: "check the network between this device and the broker",
    142: "another client uses the same client id: is a copy of DATA_PATH in use elsewhere, or does the broker use the"
    " user name as the client id?",
    143: "configure the broker to allow the topic, which is a device's name",
    144: "configure the broker to allow the topic, which is a device's name",
    147: "check the broker's log",
    149: "send shorter messages, or raise the broker's packet size limit",
    150: "send fewer messages per second",
    151: "wait until the broker has delivered its queued messages, or raise its quota",
    152: "ask the operator of the broker",
    153: "use another broker: this one inspects messages",
    155: "configure the broker to accept QoS 1",
    156: "set MQTT_HOST to the server that replaces it",
    157: "set MQTT_HOST to the server that replaces it",
    159: "connect less often",
    160: "no action needed: the program reconnects",
}


def hint_for_error(broker: Broker, error: Exception) -> str:
    """Return what a user can do about an exception raised while connecting.

    Args:
        broker: The broker to connect to.
        error: The error of the socket, TLS or name resolution.
    """
    match error:
        case ssl.SSLError():
            return _hint_for_tls(broker, error)
        case socket.gaierror():
            if error.errno == socket.EAI_AGAIN:
                return "DNS does not answer: check the network and this system's resolver"
            return "check MQTT_HOST: there is no such host"
        case ConnectionRefusedError():
            return "no server is listening on that port: check MQTT_PORT, and that the broker is running"
        case ConnectionError():
            return hint_for_silence(broker)
        case TlsTimeoutError():
            return "check that the port uses TLS"
        case OSError() if split := suspected_port(broker.host):
            return f"if {split[1]} in MQTT_HOST is the port, set it in MQTT_PORT"
        case TimeoutError():
            return _hint_for_dropped_packets(broker)
        case OSError() if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}:
            return "check the network of this device, and MQTT_HOST"
    return _CHECK_PLACE


def _hint_for_dropped_packets(broker: Broker) -> str:
    """Return what a user can do if nothing answers, as behind a firewall that lets only web traffic leave."""
    if broker.port == _HTTPS_PORT:
        return f"{_CHECK_PLACE}, and any firewall in between"
    return (
        f"check MQTT_HOST, MQTT_PORT and any firewall in between; in a network that blocks port {broker.port}, set"
        " MQTT_URL=wss://HOST, which uses port 443 (docs/networks.md)"
    )


def hint_for_alert(broker: Broker, error: Exception | None) -> str:
    """Return what a user can do about a TLS alert, or "" if there is no hint or the error is not an alert.

    With TLS 1.3 a broker checks the device's certificate only after the handshake.

    Args:
        broker: The broker that sent it.
        error: The error that ended the connection, if known.
    """
    reason = _reason_of(error)
    if any(alert in reason for alert in _VERSION_ALERTS):
        return "the broker must speak TLS 1.2 or newer"
    if any(alert in reason for alert in _CLIENT_CERTIFICATE_ALERTS):
        if broker.shows_certificate:
            return "the broker does not accept the certificate in MQTT_CERT_FILE"
        return "the broker requires a client certificate; set MQTT_CERT_FILE to its file"
    return ""


def hint_for_silence(broker: Broker) -> str:
    """Return what a user can do about a connection that ended, or was silent, before the broker accepted it.

    Args:
        broker: The broker that did not answer.
    """
    if broker.tls is None:
        return "check MQTT_HOST, MQTT_PORT and MQTT_VERSION; if the port expects TLS, set MQTT_TLS=on"
    if broker.shows_certificate:
        return "check that the port uses TLS, and that the broker accepts the certificate in MQTT_CERT_FILE"
    return "check that the port uses TLS; if the broker requires a client certificate, set MQTT_CERT_FILE"


def hint_for_reason(broker: Broker, code: int) -> str:
    """Return what a user can do about a reason code, or "" if there is no hint.

    Args:
        broker: The broker that sent it, in CONNACK, DISCONNECT, SUBACK or PUBACK.
        code: A reason code of MQTT 5, section 2.4.
    """
    if code == _UNSUPPORTED_VERSION:
        other = MqttVersion.V311 if broker.version is MqttVersion.V5 else MqttVersion.V5
        return f"set MQTT_VERSION={other}"
    if code == _BAD_LOGIN:
        return _hint_for_login(broker)
    if code == _NOT_AUTHORIZED:
        return _hint_for_rights(broker)
    return _HINTS_OF_REASONS.get(code, "")


def _hint_for_login(broker: Broker) -> str:
    if broker.username is None:
        return "set MQTT_USERNAME and MQTT_PASSWORD_FILE"
    if broker.password is None:
        return "set MQTT_PASSWORD_FILE"
    return "check MQTT_USERNAME and the first line of MQTT_PASSWORD_FILE"


def _hint_for_rights(broker: Broker) -> str:
    """Return what a user can do if the broker rejects our login or denies access to it."""
    certificate = "the certificate in MQTT_CERT_FILE"
    allowed = ", and this device's permissions on the broker"
    if not broker.shows_certificate:
        login = _hint_for_login(broker)
        return login + allowed if broker.password is not None else login
    if broker.username is None:
        return f"check {certificate}{allowed}"
    if broker.password is None:
        return f"set MQTT_PASSWORD_FILE, or check MQTT_USERNAME and {certificate}{allowed}"
    return f"check MQTT_USERNAME, the first line of MQTT_PASSWORD_FILE and {certificate}{allowed}"


def _hint_for_certificate(broker: Broker, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _UNKNOWN_ISSUER:
        if broker.has_own_authorities:
            return "the broker's certificate was not issued by a CA in MQTT_CA_FILE"
        return "the broker's certificate was not issued by a CA of this system; set MQTT_CA_FILE to its CA's file"
    if error.verify_code in _OTHER_NAME:
        return f"the broker's certificate is not for {broker.host}; set MQTT_HOST to a name in it"
    if error.verify_code == _NOT_YET_VALID:
        return "the broker's certificate is not valid yet, or the clock of this device is behind"
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired, or the clock of this device is ahead"
    return "the broker or its CA needs a new certificate"


def _hint_for_tls(broker: Broker, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _hint_for_certificate(broker, error)
    if _reason_of(error) in _NO_TLS:
        return "check that the port uses TLS: set MQTT_PORT (8883 is usual for TLS), or MQTT_TLS=off"
    # OpenSSL gives no better reason if the connection ended during the handshake.
    return hint_for_alert(broker, error) or hint_for_silence(broker)


def _reason_of(error: Exception | None) -> str:
    return str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
