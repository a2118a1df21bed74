"""The checked settings of a program."""

from dataclasses import dataclass
from pathlib import Path

from idlib.names import IdentityName, NamePatterns
from idlib.settings.addresses import HostAddress, ServerAddress
from idlib.settings.choices import (
    DnssecPolicy,
    KeyType,
    LogFormat,
    LogLevel,
    MqttVersion,
    OutputFormat,
    PublishMethod,
    Switch,
    TopicFormat,
)
from idlib.settings.mqtt_urls import MqttUrl
from idlib.settings.proxy_urls import ProxyUrl
from idlib.settings.resolvers import ResolverAddress
from idlib.settings.store_urls import StoreUrl


# Nothing shows all settings, and for so many fields the method would take half a millisecond of each start.
@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """The checked environment variables: a field for each, named after the variable in lower case.

    A variable that the program does not read is not checked, and its field has the default. If MQTT_URL is set, the
    fields of MQTT_HOST, MQTT_PORT and MQTT_TLS have what it says, and that of MQTT_USERNAME if it contains a user name.
    """

    identity_name: IdentityName
    crypto_path: Path
    data_path: Path
    store: StoreUrl | None
    store_password_file: Path | None
    receiver_group: Switch
    subscription: str | None
    app_uid: int
    mqtt_url: MqttUrl | None
    mqtt_host: str
    mqtt_port: int
    mqtt_version: MqttVersion
    mqtt_session_expiry: int
    mqtt_client_id: str | None
    mqtt_topic_prefix: str | None
    mqtt_topic_format: TopicFormat
    mqtt_tls: Switch
    mqtt_alpn: tuple[str, ...] | None
    mqtt_proxy: ProxyUrl | None
    mqtt_proxy_password_file: Path | None
    mqtt_ca_file: Path | None
    mqtt_cert_file: Path | None
    mqtt_key_file: Path | None
    mqtt_username: str | None
    mqtt_password_file: Path | None
    mqtt_plaintext_login: Switch
    max_message_size: int
    local_mqtt_url: MqttUrl | None
    local_mqtt_password_file: Path | None
    local_mqtt_ca_file: Path | None
    local_mqtt_plaintext_login: Switch
    local_mqtt_prefix: str
    local_mqtt_only: Switch
    home_assistant: Switch
    home_assistant_prefix: str
    dns_resolver: ResolverAddress | None
    dns_ca_file: Path | None
    dns_server_port: int
    dns_bogus_name: str
    dns_publish: PublishMethod | None
    dns_update_server: HostAddress | None
    dns_update_key_file: Path | None
    dns_publish_command: str | None
    desec_token_file: Path | None
    desec_url: str
    tlsa_selector: int
    tlsa_ttl: int
    rotate_every: int | None
    rotate_hook: str | None
    rotate_test_speed: int
    restore_record: Switch
    epoch_keys: Switch
    epoch_length: int
    epoch_retention: int
    epoch_path: Path | None
    epoch_spool: Path
    dnssec: DnssecPolicy
    dnssec_trust_anchors: Path | None
    pkix_ca_file: Path | None
    denied_senders: NamePatterns | None
    allowed_senders: NamePatterns | None
    require_binding: NamePatterns | None
    require_forward_secrecy: NamePatterns | None
    output_format: OutputFormat
    receiver_workers: int | None
    key_type: KeyType
    state: str
    country: str
    locality: str
    organization: str
    log_level: LogLevel
    log_format: LogFormat
    metrics_address: ServerAddress | None
    balena_service_name: str | None

    @property
    def epoch_directory(self) -> Path:
        """The directory for the private halves of epoch keys: EPOCH_PATH, or `epochs` in DATA_PATH."""
        return self.data_path / "epochs" if self.epoch_path is None else self.epoch_path

    @property
    def certificate_subject(self) -> dict[str, str]:
        """The parts of a certificate's subject, under the names of `Bootstrap`'s keyword arguments."""
        return {
            "state": self.state,
            "country": self.country,
            "locality": self.locality,
            "organization": self.organization,
        }
