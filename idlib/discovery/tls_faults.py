"""Explains why TLS with a resolver fails: the fact and the hint for each error of OpenSSL that users meet."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from idlib.discovery.channel import ChannelError

# OpenSSL's numbers (X509_verify_cert_error_string(3)).
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})
# OpenSSL's reasons if what the server sends is not TLS, and if there is no version that both know.
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_OLD_TLS: Final = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW"})
_IN_ITS_PLACE: Final = "something on the path answers in its place"
_CLOCK: Final = "check the clock of this device, with which no server can be verified until it is right"


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a server must prove to be.

    Args:
        certified: What its certificate must be for: a host name or an IP address.
        port: Where it is asked.
        remedy: What the user can change if the certificate is for something else.
    """

    certified: str
    port: int
    remedy: str


def fault_of_tls(error: ssl.SSLError, peer: Peer) -> ChannelError:
    """Return the explanation of a failed handshake.

    Args:
        error: What OpenSSL reports.
        peer: Whom the server must prove to be.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _fault_of_certificate(error, peer)
    if error.reason in _NOT_TLS:
        return ChannelError("does not use TLS at this port", "check the port in DNS_RESOLVER")
    if error.reason in _OLD_TLS:
        return ChannelError("does not offer TLS 1.2 or newer", "set DNS_RESOLVER to a resolver that does")
    if isinstance(error, ssl.SSLEOFError):
        return ChannelError("closed the connection during the TLS handshake", "check the port in DNS_RESOLVER")
    reason = (error.reason or "unknown error").lower().replace("_", " ")
    return ChannelError(
        f"fails the TLS handshake: {reason}",
        f"check the port in DNS_RESOLVER; the resolver is broken, or {_IN_ITS_PLACE}",
    )


def _fault_of_certificate(error: ssl.SSLCertVerificationError, peer: Peer) -> ChannelError:
    today = datetime.now(UTC).date().isoformat()
    match error.verify_code:
        case code if code in _OTHER_NAME:
            return ChannelError(
                f"shows a certificate that is not for {peer.certified}",
                f"{peer.remedy}; if it is right, {_IN_ITS_PLACE}",
            )
        case code if code == _NOT_YET_VALID:
            return ChannelError(f"shows a certificate that is not valid yet on {today}", _CLOCK)
        case code if code == _EXPIRED:
            return ChannelError(
                f"shows a certificate that has expired by {today}",
                f"{_CLOCK}; if it is right, the resolver's operator must renew the certificate",
            )
        case code if code in _UNKNOWN_AUTHORITY:
            return ChannelError(
                "shows a certificate that no trusted CA has issued",
                f"name a file with the resolver's CA in DNS_CA_FILE; if that CA is right, {_IN_ITS_PLACE}",
            )
    return ChannelError(
        f"shows a certificate that is not valid: {error.verify_message}",
        f"the resolver's operator must replace it, or {_IN_ITS_PLACE}",
    )
