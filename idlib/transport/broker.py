"""Where the broker is, and how it is spoken to."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from idlib.errors import ConfigurationError
from idlib.settings import MqttVersion, Settings, Switch
from idlib.transport.library import check_library


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and how it is spoken to.

    Args:
        host: A host name or an IP address.
        port: 1 to 65535.
        version: The version of MQTT.
        tls: How TLS is spoken with it; None for not at all.
        username: Ours there; None where it asks for none.
        password: Ours there, likewise.
    """

    host: str
    port: int
    version: MqttVersion
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the broker that the settings name.

        Raises:
            ConfigurationError: A file that they name cannot be used, or the MQTT library that is installed.
        """
        check_library()
        return cls(
            settings.mqtt_host,
            settings.mqtt_port,
            settings.mqtt_version,
            _tls_context(settings) if settings.mqtt_tls is Switch.ON else None,
            settings.mqtt_username,
            _password(settings.mqtt_password_file),
        )

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _tls_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.mqtt_ca_file)
    except OSError as error:
        raise ConfigurationError(f"Bad value of env var MQTT_CA_FILE: {settings.mqtt_ca_file}: {error}") from error
    if settings.mqtt_cert_file is not None:
        try:
            # Without a callback OpenSSL would ask at the terminal for a password.
            context.load_cert_chain(settings.mqtt_cert_file, settings.mqtt_key_file, lambda: "")
        except OSError as error:
            raise ConfigurationError(
                f"Bad value of env var MQTT_CERT_FILE or MQTT_KEY_FILE: {settings.mqtt_cert_file}: {error}"
            ) from error
    return context


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Bad value of env var MQTT_PASSWORD_FILE: {path} cannot be read") from error
