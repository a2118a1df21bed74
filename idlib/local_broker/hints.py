"""What a user can do if the local broker fails: a hint for each reason, which names the settings of that broker."""

import socket
import ssl
from typing import Final

from idlib.transport import Broker
from idlib.transport.dialing import TlsTimeoutError

_CHECK_LOGIN: Final = "check the user name in LOCAL_MQTT_URL and the first line of LOCAL_MQTT_PASSWORD_FILE"
_NO_LOGIN: Final = "write a user name into LOCAL_MQTT_URL, and set LOCAL_MQTT_PASSWORD_FILE"
_NO_TLS: Final = "check that its port uses TLS; without TLS, LOCAL_MQTT_URL starts with mqtt:// or ws://"
_PERHAPS_TLS: Final = "check the port in LOCAL_MQTT_URL; if it expects TLS, the URL starts with mqtts:// or wss://"
# Reason codes of MQTT 5, section 2.4.
_HINTS: Final = {
    132: "it must speak MQTT 5 or 3.1.1",
    133: "configure it to accept unknown client ids",
    142: "is a copy of DATA_PATH in use elsewhere, or does the broker use the user name as the client id?",
    149: "raise its packet size limit",
    151: "wait until it has delivered its queued messages, or raise its quota",
    155: "configure it to accept QoS 1",
}


def hint_for_error(broker: Broker, error: BaseException | None) -> str:
    """Return what a user can do about an exception raised while connecting.

    Args:
        broker: The local broker.
        error: The error of the socket, TLS or name resolution; None if it is not known.
    """
    match error:
        case ssl.SSLCertVerificationError():
            if broker.has_own_authorities:
                return "check that its CA is in LOCAL_MQTT_CA_FILE, and the host in LOCAL_MQTT_URL in its certificate"
            return "set LOCAL_MQTT_CA_FILE to the file of its CA; the host in LOCAL_MQTT_URL must be in its certificate"
        case ssl.SSLError():
            return _NO_TLS
        # Mosquitto resets the connection at a port without TLS.
        case ConnectionResetError():
            return _PERHAPS_TLS if broker.tls is None else _NO_TLS
        case TlsTimeoutError():
            return _NO_TLS
        case socket.gaierror():
            return "check the host in LOCAL_MQTT_URL"
        case ConnectionRefusedError():
            return "check that it is running, and the port in LOCAL_MQTT_URL"
    return "check LOCAL_MQTT_URL and the network"


def hint_for_end(broker: Broker, code: int | None, *, is_answered: bool) -> str:
    """Return what a user can do about the end of a connection, or "" if there is no hint.

    Args:
        broker: The local broker.
        code: Its reason code; None if it gave none.
        is_answered: Whether it had accepted or refused the connection.
    """
    if code is not None:
        return hint_for_reason(broker, code)
    if is_answered:
        return ""
    return _PERHAPS_TLS


def hint_for_reason(broker: Broker, code: int) -> str:
    """Return what a user can do about a reason code, or "" if there is no hint.

    Args:
        broker: The local broker.
        code: A reason code of MQTT 5, section 2.4.
    """
    if code == 134:
        return _CHECK_LOGIN if broker.password is not None else _NO_LOGIN
    if code == 135:
        return f"{_CHECK_LOGIN}, and its permissions there" if broker.password is not None else _NO_LOGIN
    return _HINTS.get(code, "")
