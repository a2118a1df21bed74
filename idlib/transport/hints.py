"""What a user can do if the broker, TLS or the network fails: a hint for each reason."""

import errno
import socket
import ssl
from typing import Final

from paho.mqtt.packettypes import PacketTypes

from idlib.settings import MqttVersion, TopicFormat, suspected_port
from idlib.transport.broker import Broker
from idlib.transport.dialing import TlsTimeoutError
from idlib.transport.publication import FIRST_FAILURE
from idlib.transport.topics import Topics

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
# RFC 7301, section 3.2.
_ALPN_ALERT: Final = "NO_APPLICATION_PROTOCOL"
# Reason codes of MQTT 5, section 2.4; `client` translates those of 3.1.1 into them.
_OURS: Final = "this program uses no {}, so a proxy has changed what it sent, or the broker has a fault: report it"
_VERSION_OF_GROUP: Final = "{} MQTT 5, which RECEIVER_GROUP=on needs"
_HINTS_OF_REASONS: Final = {
    0: "no action needed: the broker has closed the connection without an error, and the program reconnects",
    128: "the broker does not say why: look for the reason in its log",
    129: "look for a proxy that changes packets on the way to the broker; if there is none, report it",
    130: "the broker did not expect a packet of this program: update the broker, or report it with its log",
    131: "the broker has a rule of its own that MQTT has no reason code for: see its documentation and its log",
    136: "the broker runs, but cannot work now: check its state, such as its storage and its cluster",
    137: "the broker is overloaded: send less, or give it more resources",
    138: "ask the operator of the broker to lift the ban on this device",
    139: "no action needed: the program reconnects when the broker is back",
    140: "configure the broker to accept a user name and password, or a client certificate",
    141: "check the network between this device and the broker",
    145: "no action needed if it happens once; otherwise restart the program, and report it with the broker's log",
    147: "the broker allows fewer unacknowledged messages than it has announced: report it with the broker's log",
    148: _OURS.format("topic alias"),
    149: "send shorter messages, or raise the broker's packet size limit",
    150: "send fewer messages per second",
    151: "wait until the broker has delivered its queued messages, or raise its quota",
    152: "an operator of the broker has ended the connection: ask why",
    153: "use another broker, or turn off its inspection of messages: what it sees of them is encrypted",
    154: _OURS.format("retained message"),
    155: "configure the broker to accept QoS 1",
    156: "set {host} to another server of this broker for now",
    157: "set {host} to the server that replaces it",
    158: (
        "set SUBSCRIPTION to what the broker has in place of shared subscriptions, such as a queue, or use another"
        " broker (docs/brokers.md)"
    ),
    159: "connect less often: many messages can share a connection, with --lines, --to or a resident sender",
    160: "no action needed: the broker ends each connection after a time, and the program reconnects",
    161: _OURS.format("subscription identifier"),
    162: _OURS.format("wildcard subscription"),
}


def hint_for_error(broker: Broker, error: Exception) -> str:
    """Return what a user can do about an exception raised while connecting.

    Args:
        broker: The broker to connect to.
        error: The error of the socket, TLS or name resolution.
    """
    names = broker.setting_names
    match error:
        case ssl.SSLError():
            return _hint_for_tls(broker, error)
        case socket.gaierror():
            if error.errno == socket.EAI_AGAIN:
                return "DNS does not answer: check the network and this system's resolver"
            return f"check {names.host}: there is no such host"
        case ConnectionRefusedError():
            return f"no server is listening on that port: check {names.port}, and that the broker is running"
        case ConnectionError():
            return hint_for_silence(broker)
        case TlsTimeoutError():
            return "check that the port uses TLS"
        case OSError() if split := suspected_port(broker.host):
            return f"if {split[1]} in {names.host} is the port, {names.give_port}"
        case TimeoutError():
            return _hint_for_dropped_packets(broker)
        case OSError() if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}:
            return f"check the network of this device, and {names.host}"
    return f"check {names.place}"


def _hint_for_dropped_packets(broker: Broker) -> str:
    """Return what a user can do if nothing answers, as behind a firewall that lets only web traffic leave."""
    if broker.port == _HTTPS_PORT:
        return f"check {broker.setting_names.place}, and any firewall in between"
    return (
        f"check {broker.setting_names.place}, and any firewall in between; in a network that blocks port {broker.port},"
        " set MQTT_URL=wss://HOST, which uses port 443 (docs/networks.md)"
    )


def hint_for_alert(broker: Broker, error: Exception | None) -> str:
    """Return what a user can do about a TLS alert, or "" if there is no hint or the error is not an alert.

    With TLS 1.3 a broker checks the device's certificate only after the handshake.

    Args:
        broker: The broker that sent it.
        error: The error that ended the connection, if known.
    """
    reason = _reason_of(error)
    if _ALPN_ALERT in reason:
        return "the server knows none of the protocols in MQTT_ALPN: see the broker's documentation"
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
    # RabbitMQ before 3.13 closes the connection without a reason if it is asked to speak MQTT 5.
    is_version_5 = broker.version is MqttVersion.V5
    if broker.tls is None:
        if broker.is_for_group:
            version = f", and that {_VERSION_OF_GROUP.format('the broker speaks')}"
        else:
            version = " and MQTT_VERSION" + (" (3.1.1 if the broker does not speak MQTT 5)" if is_version_5 else "")
        return f"check {broker.setting_names.place}{version}; if the port expects TLS, {broker.setting_names.use_tls}"
    if broker.is_for_group:
        version = f"; {_VERSION_OF_GROUP.format('the broker must speak')}"
    else:
        version = "; if the broker does not speak MQTT 5, set MQTT_VERSION=3.1.1" if is_version_5 else ""
    if broker.alpn:
        return "check that the port uses TLS, and that the broker expects one of the protocols in MQTT_ALPN" + version
    if broker.shows_certificate:
        return "check that the port uses TLS, and that the broker accepts the certificate in MQTT_CERT_FILE" + version
    return "check that the port uses TLS; if the broker requires a client certificate, set MQTT_CERT_FILE" + version


def hint_for_reason(broker: Broker, packet_type: int, code: int) -> str:
    """Return what a user can do about a reason code, or "" if it is not that of a failure.

    Args:
        broker: The broker that sent it.
        packet_type: The packet that contained it, CONNACK, DISCONNECT, SUBACK or PUBACK: one of the library's
            `PacketTypes`.
        code: A reason code of MQTT 5, section 2.4.
    """
    is_answer = packet_type in {PacketTypes.SUBACK, PacketTypes.PUBACK}
    match code:
        case 128 if is_answer:
            return f"check this device's permissions on the broker; {_hint_for_topic(broker)}"
        case 132:
            return _hint_for_version(broker)
        case 133:
            return _hint_for_client_id(broker)
        case 134:
            return _hint_for_login(broker)
        case 135 if is_answer:
            return _hint_for_topic_rights(broker, packet_type)
        case 135:
            return _hint_for_rights(broker)
        case 142:
            return _hint_for_takeover(broker)
        case 143:
            return f"the broker does not allow a subscription to the topic: {_hint_for_topic(broker)}"
        case 144:
            return f"the broker does not allow messages to the topic: {_hint_for_topic(broker)}"
    unknown = "MQTT does not define this reason: look for it in the broker's log" if code >= FIRST_FAILURE else ""
    return _HINTS_OF_REASONS.get(code, unknown).format(host=broker.setting_names.host)


def hint_for_lost_connection(broker: Broker) -> str:
    """Return what a user can do about a connection that ends without a reason although it was accepted, or "".

    Args:
        broker: The broker at the other end.
    """
    if broker.client_id is None:
        return ""
    # Mosquitto 2.0.11 gives no reason, and MQTT 3.1.1 has none.
    return "if this repeats, another program uses the client id in MQTT_CLIENT_ID: give each receiver its own"


def hint_for_ended_connections(broker: Broker, packet_size: int) -> str:
    """Return what may be wrong with a message if the broker ends the connection each time without a reason.

    Args:
        broker: The broker.
        packet_size: Bytes of the largest packet that was sent to it.
    """
    return f"does it accept QoS 1 and packets of {packet_size} bytes? {_hint_for_topic(broker)}"


def hint_for_no_subscriber(broker: Broker) -> str:
    """Return what a user can do if the broker has no subscriber for a topic.

    Args:
        broker: The broker.
    """
    hint = "start its receiver once; the broker then queues messages for it"
    if broker.topics == Topics():
        return hint
    return f"{hint}; if it runs, check that it has the same MQTT_TOPIC_PREFIX and MQTT_TOPIC_FORMAT"


def _hint_for_topic(broker: Broker) -> str:
    """Return which settings help if the broker has rules for topics."""
    prefix = _hint_for_prefix(broker)
    if broker.topics.form is TopicFormat.SLASHES:
        return f"{prefix}; it is the same at every device"
    return (
        f"if it refuses dots, as NATS does, set MQTT_TOPIC_FORMAT=slashes; {prefix}; both are the same at every device"
    )


def _hint_for_prefix(broker: Broker) -> str:
    if broker.topics.prefix:
        return "check MQTT_TOPIC_PREFIX"
    return "if topics must begin with something, set MQTT_TOPIC_PREFIX"


def _hint_for_topic_rights(broker: Broker, packet_type: int) -> str:
    what = "subscribe to the topic of its name" if packet_type == PacketTypes.SUBACK else "publish to the topic"
    login = "" if broker.username or broker.shows_certificate else f"{_hint_for_login(broker)}, and "
    return f"{login}allow this device at the broker to {what}; {_hint_for_prefix(broker)}"


def _hint_for_version(broker: Broker) -> str:
    if broker.is_for_group:
        return (
            "RECEIVER_GROUP=on needs a broker that speaks MQTT 5: use another one, or set RECEIVER_GROUP=off and"
            " MQTT_VERSION=3.1.1"
        )
    other = MqttVersion.V311 if broker.version is MqttVersion.V5 else MqttVersion.V5
    return f"set MQTT_VERSION={other}"


def _hint_for_client_id(broker: Broker) -> str:
    if broker.client_id is None:
        return "set MQTT_CLIENT_ID to the client id that the broker has for this login, or let it accept any"
    return (
        "let the broker accept the client id in MQTT_CLIENT_ID for the receiver, and for every other connection the ids"
        " that begin with it and a hyphen"
    )


def _hint_for_takeover(broker: Broker) -> str:
    if broker.client_id is None:
        return (
            "another client uses the same client id: is a copy of DATA_PATH in use elsewhere, or does the broker use"
            " the user name as the client id?"
        )
    return (
        "another client uses the client id in MQTT_CLIENT_ID: give each receiver its own; if no program of yours uses"
        " it, someone else knows it: change it, and the login"
    )


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
        return login if broker.password is None else f"{login}{allowed}; {_hint_for_bound_id(broker)}"
    if broker.username is None:
        return f"check {certificate}{allowed}; {_hint_for_bound_id(broker)}"
    if broker.password is None:
        return f"set MQTT_PASSWORD_FILE, or check MQTT_USERNAME and {certificate}{allowed}"
    login = f"check MQTT_USERNAME, the first line of MQTT_PASSWORD_FILE and {certificate}"
    return f"{login}{allowed}; {_hint_for_bound_id(broker)}"


def _hint_for_bound_id(broker: Broker) -> str:
    """Return what a user can do if the broker binds the client id to the login."""
    if broker.client_id is None:
        return "if the broker binds client ids to logins, set MQTT_CLIENT_ID"
    return _hint_for_client_id(broker)


def _hint_for_certificate(broker: Broker, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _UNKNOWN_ISSUER:
        if broker.has_own_authorities:
            return "the broker's certificate was not issued by a CA in MQTT_CA_FILE"
        return "the broker's certificate was not issued by a CA of this system; set MQTT_CA_FILE to its CA's file"
    if error.verify_code in _OTHER_NAME:
        return f"the broker's certificate is not for {broker.host}; set {broker.setting_names.host} to a name in it"
    if error.verify_code == _NOT_YET_VALID:
        return "the broker's certificate is not valid yet, or the clock of this device is behind"
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired, or the clock of this device is ahead"
    return "the broker or its CA needs a new certificate"


def _hint_for_tls(broker: Broker, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _hint_for_certificate(broker, error)
    if _reason_of(error) in _NO_TLS:
        names = broker.setting_names
        return f"check that the port uses TLS: {names.give_tls_port}, or {names.use_no_tls}"
    # OpenSSL gives no better reason if the connection ended during the handshake.
    return hint_for_alert(broker, error) or hint_for_silence(broker)


def _reason_of(error: Exception | None) -> str:
    return str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
