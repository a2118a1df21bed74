"""The settings of the programs: every environment variable, and its checked value.

`variables` declares the variables, `programs` lists those that each program reads, and `load` returns `Settings`.
"""

from idlib.settings.addresses import DNS_PORT, HostAddress, ServerAddress, suspected_port
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
from idlib.settings.environment import load
from idlib.settings.mqtt_urls import MqttScheme, MqttUrl, read_mqtt_url
from idlib.settings.programs import (
    CHECK_READS,
    CREDENTIALS,
    DISCOVERY_READS,
    EPOCH_PUBLISHING_READS,
    MAINTENANCE_READS,
    METRICS_READS,
    PUBLISHING_READS,
    RECEIVER_READS,
    RESIDENT_SENDER_READS,
    ROTATION_READS,
    SENDER_READS,
    WORKER_READS,
)
from idlib.settings.proxy_urls import MAX_LOGIN_BYTES, ProxyScheme, ProxyUrl, read_proxy_url
from idlib.settings.resolvers import (
    HTTPS_PORT,
    TLS_PORT,
    EncryptedResolver,
    HttpsResolver,
    ResolverAddress,
    TlsResolver,
)
from idlib.settings.texts import read_topic_prefix
from idlib.settings.values import Settings
from idlib.settings.variable import SecretValueError, UnfitValueError, Variable
from idlib.settings.variables import MAX_RECEIVER_WORKERS, MAX_TLSA_TTL, VARIABLES

__all__ = [
    "CHECK_READS",
    "CREDENTIALS",
    "DISCOVERY_READS",
    "DNS_PORT",
    "EPOCH_PUBLISHING_READS",
    "HTTPS_PORT",
    "MAINTENANCE_READS",
    "MAX_LOGIN_BYTES",
    "MAX_RECEIVER_WORKERS",
    "MAX_TLSA_TTL",
    "METRICS_READS",
    "PUBLISHING_READS",
    "RECEIVER_READS",
    "RESIDENT_SENDER_READS",
    "ROTATION_READS",
    "SENDER_READS",
    "TLS_PORT",
    "VARIABLES",
    "WORKER_READS",
    "DnssecPolicy",
    "EncryptedResolver",
    "HostAddress",
    "HttpsResolver",
    "KeyType",
    "LogFormat",
    "LogLevel",
    "MqttScheme",
    "MqttUrl",
    "MqttVersion",
    "OutputFormat",
    "ProxyScheme",
    "ProxyUrl",
    "PublishMethod",
    "ResolverAddress",
    "SecretValueError",
    "ServerAddress",
    "Settings",
    "Switch",
    "TlsResolver",
    "TopicFormat",
    "UnfitValueError",
    "Variable",
    "load",
    "read_mqtt_url",
    "read_proxy_url",
    "read_topic_prefix",
    "suspected_port",
]
