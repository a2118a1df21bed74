"""Where the local broker is, how to log in there, and what its topics start with."""

import logging
from dataclasses import dataclass
from typing import Final, Self

from idlib.errors import ConfigurationError
from idlib.local_broker.separation import check_names
from idlib.names import IdentityName
from idlib.settings import MqttUrl, MqttVersion, Settings, Switch
from idlib.settings.named_files import read_password
from idlib.transport import Broker
from idlib.transport.broker import is_on_this_machine, verifying_context

_LOG: Final = logging.getLogger(__name__)

# How long the local broker keeps our session, and what was published for us, while we are not connected.
SESSION_EXPIRY_SECONDS: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics at the local broker.

    Args:
        prefix: What they start with.
    """

    prefix: str

    @property
    def status(self) -> str:
        """Where `online` or `offline` is, retained."""
        return f"{self.prefix}/status"

    @property
    def errors(self) -> str:
        """Where it is published which messages are not sent."""
        return f"{self.prefix}/error"

    @property
    def state(self) -> str:
        """Where the state that Home Assistant shows is, retained."""
        return f"{self.prefix}/state"

    @property
    def every_in(self) -> str:
        """The filter for all received messages."""
        return f"{self.prefix}/in/+"

    @property
    def out(self) -> str:
        """What the topics of messages to be sent start with; the recipient's name follows."""
        return f"{self.prefix}/out/"

    @property
    def every_out(self) -> str:
        """The filter for the messages to be sent."""
        return f"{self.out}+"

    def received_from(self, sender: IdentityName) -> str:
        """Return where messages from a sender are published.

        Args:
            sender: The sender, which is authenticated.
        """
        return f"{self.prefix}/in/{sender}"


@dataclass(frozen=True, slots=True)
class LocalBroker:
    """The local broker, as the settings name it.

    Args:
        broker: Its address, and how to connect.
        topics: Its topics.
    """

    broker: Broker
    topics: Topics

    @classmethod
    def from_settings(cls, settings: Settings, public: Broker) -> Self:
        """Return the local broker that the settings name.

        Args:
            settings: From the environment; LOCAL_MQTT_URL is set.
            public: The broker through which devices reach each other.

        Raises:
            ConfigurationError: The local broker is the public one, a login is not protected, or a file that the
                settings name cannot be used.
        """
        url = settings.local_mqtt_url
        if url is None:
            raise ValueError("there is no local broker")
        _check_login(settings, url)
        broker = Broker(
            url.host,
            url.port,
            MqttVersion.V5,
            verifying_context("LOCAL_MQTT_CA_FILE", settings.local_mqtt_ca_file) if url.scheme.is_encrypted else None,
            url.user,
            read_password("LOCAL_MQTT_PASSWORD_FILE", settings.local_mqtt_password_file),
            has_own_authorities=settings.local_mqtt_ca_file is not None,
            session_expiry=SESSION_EXPIRY_SECONDS,
            url=url,
        )
        check_names(broker, public)
        _check_prefixes(settings)
        return cls(broker, Topics(settings.local_mqtt_prefix))


def _check_prefixes(settings: Settings) -> None:
    """Check that nothing of Home Assistant is below the device's topics, or the other way around."""
    ours, theirs = f"{settings.local_mqtt_prefix}/", f"{settings.home_assistant_prefix}/"
    if settings.home_assistant is Switch.ON and (ours.startswith(theirs) or theirs.startswith(ours)):
        raise ConfigurationError(
            f"HOME_ASSISTANT_PREFIX {settings.home_assistant_prefix} and LOCAL_MQTT_PREFIX {settings.local_mqtt_prefix}"
            " overlap: this device and Home Assistant would take each other's messages for their own; change one"
        )


def _check_login(settings: Settings, url: MqttUrl) -> None:
    problems = []
    if settings.local_mqtt_ca_file is not None and not url.scheme.is_encrypted:
        problems.append(
            "LOCAL_MQTT_CA_FILE is set, and LOCAL_MQTT_URL is without TLS: use mqtts:// or wss://, or unset"
            " LOCAL_MQTT_CA_FILE"
        )
    if settings.local_mqtt_password_file is not None and url.user is None:
        problems.append(
            "LOCAL_MQTT_PASSWORD_FILE is set, and LOCAL_MQTT_URL has no user name: write it as mqtts://USER@HOST, or"
            " unset LOCAL_MQTT_PASSWORD_FILE"
        )
    allows = settings.local_mqtt_plaintext_login is Switch.ON
    is_needless = url.user is None or url.scheme.is_encrypted or is_on_this_machine(url.host)
    if not allows and not is_needless:
        problems.append(
            "LOCAL_MQTT_URL has a user name and is without TLS: anyone on the path to the broker could read the"
            " password; use mqtts:// or wss://, or set LOCAL_MQTT_PLAINTEXT_LOGIN=on to allow that"
        )
    if problems:
        raise ConfigurationError(*problems)
    if allows and is_needless:
        _LOG.warning("LOCAL_MQTT_PLAINTEXT_LOGIN=on is ignored: no login needs it; unset it")
