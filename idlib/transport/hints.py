"""What a user can do when the broker, TLS or the network says no: a hint for each reason."""

import errno
import socket
import ssl
from typing import Final

from idlib.settings import MqttVersion, suspected_port
from idlib.transport.broker import Broker
from idlib.transport.client import TlsTimeoutError

_CHECK_PLACE: Final = "check MQTT_HOST and MQTT_PORT"
# OpenSSL's verification errors: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_UNKNOWN_ISSUER: Final = frozenset({2, 18, 19, 20, 21})
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset({62, 64})
# What OpenSSL says when the peer speaks something else than TLS.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
# Alerts that brokers send when they miss or reject the client's certificate (RFC 8446, section 6.2).
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
# Reason codes of MQTT 5, section 2.4; those of 3.1.1 are translated into them by the library.
_UNSUPPORTED_VERSION: Final = 132
_BAD_LOGIN: Final = 134
_NOT_AUTHORIZED: Final = 135
_HINTS_OF_REASONS: Final = {
    128: "the log of the broker may say why",
    129: "the log of the broker may say why",
    130: "the log of the broker may say why",
    131: "the log of the broker may say why",
    133: "let the broker admit clients whose identifier is not known to it",
    136: "try again later",
    137: "try again later",
    138: "ask the operator of the broker",
    139: "the connection is made again by itself once the broker is back",
    140: "let the broker admit clients by user name and password, or by certificate",
    141: "check the network between this device and the broker",
    142: "another client uses the same client id: is a copy of DATA_PATH in use elsewhere, or does the broker use the"
    " user name as the client id?",
    143: "let the broker admit the topic, which is the name of a device",
    144: "let the broker admit the topic, which is the name of a device",
    147: "the log of the broker may say why",
    149: "send shorter messages, or let the broker take larger packets",
    150: "send fewer messages in a second",
    151: "wait until the broker has delivered what it holds, or raise its quota",
    152: "ask the operator of the broker",
    153: "use another broker: this one looks into messages",
    155: "let the broker take QoS 1",
    156: "set MQTT_HOST to the server that takes its place",
    157: "set MQTT_HOST to the server that takes its place",
    159: "connect less often",
    160: "the connection is made again by itself",
}


def hint_for_error(broker: Broker, error: Exception) -> str:
    """Return what a user can do about an exception that connecting has raised.

    Args:
        broker: That was to be reached.
        error: Of the socket, of TLS, or of name resolution.
    """
    match error:
        case ssl.SSLError():
            return _hint_for_tls(broker, error)
        case socket.gaierror():
            if error.errno == socket.EAI_AGAIN:
                return "DNS does not answer: check the network and the resolver of this system"
            return "check MQTT_HOST: there is no such host"
        case ConnectionRefusedError():
            return "nothing listens at that port: check MQTT_PORT, and that the broker runs"
        case ConnectionError():
            return hint_for_silence(broker)
        case TlsTimeoutError():
            return "does that port speak TLS?"
        case OSError() if split := suspected_port(broker.host):
            return f"is {split[1]} in MQTT_HOST a port? It belongs in MQTT_PORT"
        case TimeoutError():
            return "check MQTT_HOST and MQTT_PORT, and whether a firewall is in between"
        case OSError() if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}:
            return "check the network of this device, and MQTT_HOST"
    return _CHECK_PLACE


def hint_for_alert(broker: Broker, error: Exception | None) -> str:
    """Return what a user can do about a TLS alert, empty if there is nothing to say or the error is none.

    With TLS 1.3 a broker judges the certificate of a device only after the handshake.

    Args:
        broker: That gave it.
        error: What a connection has ended with, if it is known.
    """
    reason = _reason_of(error)
    if any(alert in reason for alert in _VERSION_ALERTS):
        return "the broker must speak TLS 1.2 or newer"
    if any(alert in reason for alert in _CLIENT_CERTIFICATE_ALERTS):
        if broker.shows_certificate:
            return "the broker does not accept the certificate in MQTT_CERT_FILE"
        return "the broker wants a certificate of this device; name its file in MQTT_CERT_FILE"
    return ""


def hint_for_silence(broker: Broker) -> str:
    """Return what a user can do about a connection that ended, or was silent, before the broker accepted it.

    Args:
        broker: That was to answer.
    """
    if broker.tls is None:
        return (
            "does that port expect TLS (MQTT_TLS=on), does an MQTT broker listen there, and does it speak the"
            " MQTT_VERSION that is set?"
        )
    if broker.shows_certificate:
        return "does that port speak TLS, and does the broker accept the certificate in MQTT_CERT_FILE?"
    return "does that port speak TLS, and does the broker want a certificate of this device (MQTT_CERT_FILE)?"


def hint_for_reason(broker: Broker, code: int) -> str:
    """Return what a user can do about a reason code, empty if there is nothing to say.

    Args:
        broker: That gave it, in CONNACK, DISCONNECT, SUBACK or PUBACK.
        code: Of MQTT 5, section 2.4.
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
    """Return what a user can do if the broker does not believe, or does not allow, what we log in with."""
    certificate = "the certificate in MQTT_CERT_FILE"
    allowed = ", and what the broker allows this device"
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
            return "the broker's certificate is from none of the CAs in MQTT_CA_FILE"
        return "the broker's certificate is from no CA of this system; name its CA's file in MQTT_CA_FILE"
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
        return "does that port speak TLS? The usual one is 8883; set MQTT_PORT, or MQTT_TLS=off"
    # OpenSSL gives a connection that ended within the handshake no better reason.
    return hint_for_alert(broker, error) or hint_for_silence(broker)


def _reason_of(error: Exception | None) -> str:
    return str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
