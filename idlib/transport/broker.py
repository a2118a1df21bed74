"""The broker's address, and the settings for connecting to it."""

import ipaddress
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from idlib.errors import ConfigurationError
from idlib.pem import Kind, describe, read_certificates
from idlib.settings import MAX_LOGIN_BYTES, VARIABLES, MqttUrl, MqttVersion, ProxyUrl, Settings, Switch
from idlib.settings.named_files import fault_of_file, read_named_file, read_password
from idlib.settings.store_settings import is_in_group, store_problems
from idlib.system import tls
from idlib.transport.library import check_library
from idlib.transport.topics import Topics

_LOG: Final = logging.getLogger(__name__)

# OpenSSL's reasons if a key belongs to another certificate.
_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


@dataclass(frozen=True, slots=True)
class SettingNames:
    """The settings that say where the broker is, and how to change them, for hints.

    Args:
        place: All of them.
        host: The one with the host.
        port: The one with the port.
        give_port: How to give the port.
        give_tls_port: How to give a port with TLS.
        use_tls: How to turn TLS on.
        use_no_tls: How to turn it off.
    """

    place: str
    host: str
    port: str
    give_port: str
    give_tls_port: str
    use_tls: str
    use_no_tls: str


_NAMES: Final = SettingNames(
    "MQTT_HOST and MQTT_PORT",
    "MQTT_HOST",
    "MQTT_PORT",
    "set it in MQTT_PORT",
    "set MQTT_PORT (8883 is usual for TLS)",
    "set MQTT_TLS=on",
    "MQTT_TLS=off",
)
_NAMES_OF_URL: Final = SettingNames(
    "MQTT_URL",
    "MQTT_URL",
    "MQTT_URL",
    "put the address into brackets",
    "give another one in MQTT_URL",
    "use mqtts:// or wss:// in MQTT_URL",
    "use mqtt:// or ws:// there",
)


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker's address, and the settings for connecting to it.

    Args:
        host: A host name or an IP address.
        port: 1 to 65535.
        version: The version of MQTT.
        tls: The TLS context; None for no TLS.
        username: Our user name; None if there is none.
        password: Our password; None if there is none.
        shows_certificate: Whether we send a client certificate.
        has_own_authorities: Whether its certificate must come from the CAs in MQTT_CA_FILE.
        session_expiry: How many seconds we ask it to keep a session without a connection.
        client_id: The receiver's client id; None if it is random. Other connections put it before a random one.
        topics: How topics are formed.
        url: Where it is, if MQTT_URL says it; None if MQTT_HOST, MQTT_PORT and MQTT_TLS do.
        alpn: The protocols that we offer with ALPN; none without it.
        proxy: The proxy through which we connect; None if we connect directly.
        proxy_password: Our password there; None if there is none.
        is_for_group: Whether we are a receiver of a group, which needs MQTT 5.
    """

    host: str
    port: int
    version: MqttVersion
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    shows_certificate: bool = False
    has_own_authorities: bool = False
    session_expiry: int = 0
    client_id: str | None = field(default=None, repr=False)
    topics: Topics = field(default_factory=Topics)
    url: MqttUrl | None = None
    alpn: tuple[str, ...] = ()
    proxy: ProxyUrl | None = None
    proxy_password: str | None = field(default=None, repr=False)
    is_for_group: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the broker that the settings name.

        Raises:
            ConfigurationError: A setting lacks another one that it needs, a file that they name cannot be used, or the
                MQTT library that is installed cannot.
        """
        check_library()
        _check_together(settings)
        return cls(
            settings.mqtt_host,
            settings.mqtt_port,
            settings.mqtt_version,
            _tls_context(settings) if settings.mqtt_tls is Switch.ON else None,
            settings.mqtt_username,
            read_password("MQTT_PASSWORD_FILE", settings.mqtt_password_file),
            shows_certificate=settings.mqtt_cert_file is not None,
            has_own_authorities=settings.mqtt_ca_file is not None,
            session_expiry=settings.mqtt_session_expiry,
            client_id=settings.mqtt_client_id,
            topics=Topics.from_settings(settings),
            url=settings.mqtt_url,
            alpn=settings.mqtt_alpn or (),
            proxy=settings.mqtt_proxy,
            proxy_password=_proxy_password(settings.mqtt_proxy_password_file),
            is_for_group=is_in_group(settings),
        )

    @property
    def setting_names(self) -> SettingNames:
        """The settings that say where it is."""
        return _NAMES if self.url is None else _NAMES_OF_URL

    def __str__(self) -> str:
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.url is None or not self.url.scheme.is_websocket:
            return address
        return f"{self.url.scheme}://{address}{self.url.path}"


def _check_together(settings: Settings) -> None:
    """Reject settings that would be ignored, and so weaken protection, because another one is missing."""
    problems = [
        *_tls_problems(settings),
        *_login_problems(settings),
        *_proxy_problems(settings),
        *store_problems(settings, Topics.from_settings(settings).of(settings.identity_name)),
    ]
    if problems:
        raise ConfigurationError(*problems)
    _warn_of_what_is_ignored(settings)
    _warn_of_login_at_default_broker(settings)


def _tls_problems(settings: Settings) -> Iterator[str]:
    needing_tls = {
        "MQTT_CA_FILE": settings.mqtt_ca_file,
        "MQTT_CERT_FILE": settings.mqtt_cert_file,
        "MQTT_KEY_FILE": settings.mqtt_key_file,
        "MQTT_ALPN": settings.mqtt_alpn,
    }
    if settings.mqtt_tls is Switch.OFF:
        off, on = "MQTT_TLS is off", "set MQTT_TLS=on"
        if settings.mqtt_url is not None:
            off, on = f"MQTT_URL has {settings.mqtt_url.scheme}://", _NAMES_OF_URL.use_tls
        for name, value in needing_tls.items():
            if value is not None:
                yield f"{name} is set, and {off}: {on}, or unset {name}"
    if settings.mqtt_key_file is not None and settings.mqtt_cert_file is None:
        yield "MQTT_KEY_FILE is set, and MQTT_CERT_FILE is not: set both or neither"


def _login_problems(settings: Settings) -> Iterator[str]:
    if settings.mqtt_password_file is not None and settings.mqtt_username is None:
        yield "MQTT_PASSWORD_FILE is set, and MQTT_USERNAME is not: set both or neither"
    if settings.mqtt_username is not None and not _login_is_protected(settings):
        what, remedy = "MQTT_USERNAME is set, and MQTT_TLS is off", "set MQTT_TLS=on"
        if settings.mqtt_url is not None:
            what, remedy = (
                f"there is a user name, and MQTT_URL has {settings.mqtt_url.scheme}://",
                _NAMES_OF_URL.use_tls,
            )
        yield (
            f"{what}: anyone on the path to the broker could read the password; {remedy}, or MQTT_PLAINTEXT_LOGIN=on"
            " to allow that"
        )
    if settings.mqtt_client_id is not None and settings.mqtt_username is None and settings.mqtt_cert_file is None:
        yield (
            "MQTT_CLIENT_ID is set, and neither MQTT_USERNAME nor MQTT_CERT_FILE is: anyone who guesses it could take"
            " over the session, and the messages in it; set a login, or unset MQTT_CLIENT_ID"
        )


def _proxy_problems(settings: Settings) -> Iterator[str]:
    proxy, has_password = settings.mqtt_proxy, settings.mqtt_proxy_password_file is not None
    if proxy is None and has_password:
        yield "MQTT_PROXY_PASSWORD_FILE is set, and MQTT_PROXY is not: set both or neither"
    elif proxy is not None and has_password != (proxy.user is not None):
        yield (
            "MQTT_PROXY has a user name, and MQTT_PROXY_PASSWORD_FILE is not set, or the reverse: give both or neither"
        )


def _warn_of_what_is_ignored(settings: Settings) -> None:
    """Warn about settings that are ignored without harm."""
    if settings.mqtt_version is MqttVersion.V311 and str(settings.mqtt_session_expiry) != _default(
        "MQTT_SESSION_EXPIRY"
    ):
        _LOG.warning("MQTT_SESSION_EXPIRY is ignored: with MQTT 3.1.1 the broker decides how long it keeps a session")
    if settings.mqtt_plaintext_login is Switch.ON:
        if settings.mqtt_username is None:
            _LOG.warning(
                "MQTT_PLAINTEXT_LOGIN=on is ignored: there is no login, because MQTT_USERNAME is not set; unset it"
            )
        elif settings.mqtt_tls is Switch.ON:
            _LOG.warning("MQTT_PLAINTEXT_LOGIN=on is ignored: MQTT_TLS=on protects the login; unset it")
        elif settings.mqtt_proxy is None and is_on_this_machine(settings.mqtt_host):
            _LOG.warning(
                "MQTT_PLAINTEXT_LOGIN=on is ignored: a login at a broker on this machine is always allowed; unset it"
            )


def _warn_of_login_at_default_broker(settings: Settings) -> None:
    if settings.mqtt_username is not None and settings.mqtt_host == _default("MQTT_HOST"):
        _LOG.warning(
            "The public broker %s receives MQTT_USERNAME and the password: set %s to your own broker",
            settings.mqtt_host,
            (_NAMES if settings.mqtt_url is None else _NAMES_OF_URL).host,
        )


def _default(name: str) -> str | None:
    return next(variable.default for variable in VARIABLES if variable.name == name)


def _login_is_protected(settings: Settings) -> bool:
    is_allowed = settings.mqtt_tls is Switch.ON or settings.mqtt_plaintext_login is Switch.ON
    # A proxy may be elsewhere, and looks up names such as localhost there.
    return is_allowed or (settings.mqtt_proxy is None and is_on_this_machine(settings.mqtt_host))


def is_on_this_machine(host: str) -> bool:
    """Return whether a host is certainly this machine, so that no one can listen on the path to it.

    Args:
        host: A host name or an IP address.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Python 3.11 does not check the IPv4 address in it by itself, as 3.13 does.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _tls_context(settings: Settings) -> ssl.SSLContext:
    context = verifying_context("MQTT_CA_FILE", settings.mqtt_ca_file)
    if settings.mqtt_alpn is not None:
        context.set_alpn_protocols(list(settings.mqtt_alpn))
    if settings.mqtt_cert_file is not None:
        _load_own_certificate(context, settings.mqtt_cert_file, settings.mqtt_key_file)
    return context


def verifying_context(name: str, authorities: Path | None) -> ssl.SSLContext:
    """Return a TLS context that verifies the certificate of a broker.

    Args:
        name: The setting that names the file.
        authorities: PEM file of the CAs that may issue the certificate; None for the system's.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    contents = b"" if authorities is None else read_named_file(name, authorities)
    try:
        return tls.verifying_context(authorities)
    except OSError as error:
        if authorities is None:
            raise
        raise fault_of_file(name, authorities, _fault_of_certificates(contents)) from error


def _load_own_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    contents = read_named_file("MQTT_CERT_FILE", certificate)
    key_contents = contents if key is None else read_named_file("MQTT_KEY_FILE", key)
    try:
        # Without a callback OpenSSL would ask at the terminal for a password.
        context.load_cert_chain(certificate, key, lambda: "")
    except OSError as error:
        raise _own_certificate_error(certificate, key, contents, key_contents, error) from error


def _own_certificate_error(
    certificate: Path, key: Path | None, contents: bytes, key_contents: bytes, error: OSError
) -> ConfigurationError:
    if not read_certificates(contents).readable:
        return fault_of_file("MQTT_CERT_FILE", certificate, _fault_of_certificates(contents))
    if getattr(error, "reason", None) in _MISMATCHES:
        name, path = ("MQTT_CERT_FILE", certificate) if key is None else ("MQTT_KEY_FILE", key)
        return fault_of_file(name, path, "holds the private key of another certificate")
    if b"ENCRYPTED" in key_contents:
        name, path = ("MQTT_CERT_FILE", certificate) if key is None else ("MQTT_KEY_FILE", key)
        return fault_of_file(
            name, path, "holds a private key that is protected by a password; store the key without one"
        )
    if key is None:
        return fault_of_file(
            "MQTT_CERT_FILE", certificate, "holds no private key; name the file of the key in MQTT_KEY_FILE"
        )
    finding = describe(key_contents, Kind.PRIVATE_KEY)
    return fault_of_file(
        "MQTT_KEY_FILE", key, f"holds no private key that can be read: {finding.what}; {finding.remedy}"
    )


def _fault_of_certificates(contents: bytes) -> str:
    broken = read_certificates(contents).broken
    if broken:
        return f"holds a certificate that cannot be read: {broken[0]}; copy the whole of it once more"
    finding = describe(contents, Kind.CERTIFICATE)
    return f"holds no certificate in PEM form: {finding.what}; {finding.remedy}"


def _proxy_password(path: Path | None) -> str | None:
    name = "MQTT_PROXY_PASSWORD_FILE"
    password = read_password(name, path)
    if path is not None and password is not None and len(password.encode()) > MAX_LOGIN_BYTES:
        raise fault_of_file(name, path, f"holds a password of more than {MAX_LOGIN_BYTES} bytes")
    return password
